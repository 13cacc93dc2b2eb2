"""Weights on their way from a save into shards: which go where, ties, counters, and what is counted meanwhile."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MismatchedSaveError
from ..match.matching import Placed
from ..match.target import Slot
from ..read.tensors import ITEM_BYTES, Tensor
from . import shard_file
from .files import Progress
from .pieces import Memory, as_bytes, count_not_finite, pieces, values
from .shard_file import Layout
from .verify import same_bits
from .workers import Workers

if TYPE_CHECKING:
    import torch


def kind(placed: Placed, dtype: str | None) -> str:
    """The type in which a weight is written."""
    if placed.slot.is_integer:
        return "int64"
    return dtype if dtype is not None and "float" in placed.tensor.dtype else placed.tensor.dtype


def plan(placed: Sequence[Placed], dtype: str | None, max_shard_bytes: int) -> list[list[Placed]]:
    """Which weights go into which shard, in the order of the model; one that is larger has a shard of its own."""
    shards: list[list[Placed]] = [[]]
    size = 0
    for one in placed:
        width = math.prod(one.slot.shape) * ITEM_BYTES[kind(one, dtype)]
        if shards[-1] and size + width > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(one)
        size += width
    return shards


class Tally:
    """What is counted while weights pass: bytes for the progress, types, and values that are no numbers."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._types: Counter[str] = Counter()
        self.parameters = self.size_bytes = 0
        self.not_a_number: list[str] = []

    def passed(self, one: Placed, not_finite: int = 0) -> None:
        """Count a weight that was written or compared, and how many of its values are no numbers."""
        if not_finite:
            self.not_a_number.append(f"{one.slot.key} ({not_finite} of {math.prod(one.slot.shape)})")
        self._done += one.tensor.size_bytes
        self._progress(self._done, self._total)

    def note(self, layout: Layout) -> None:
        """Count what a shard will hold."""
        for _, dtype, shape in layout:
            self.parameters += math.prod(shape)
            self.size_bytes += math.prod(shape) * ITEM_BYTES[dtype]
            if "float" in dtype:
                self._types[dtype] += math.prod(shape)

    def dtype(self) -> str:
        """The type of most of the numbers."""
        return self._types.most_common(1)[0][0] if self._types else "float32"


def write(
    file: Path,
    layout: Layout,
    part: Sequence[Placed],
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
    workers: Workers,
    tally: Tally,
) -> None:
    """Write one shard. What the layout has beside the weights, counters, stays at the zeros of a new file.

    Costs a read of each weight, and memory for one in each thread.
    """
    places = shard_file.create(file, layout, metadata)

    def written(one: Placed) -> int:
        return _write_one(file, places[one.slot.key], values(one, workers.memory), dtype, workers.memory)

    for one, not_finite in zip(part, workers.each(written, part), strict=True):
        tally.passed(one, not_finite)


def _write_one(file: Path, place: int, value: torch.Tensor, dtype: torch.dtype | None, memory: Memory) -> int:
    """Write one weight at its place; returns how many of its values are no numbers."""
    not_finite = 0
    with file.open("r+b") as opened:
        opened.seek(place)
        for piece in pieces(value, dtype, memory):
            opened.write(as_bytes(piece).data)
            not_finite += count_not_finite(piece)
    return not_finite


def write_aside(file: Path, tensors: Sequence[Tensor]) -> None:
    """Keep weights that the torch model has no place for, as the save has them and under its names."""
    layout = [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
    places = shard_file.create(file, layout, {"orientation": "as in TensorFlow"})
    with file.open("r+b") as opened:
        for tensor in tensors:
            opened.seek(places[tensor.name])
            opened.write(tensor.read().tobytes())


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
    kept = {one.slot.key: values(first)}
    for copy in others:
        value = values(copy)
        if any(same_bits(value, other) for other in kept.values()):
            continue
        if copy.slot.key in kept:
            raise MismatchedSaveError(
                "ST-TF-006",
                f"{copy.slot.key} is one weight in torch, and two that differ in the save",
                why=f"they are {first.tensor.name} and {copy.tensor.name}",
                do="say which class was saved: safetransformers convert SRC DST --architecture BertModel",
            )
        kept[copy.slot.key] = value
        result.append(copy)
    return result


def is_counter(slot: Slot) -> bool:
    """Whether a key is the batch counter of a norm, which TensorFlow does not keep and torch starts at zero."""
    return slot.key.endswith("num_batches_tracked")
