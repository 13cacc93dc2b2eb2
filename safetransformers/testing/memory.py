"""Memory that runs out, on any device: what code does about it can be tested without a GPU that is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn

_TEXT: Final = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 1.00 GiB is "
    "free. (safetransformers.testing: at most {rows} rows, and {found} came)"
)


@contextmanager
def limited_memory(model: nn.Module, *, rows: int) -> Iterator[None]:
    """Let the model run out of memory wherever more than so many rows go through it at once.

    The error is torch's own class with torch's own words, raised inside forward, so accelerate's finder, the Trainer's
    ``auto_find_batch_size``, ``fit_batch_size`` and the policy ``on_oom`` take it for a real one. No memory is used.

    Args:
        model: any model; a hook on its input embeddings, or on the model where it has none, looks at the first
            dimension of what comes in. The hook goes at the end of the block.
        rows: the most that fit; 3 or more where ``on_oom="split"`` is to act: 3 rows show it the axes of outputs.

    Raises:
        torch.OutOfMemoryError: inside the block, by a forward of more rows.

    Example:
        >>> from safetransformers import fit_batch_size, testing
        >>> model = testing.tiny_model("bert")
        >>> with testing.limited_memory(model, rows=5):
        ...     fit_batch_size(lambda n: model(torch.ones(n, 3, dtype=torch.long)), 16).batch_size
        4
    """

    def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sizes = [each.shape[0] for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor) and each.dim()]
        if sizes and sizes[0] > rows:
            raise torch.OutOfMemoryError(_TEXT.format(rows=rows, found=sizes[0]))

    handle = _entrance(model).register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _entrance(model: nn.Module) -> nn.Module:
    try:
        embeddings = model.get_input_embeddings()  # type: ignore[operator]  # transformers' own, where it has one
    except (AttributeError, NotImplementedError):
        return model
    return embeddings if isinstance(embeddings, nn.Module) else model
