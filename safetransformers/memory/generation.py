"""``on_oom="split"`` for ``generate()``: a call that runs out of memory is run again in halves of its rows.

Only where each row's tokens depend on that row alone: greedy search. Beams of a row may go on for as long as another
row of the batch has some (seen with transformers 4.57), and a sample of a half draws other random numbers than the same
rows within the whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from .. import policies
from ..compat.ranks import is_in_step
from ..counts import count
from . import split, texts
from .freeing import free
from .halves import CannotJoin, cut, rows_to_cut, run_in_halves

logger = logging.getLogger(__name__)

# Settings of transformers 4.57 and 5.23 that mix rows, end by the clock, return more than tokens, or keep a cache of
# the whole batch: any of them set leaves the call whole.
_NOT_ALONE: Final = (
    "assistant_early_exit", "cache_implementation", "compile_config", "constraints", "custom_generate", "dola_layers",
    "force_words_ids", "max_time", "penalty_alpha", "prompt_lookup_num_tokens", "return_dict_in_generate",
    "synced_gpus", "use_cache_offloaded",
)  # fmt: skip


def may_split(model: Any, layer: Mapping[str, Any], error: BaseException) -> bool:
    """Whether the policy asks for halves, memory has run out, and no other rank waits for this one's calls."""
    if texts.kind_of(error) is None or model.training or split.is_splitting():
        return False
    return policies.resolve("on_oom", layer) == "split" and not is_in_step(model)


def in_halves(
    model: nn.Module,
    facts: Any,
    generate: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    pad: int | None,
    failure: Exception,
) -> Any:
    """The tokens of the whole call, from calls of some of its rows each.

    Args:
        model: whose call failed.
        facts: of its guard.
        generate: the model's own.
        args: of the failed call: the prompt and the generation config.
        kwargs: of the failed call.
        pad: the token that ends shorter rows; ``None`` where there is none.
        failure: raised again where the call cannot be cut, or one row does not fit.
    """
    kind = texts.kind_of(failure) or ""
    named = {**kwargs, **dict(zip(("inputs", "generation_config"), args, strict=False))}
    rows = 0
    try:
        rows = _rows(model, facts, named)
    except CannotJoin as reason:
        logger.info("generate() of %s cannot be run in halves: %s", type(model).__name__, reason)
    if not rows:
        raise failure
    free(failure, kind)
    with split.splitting():
        try:
            parts = run_in_halves(
                lambda start, stop: generate(**cut(named, rows, start, stop)),
                rows,
                lambda error: texts.kind_of(error) is not None,
                lambda error: free(error, kind),
            )
        except (RuntimeError, MemoryError) as error:
            if texts.kind_of(error) is None:
                raise
            parts = []
    tokens = _joined(parts, pad) if parts else None
    if tokens is None:
        raise failure
    count("memory.split")
    split.announce(f"generate() of {type(model).__name__}", rows, len(parts), failure)
    return tokens


def _rows(model: nn.Module, facts: Any, named: Mapping[str, Any]) -> int:
    """How many rows the prompt has.

    Raises:
        CannotJoin: where rows of halves need not be those of the whole.
    """
    given = named.get("generation_config")
    layers = [named, given, getattr(model, "generation_config", None)]
    for setting in _NOT_ALONE:
        if any(_setting(layer, setting) for layer in layers):
            raise CannotJoin(setting)
    if any((_setting(layer, "num_beams") or 1) > 1 for layer in layers):
        raise CannotJoin("num_beams")
    # Which of two configs wins differs by version: without a word in the call itself, none of them may sample.
    if named["do_sample"] if "do_sample" in named else any(_setting(layer, "do_sample") for layer in layers):
        raise CannotJoin("do_sample")
    prompt = named.get("input_ids") if named.get("inputs") is None else named["inputs"]
    # What rows_to_cut knows of a forward holds here, but for generate's own: each plain, or not cut at all.
    plain = {
        name: value for name, value in named.items() if name not in {"inputs", "generation_config", "eos_token_id"}
    }
    return rows_to_cut(model, facts, {**plain, getattr(model, "main_input_name", "input_ids"): prompt})


def _setting(layer: Any, name: str) -> Any:
    return layer.get(name) if isinstance(layer, Mapping) else getattr(layer, name, None)


def _joined(parts: list[Any], pad: int | None) -> Tensor | None:
    """The tokens of all rows, shorter ones padded at their end as ``generate()`` does; ``None`` if they cannot be."""
    if not all(isinstance(part, Tensor) and part.dim() == 2 for part in parts):
        return None
    longest = max(part.shape[1] for part in parts)
    if pad is None and any(part.shape[1] < longest for part in parts):
        return None
    filled = [nn.functional.pad(part, (0, longest - part.shape[1]), value=pad or 0) for part in parts]
    return torch.cat(filled)
