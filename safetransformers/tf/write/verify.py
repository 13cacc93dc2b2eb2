"""Compare what was written with what was read, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ...errors import ConversionError
from ..match.matching import Placed
from . import shard_file
from .pieces import as_bytes, pieces, values
from .workers import Workers

if TYPE_CHECKING:
    import torch

_SAME_WIDTH: Final = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors are equal in type, shape and every bit: NaN equals NaN, and 0.0 is not -0.0."""
    import torch

    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    as_bits = getattr(torch, _SAME_WIDTH[first.element_size()])
    return torch.equal(first.view(as_bits), second.view(as_bits))


def compare(
    folder: Path,
    shards: Mapping[str, Sequence[Placed]],
    dtype: torch.dtype | None,
    workers: Workers,
    passed: Callable[[Placed], None],
) -> int:
    """Read each tensor from the written shard and again from the save; returns how many were the same.

    Costs a read of both files, and memory for one tensor of the save in each thread.

    Args:
        folder: that holds the shards.
        shards: their weights, by their names.
        dtype: in which they were written; ``None`` for their own.
        workers: threads to read in.
        passed: called with each weight that is the same.

    Raises:
        ConversionError: naming the first that differs.
    """
    compared = 0
    for name, placed in shards.items():
        header = shard_file.read_header(folder / name)

        def differs(one: Placed, file: Path = folder / name, header: shard_file.Header = header) -> bool:
            return not _is_same(one, file, header, dtype, workers)

        for one, is_other in zip(placed, workers.each(differs, placed), strict=True):
            if is_other:
                raise ConversionError(
                    "ST-TF-009",
                    f"{one.slot.key} was not written as it was read",
                    why=f"{name} and the save differ in {one.tensor.name}: a bad disk, or a save that changed",
                    do="convert again; if it happens again, check the disk",
                )
            passed(one)
            compared += 1
    return compared


def _is_same(one: Placed, file: Path, header: shard_file.Header, dtype: torch.dtype | None, workers: Workers) -> bool:
    value = values(one, workers.memory)
    kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
    written = header.get(one.slot.key)
    if written is None or written[:2] != (str(kind).removeprefix("torch."), tuple(value.shape)):
        return False
    with file.open("rb") as opened:
        opened.seek(written[2])
        for piece in pieces(value, dtype, workers.memory):
            expected = as_bytes(piece)
            again = workers.memory.take("read again", expected.size).numpy()
            if opened.readinto(again.data) != again.size:
                return False
            width = _SAME_WIDTH[piece.element_size()]
            if not np.array_equal(again.view(width), expected.view(width)):
                return False
    return True
