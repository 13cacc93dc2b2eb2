"""What a model, its optimizers and a call hold in memory, from shapes alone: nothing is allocated, nothing synced."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from .texts import size


@dataclass(frozen=True)
class Budget:
    """Bytes by what they are for.

    Attributes:
        parameters: of the model, its buffers with them.
        gradients: that exist now.
        optimizer: state of every optimizer of its parameters.
        inputs: tensors among the failed call's arguments.
        cache: keys and values that were passed in.
    """

    parameters: int
    gradients: int
    optimizer: int
    inputs: int
    cache: int

    @property
    def fixed(self) -> int:
        """What does not grow with the batch."""
        return self.parameters + self.gradients + self.optimizer

    def __str__(self) -> str:
        named = {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "optimizer state": self.optimizer,
            "cache": self.cache,
            "inputs": self.inputs,
        }
        return ", ".join(f"{name} {size(n_bytes)}" for name, n_bytes in named.items() if n_bytes)


def budget_of(model: nn.Module, arguments: Iterable[Any], kind: str) -> Budget:
    """What the model and a call hold on one kind of device.

    Args:
        model: the model.
        arguments: of the failed call.
        kind: of device; tensors elsewhere are left out.

    Cost: a walk over the parameters, and one over Python's objects where gradients exist, to find the optimizers.
    """
    parameters = list(model.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    states = _optimizer_state(parameters) if gradients or any(p.requires_grad for p in parameters) else ()
    passed = list(arguments)
    plain = [value for value in passed if isinstance(value, Tensor)]
    caches = [value for value in passed if not isinstance(value, Tensor)]
    return Budget(
        _total([*parameters, *model.buffers()], kind),
        _total(gradients, kind),
        _total(states, kind),
        _total(plain, kind),
        _total((tensor for value in caches for tensor in _tensors(value)), kind),
    )


def _optimizer_state(parameters: list[nn.Parameter]) -> Iterator[Tensor]:
    """The state tensors of each optimizer that steps any of the parameters."""
    wanted = {id(parameter) for parameter in parameters}
    try:
        things = gc.get_objects()
    except MemoryError:  # the list of all objects takes some megabytes itself: what else is known is still told
        return
    for thing in things:
        if not issubclass(type(thing), Optimizer) or "state" not in vars(thing):  # accelerate's wrapper has none itself
            continue
        if any(id(parameter) in wanted for group in thing.param_groups for parameter in group["params"]):
            for state in thing.state.values():
                yield from _tensors(state)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of nested containers, and of a cache's layers (``cache_utils.Cache``, 4.57 and 5.23)."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif hasattr(value, "layers"):
        for layer in value.layers:
            yield from _tensors(list(vars(layer).values()))
    elif hasattr(value, "self_attention_cache"):
        yield from _tensors([value.self_attention_cache, value.cross_attention_cache])


def _total(tensors: Iterable[Tensor], kind: str) -> int:
    """Bytes of the tensors, each storage once: tied weights and views share theirs."""
    storages: dict[int, int] = {}
    for tensor in tensors:
        if tensor.device.type == kind:
            local = getattr(tensor, "_local_tensor", tensor)  # DTensor: this device's shard
            storage = local.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())
