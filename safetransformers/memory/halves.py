"""A call in pieces along its batch: which arguments are cut, and how the outputs are put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..padding.exact import MODALITIES
from ..padding.facts import Facts
from ..padding.layout import Layout, Path, leaves, probe, rebuild
from ..padding.plan import is_label, learn_layout, whole

# Tensors whose first axis is no row, whatever its size.
_NOT_ROWS: Final = frozenset({"cache_position", "head_mask", "cross_attn_head_mask", "decoder_head_mask"})
_JOINABLE_LAYERS: Final = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer"})  # cache_utils, 4.57 and 5.23


class CannotJoin(Exception):  # noqa: N818 - no failure: it says that the call is left as it was
    """The call cannot be cut, or its outputs cannot be put together."""


def rows_to_cut(model: nn.Module, facts: Facts, named: Mapping[str, Any]) -> int:
    """How many rows the call has.

    Raises:
        CannotJoin: for one row, labels (the mean of halves' losses need not be that of the batch), a cache that was
            passed in, images beside text, and arguments that hold tensors within.
    """
    main = named.get(getattr(model, "main_input_name", "input_ids"))
    rows = main.shape[0] if isinstance(main, Tensor) and main.dim() > 1 else 0
    has_ids = "input_ids" in facts.parameters
    for name, value in named.items():
        is_other_kind = has_ids and name.startswith(MODALITIES)
        is_plain = value is None or isinstance(value, (Tensor, bool, int, float, str))
        if value is not None and (is_label(name) or is_other_kind or not is_plain):
            raise CannotJoin(name)
    if rows < 2:
        raise CannotJoin("one row")
    return rows


def cut(named: Mapping[str, Any], rows: int, start: int, stop: int) -> dict[str, Any]:
    """The arguments of some of the rows."""
    return {name: value[start:stop] if _is_per_row(name, value, rows) else value for name, value in named.items()}


def _is_per_row(name: str, value: Any, rows: int) -> bool:
    if not isinstance(value, Tensor) or name in _NOT_ROWS or value.dim() == 0:
        return False
    return value.shape[0] == rows


def layout_of(model: nn.Module, facts: Facts, named: dict[str, Any], rows: int) -> Layout:
    """Which axis of each output is the batch.

    Raises:
        PaddingError: where the model cannot be run on the few rows that show it.

    Cost: two forwards, of at most 3 rows of 9 tokens each where there are ids, else of 3 rows and of 2.
    """
    ids = named.get("input_ids")
    if isinstance(ids, Tensor) and ids.dim() == 2:
        return learn_layout(model, whole(facts, {name: value for name, value in named.items() if value is not None}))

    def few(batch: int, _sequence: int, _target: int) -> dict[str, Any]:
        one = cut(named, rows, 0, 1)
        return {
            name: value.expand(batch, *value.shape[1:]) if _is_per_row(name, named[name], rows) else value
            for name, value in one.items()
        }

    return probe(model, few)


def join(parts: list[Any], layout: Layout) -> Any:
    """The outputs of the pieces as that of the whole call.

    Raises:
        CannotJoin: for an output without exactly one batch axis, or of a kind that is not known.
    """
    flat = [dict(leaves(part)) for part in parts]

    def put_together(path: Path, first: Any) -> Any:
        values = [part[path] for part in flat]
        if isinstance(first, Tensor):
            axes = layout.get(path)
            if axes is None or axes.count("batch") != 1:
                raise CannotJoin(".".join(map(str, path)))
            return torch.cat(values, dim=axes.index("batch"))
        if first is None or isinstance(first, (bool, int, float, str)):
            if any(value != first for value in values):
                raise CannotJoin(".".join(map(str, path)))
            return first
        return _join_caches(values)

    return rebuild(parts[0], put_together)


def _join_caches(caches: list[Any]) -> Any:
    """Caches that grow, layer by layer into the first, which nobody else holds yet."""
    first = caches[0]
    if hasattr(first, "self_attention_cache"):
        for name in ("self_attention_cache", "cross_attention_cache"):
            _join_caches([getattr(cache, name) for cache in caches])
        return first
    layers = [getattr(cache, "layers", []) for cache in caches]
    if not layers[0] or any(type(layer).__name__ not in _JOINABLE_LAYERS for layer in layers[0]):
        raise CannotJoin(type(first).__name__)
    for same in zip(*layers, strict=True):
        states = [(layer.keys, layer.values) for layer in same]
        if any(isinstance(keys, Tensor) for keys, _ in states):
            same[0].keys, same[0].values = (torch.cat(tensors) for tensors in zip(*states, strict=True))
    return first


def run_in_halves(
    run: Callable[[int, int], Any], rows: int, is_too_much: Callable[[BaseException], bool], free: Callable[..., None]
) -> list[Any]:
    """Run two halves of the rows, and halves of a half that is too much, down to single rows.

    Args:
        run: runs the rows from one to before another.
        rows: how many there are, two or more.
        is_too_much: whether an error means that fewer rows may do.
        free: gives back what a failed run held.

    Raises:
        Exception: the error of a single row that was too much, and any other.
    """
    waiting, parts = [(0, rows // 2), (rows // 2, rows)], []
    while waiting:
        start, stop = waiting.pop(0)
        failure = None
        try:
            parts.append(run(start, stop))
        except Exception as error:
            if stop - start == 1 or not is_too_much(error):
                raise
            failure = error
        if failure is not None:  # outside of except: the failed run's tensors can go
            free(failure)
            middle = (start + stop) // 2
            waiting[:0] = [(start, middle), (middle, stop)]
    return parts
