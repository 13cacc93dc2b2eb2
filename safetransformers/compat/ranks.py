"""Where torch's ways to spread a model over ranks differ, and what tells them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_FSDP = (  # FSDP2's own place is new in torch 2.6
    ("torch.distributed.fsdp", "FSDPModule"),
    ("torch.distributed._composable.fsdp", "FSDPModule"),
    ("torch.distributed.fsdp", "FullyShardedDataParallel"),
)


def is_sharded(model: nn.Module) -> bool:
    """Whether parts of the model gather parameters from other ranks in forward: FSDP 1 and 2, DeepSpeed's ZeRO 3."""
    if any(isinstance(module, _sharders()) for module in model.modules()):
        return True
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())  # as accelerate tells them


def is_in_step(model: nn.Module) -> bool:
    """Whether other ranks take part in each forward: sharded parameters, or ``tp_plan`` of transformers."""
    return is_sharded(model) or (getattr(model, "tp_size", None) or 1) > 1


def agreed(model: nn.Module, wanted: Tensor) -> list[int]:
    """The largest of each number among the ranks that share the model's parameters. Cost: an all-reduce or two."""
    import torch.distributed

    device = next((parameter.device for parameter in model.parameters()), wanted.device)
    numbers = wanted.to(device)
    for group in _groups(model):
        torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX, group=group)
    return [int(number) for number in numbers.tolist()]


def _groups(model: nn.Module) -> list[Any]:
    """The process groups over which parameters are spread; all ranks where that cannot be seen."""
    import torch.distributed

    meshes = list(dict.fromkeys(_meshes(model)))
    found = [group for mesh in meshes for group in mesh.get_all_groups()]
    if not found:
        found = [module.process_group for module in model.modules() if hasattr(module, "process_group")][:1]
    return list(dict.fromkeys(found)) or [torch.distributed.group.WORLD]


def _meshes(model: nn.Module) -> Iterator[Any]:
    from torch.distributed.tensor import DTensor

    for parameter in model.parameters():
        if isinstance(parameter, DTensor):
            yield parameter.device_mesh


@lru_cache(maxsize=1)
def _sharders() -> tuple[type, ...]:
    found: list[type] = []
    for module, name in _FSDP:
        try:
            cls = getattr(import_module(module), name, None)
        except ImportError:  # a build of torch without distributed, or without this place
            continue
        if isinstance(cls, type):
            found.append(cls)
    return tuple(found)
