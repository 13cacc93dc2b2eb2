"""Compare what was written with what was read, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import ConversionError
from ..match.matching import Placed
from . import files

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


def compare(folder: Path, shards: Mapping[str, Sequence[Placed]], dtype: torch.dtype | None) -> int:
    """Read each tensor from the written shard and again from the save; returns how many were the same.

    Costs a read of both files, and memory for one tensor of each.

    Raises:
        ConversionError: naming the first that differs.
    """
    from safetensors import safe_open

    compared = 0
    for name, placed in shards.items():
        with safe_open(folder / name, framework="pt") as written:
            for one in placed:
                expected = files.values(one.tensor, one.turn, one.slot, dtype)
                if not same_bits(written.get_tensor(one.slot.key), expected):
                    raise ConversionError(
                        "ST-TF-009",
                        f"{one.slot.key} was not written as it was read",
                        why=f"{name} and the save differ in {one.tensor.name}: a bad disk, or a save that changed",
                        do="convert again; if it happens again, check the disk",
                    )
                compared += 1
    return compared
