"""One call of a model: its arguments by the names of forward's parameters, however they were passed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Arguments that say where tokens come from or go, other than ids and a mask: a call that has one is left alone.
_FOREIGN = frozenset(
    {
        "input_mask",  # XLNet's own, the inverse of an attention mask
        "inputs_embeds",
        "position_ids",
        "encoder_outputs",
        "cache_params",
        "state",
        "mems",
        "past_buckets_states",
        "packed_seq_params",
        "seq_idx",
    }
)
_WIDE = frozenset({"attention_mask", "bbox", "global_attention_mask"})
_OTHER_SIDE = ("encoder_", "decoder_")
_PACKED_PREFIX = "cu_seq"  # cu_seq_lens_q, cu_seqlens


class Call:
    """The arguments of one call.

    Args:
        parameters: forward's parameter names in order.
        args: positional arguments.
        kwargs: keyword arguments.
    """

    __slots__ = ("args", "kwargs", "parameters")

    def __init__(self, parameters: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.parameters, self.args, self.kwargs = parameters, args, kwargs

    def get(self, name: str) -> Any:
        """The argument of this name, or None."""
        if name in self.kwargs:
            return self.kwargs[name]
        if name in self.parameters:
            at = self.parameters.index(name)
            if at < len(self.args):
                return self.args[at]
        return None

    def named(self) -> dict[str, Any]:
        """All arguments by name."""
        return {**dict(zip(self.parameters, self.args, strict=False)), **self.kwargs}

    def replaced(self, **changes: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keywords with some changed, each kept the way it was passed."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for name, value in changes.items():
            at = self.parameters.index(name) if name in self.parameters else len(args)
            if at < len(args):
                args[at] = value
            else:
                kwargs[name] = value
        return tuple(args), kwargs

    def is_foreign(self, *, any_cache: bool = False) -> bool:
        """Whether the caller manages positions, packing, embeddings or a filled cache: rule 5, never touch.

        ``any_cache`` counts an empty cache too.
        """
        for name, value in (*self.kwargs.items(), *zip(self.parameters, self.args, strict=False)):
            if value is not None and (name in _FOREIGN or name.startswith(_PACKED_PREFIX)):
                return True
        cache = self.get("past_key_values")
        return cache is not None if any_cache else is_filled(cache)


def is_filled(cache: Any) -> bool:
    """Whether a cache holds tokens already; an unknown kind of cache counts as filled."""
    if cache is None:
        return False
    if hasattr(cache, "get_seq_length"):
        length = cache.get_seq_length()
        return bool(length > 0)
    return not (isinstance(cache, (tuple, list)) and len(cache) == 0)


def is_per_token(name: str, value: Any, batch: int, sequence: int) -> bool:
    """Whether an argument has one entry per token: integers (batch, sequence), or one of the known wider ones.

    A shape alone does not tell: labels of seven classes beside seven tokens, an image of three channels beside three.
    """
    if not isinstance(value, Tensor) or value.dim() < 2 or tuple(value.shape[:2]) != (batch, sequence):
        return False
    return name in _WIDE or (value.dim() == 2 and not value.is_floating_point() and not name.startswith(_OTHER_SIDE))


def is_unreadable(ids: Tensor) -> bool:
    """Whether a value cannot be read, or not without breaking a capture: traced, fake and meta tensors, CUDA graphs."""
    return (
        type(ids).__torch_dispatch__ is not Tensor.__torch_dispatch__  # FakeTensor, DTensor and the like
        or ids.is_meta
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_functorch_wrapped_tensor(ids)
        or (ids.is_cuda and torch.cuda.is_current_stream_capturing())
    )
