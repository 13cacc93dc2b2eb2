"""The values of a weight as torch wants them, in pieces whose memory is used again.

Fresh memory for each weight costs as much as the copy itself. What lies in the save as it is written is not copied.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..match.matching import Placed
from ..read.tensors import Array, Tensor

if TYPE_CHECKING:
    import torch

LARGEST_BYTES: Final = 32 * 2**20
"""Of one piece, unless one row of a weight has more."""


class Memory(threading.local):
    """Memory of each thread, by what it is for, which grows to the largest piece and is then used again."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def take(self, use: str, size_bytes: int) -> torch.Tensor:
        """So many bytes; what was taken before for the same use is lost."""
        import torch

        if use not in self._held or self._held[use].numel() < size_bytes:
            self._held[use] = torch.empty(size_bytes, dtype=torch.uint8, device="cpu")
        return self._held[use][:size_bytes]


def values(placed: Placed, memory: Memory | None = None) -> torch.Tensor:
    """What torch wants of one stored weight, in its stored type; it may have strides of its own.

    Costs one read.

    Args:
        placed: the weight.
        memory: to read into, where the weight is not large; the values are lost with the next weight.
    """
    import torch

    array: Array = placed.turn(_read(placed.tensor, memory))
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    made = torch.from_numpy(array if array.flags.writeable else array.copy())
    if placed.tensor.is_bfloat16:
        made = made.view(torch.bfloat16)
    return made.to(torch.int64) if placed.slot.is_integer else made


def _read(tensor: Tensor, memory: Memory | None) -> Array:
    if memory is None or tensor.read_into is None or not 0 < tensor.size_bytes <= LARGEST_BYTES:
        return tensor.read()
    held: Array = memory.take("read", tensor.size_bytes).numpy().view(tensor.dtype).reshape(tensor.shape)
    tensor.read_into(held)
    return held


def pieces(value: torch.Tensor, dtype: torch.dtype | None, memory: Memory) -> Iterator[torch.Tensor]:
    """The values in the order in which they are written, as flat tensors; each is lost when the next is asked for.

    Args:
        value: with any strides.
        dtype: to turn floating point numbers into; ``None`` leaves them.
        memory: for the pieces that have to be copied.
    """
    kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
    for part in _parts(value):
        if part.is_contiguous() and part.dtype == kind:
            yield part.reshape(-1)
        else:
            copied = memory.take("turned", part.numel() * kind.itemsize).view(kind).view(part.shape)
            yield copied.copy_(_whole(part)).reshape(-1)


def _whole(part: torch.Tensor) -> torch.Tensor:
    """Torch is fast at turning a whole matrix, and three times slower at columns of a larger one."""
    is_columns = part.dim() == 2 and part.stride(0) == 1 and not part.T.is_contiguous()
    return part.T.contiguous().T if is_columns else part


def _parts(value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    size = value.numel() * value.element_size()
    if not size:
        return ()
    if size <= LARGEST_BYTES or not value.dim():
        return (value,)
    rows = max(1, LARGEST_BYTES * value.shape[0] // size)
    return tuple(value[start : start + rows] for start in range(0, value.shape[0], rows))


def as_bytes(piece: torch.Tensor) -> Any:
    """The bytes of a flat tensor, without a copy."""
    import torch

    return piece.view(torch.uint8).numpy()


def count_not_finite(piece: torch.Tensor) -> int:
    """How many values are NaN or infinite.

    Costs one pass, and a second where there is one, or where the sum overflows.
    """
    import torch

    if not piece.is_floating_point():
        return 0
    if piece.dtype in {torch.float32, torch.float64}:  # torch's sum wants all cores, which other threads have
        with np.errstate(over="ignore", invalid="ignore"):
            is_finite = bool(np.isfinite(piece.numpy().sum()))
    else:
        is_finite = bool(piece.sum(dtype=torch.float32).isfinite())
    return 0 if is_finite else int((~piece.isfinite()).sum())
