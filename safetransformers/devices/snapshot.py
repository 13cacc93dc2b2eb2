"""Integer arguments of a call on the host: read there, or copied from the device before the forward is launched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor

_MARK: Final = -0x5AFE_7F0C  # what no id or label is, not even one that was not a number before; fits both types
TYPES: Final = (torch.int64, torch.int32)
"""The integers that tables can be indexed with (``aten/src/ATen/native/Embedding.cpp``, torch 2.13)."""


@dataclass(frozen=True, eq=False)
class _Buffer:
    """Arguments of one device and type, one after the other in memory of the host."""

    device: torch.device
    data: Tensor
    shapes: dict[str, tuple[int, ...]]

    def has_arrived(self) -> bool:
        return int(self.data[0]) != _MARK and int(self.data[-1]) != _MARK

    def values(self) -> dict[str, Tensor]:
        parts = torch.split(self.data, [prod(shape) for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a call's integer arguments held when it began.

    It needs no device to be read: pinned memory outlives the CUDA context's death. Copies and kernels of one stream run
    in order, so what a kernel died of had arrived before it, and what was to come later never does.
    """

    buffers: tuple[_Buffer, ...]

    @property
    def devices(self) -> frozenset[torch.device]:
        """Where the tensors were."""
        return frozenset(buffer.device for buffer in self.buffers)

    def values(self) -> dict[str, Tensor] | None:
        """The tensors by argument, on the host; None where a copy did not arrive (or has not yet)."""
        if not all(buffer.has_arrived() for buffer in self.buffers):
            return None
        return {name: value for buffer in self.buffers for name, value in buffer.values().items()}


def take(tensors: Mapping[str, Tensor], *, waits: bool = False) -> Snapshot:
    """Copy these tensors to the host, as a rule without waiting for it.

    Args:
        tensors: of ``TYPES``, not empty, by argument.
        waits: whether the values are needed at once.

    Cost: one asynchronous copy for each device and type of integer, as a rule one in all, and where it holds several
    arguments one small kernel that puts them together. No sync, unless it ``waits``. Pinned memory comes from torch's
    cache of it.
    """
    groups: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        groups.setdefault((tensor.device, tensor.dtype), {})[name] = tensor.detach()
    return Snapshot(tuple(_copied(group, waits) for group in groups.values()))


def _copied(group: Mapping[str, Tensor], waits: bool) -> _Buffer:
    flat = [tensor.reshape(-1) for tensor in group.values()]
    whole = torch.cat(flat) if len(flat) > 1 else flat[0]
    data = torch.empty(whole.shape, dtype=whole.dtype, device="cpu", pin_memory=whole.is_cuda)
    for end in (data[0], data[-1]):
        end.fill_(_MARK)
    data.copy_(whole, non_blocking=not waits)
    return _Buffer(whole.device, data, {name: tuple(tensor.shape) for name, tensor in group.items()})
