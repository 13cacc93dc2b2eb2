"""What the models of a test put out, as one number: equal in both runs, or the patch has changed somebody's results."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import PreTrainedModel


class Numbers:
    """A checksum over every tensor that a transformers model returned, in order; None before the first."""

    def __init__(self) -> None:
        self.checksum: int | None = None

    def see(self, module: nn.Module, args: Any, output: Any) -> None:
        """The forward hook of all modules. What is traced or compiled has no numbers to read."""
        if isinstance(module, PreTrainedModel) and not torch.compiler.is_compiling():
            for tensor in tensors(output):
                if type(tensor) is Tensor and not tensor.is_meta:
                    values = tensor.detach().float().numpy().tobytes()
                    self.checksum = zlib.crc32(values, self.checksum or 0)


@contextmanager
def numbers() -> Iterator[Numbers]:
    """Watch the models that run inside the block."""
    seen = Numbers()
    handle = register_module_forward_hook(seen.see)
    try:
        yield seen
    finally:
        handle.remove()


def seed() -> None:
    """Make what is random the same in every run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def tensors(output: Any) -> Iterable[Tensor]:
    """The tensors of a model's output, without those of a cache."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from tensors(value)
