"""What a call does, counted: operators and kernels, values read on the host, bytes of new tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Counts(NamedTuple):
    """Of one call.

    Attributes:
        kernels: operators that compute, views left out; on a GPU the kernels that were launched.
        syncs: values read on the host, for which a GPU is waited for.
        allocated_bytes: of new tensors; on a GPU of all that the allocator gave out.
    """

    kernels: int
    syncs: int
    allocated_bytes: int


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch annotates no __init_subclass__
    """Counts the operators that launch a kernel, and the bytes of the tensors that they make. A view is neither."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates it not
        self.kernels = 0
        self.allocated_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, and count it."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default:  # a read, which `reads` counts
            return result
        if not any(argument.alias_info for argument in func._schema.returns):
            self.kernels += 1
            self.allocated_bytes += sum(leaf.nbytes for leaf in tree_iter(result) if isinstance(leaf, Tensor))
        elif func._schema.is_mutable:
            self.kernels += 1
        return result


@contextmanager
def reads() -> Iterator[list[str]]:
    """Every method call that brings a value to the host, which on a GPU is a sync."""
    found: list[str] = []
    with ExitStack() as stack:
        for name in ("tolist", "item", "__bool__"):
            original = getattr(Tensor, name)

            def read(self: Tensor, *args: Any, _name: str = name, _original: Any = original) -> Any:
                found.append(_name)
                return _original(self, *args)

            stack.enter_context(mock.patch.object(Tensor, name, read))
        yield found


def counted(call: Callable[[], Any], place: str) -> Counts:
    """Count what a call does; the call is warm already."""
    if place == "cuda":
        return _counted_on_gpu(call)
    with reads() as found, Operators() as operators:
        call()
    return Counts(operators.kernels, len(found), operators.allocated_bytes)


def _counted_on_gpu(call: Callable[[], Any]) -> Counts:
    """By CUPTI, the sync debug mode and the allocator, in a run each: they would count one another."""
    cuda = torch.profiler.ProfilerActivity.CUDA
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU, cuda]) as profile:
        call()
        torch.cuda.synchronize()
    on_gpu = [event.name for event in profile.events() or [] if event.device_type.name == "CUDA"]
    kernels = sum(not name.startswith(("Memcpy", "Memset")) for name in on_gpu)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    syncs = sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
    before = torch.cuda.memory_stats()["allocated_bytes.all.allocated"]
    call()
    after = torch.cuda.memory_stats()["allocated_bytes.all.allocated"]
    return Counts(kernels, syncs, after - before)
