"""Weights on their way from a save into shards: ties, counters, and what is counted while they pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import MismatchedSaveError
from ..match.matching import Placed
from ..match.target import Slot
from ..read.tensors import ITEM_BYTES
from . import files, verify
from .files import Progress

if TYPE_CHECKING:
    import torch


class Tally:
    """What is counted while weights are read: bytes for the progress, types, and values that are no numbers."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._types: Counter[str] = Counter()
        self.parameters = self.size_bytes = 0
        self.not_a_number: list[str] = []

    def read(self, part: Sequence[Placed], dtype: torch.dtype | None) -> Iterator[torch.Tensor]:
        """The values of a shard, one after another; one is in memory at a time."""
        import torch

        for one in part:
            value = files.values(one.tensor, one.turn, one.slot, dtype)
            if value.is_floating_point() and not torch.isfinite(value.sum()):
                self._note_numbers(one, value)
            yield value
            self._done += one.tensor.size_bytes
            self._progress(self._done, self._total)

    def _note_numbers(self, one: Placed, value: torch.Tensor) -> None:
        bad = int((~value.isfinite()).sum())
        if bad:
            self.not_a_number.append(f"{one.slot.key} ({bad} of {value.numel()})")

    def note(self, layout: files.Layout) -> None:
        """Count what a shard will hold."""
        for _, dtype, shape in layout:
            self.parameters += math.prod(shape)
            self.size_bytes += math.prod(shape) * ITEM_BYTES[dtype]
            if "float" in dtype:
                self._types[dtype] += math.prod(shape)

    def dtype(self) -> str:
        """The type of most of the numbers."""
        return self._types.most_common(1)[0][0] if self._types else "float32"


def untied(one: Placed) -> list[Placed]:
    """A weight once for each key that it has another value at: torch ties some that a TensorFlow save has apart.

    Costs a read of each copy; most weights have none.

    Raises:
        MismatchedSaveError: where two that differ want the same key.
    """
    if not one.copies:
        return [one]
    own = () if any(copy.tensor is one.tensor for copy in one.copies) else (one,)
    first, *others = sorted((*own, *one.copies), key=lambda copy: copy.slot != one.slot)
    result = [replace(first, slot=one.slot, copies=())]
    values = {one.slot.key: files.values(first.tensor, first.turn, first.slot, None)}
    for copy in others:
        value = files.values(copy.tensor, copy.turn, copy.slot, None)
        if any(verify.same_bits(value, other) for other in values.values()):
            continue
        if copy.slot.key in values:
            raise MismatchedSaveError(
                "ST-TF-006",
                f"{copy.slot.key} is one weight in torch, and two that differ in the save",
                why=f"they are {first.tensor.name} and {copy.tensor.name}",
                do="say which class was saved: safetransformers convert SRC DST --architecture BertModel",
            )
        values[copy.slot.key] = value
        result.append(copy)
    return result


def is_counter(slot: Slot) -> bool:
    """Whether a key is the batch counter of a norm, which TensorFlow does not keep and torch starts at zero."""
    return slot.key.endswith("num_batches_tracked")


def zero(slot: Slot) -> torch.Tensor:
    """The value of a counter that has counted nothing."""
    import torch

    return torch.zeros(slot.shape, dtype=torch.int64)
