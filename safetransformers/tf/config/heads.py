"""How many attention heads a model has: the one number that no weight's shape tells."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

Field = tuple[str | int, ...]
"""Where a number is in a configuration: ``("hidden_size",)``, ``("vision_config", "patch_size")``, ``("depths", 2)``.
"""

_HEADS: Final = re.compile(r"(attention_heads|^n_heads?|^num_heads)$")
_WIDTHS: Final = ("hidden_size", "d_model", "n_embd", "dim")
_USUAL_HEAD_SIZE: Final = 64  # of the published models of nearly all architectures
_TEST_HEADS: Final = 4  # of the tiny models that tests are made of


def fields(raw: Mapping[str, Any]) -> Iterator[tuple[Field, int, int]]:
    """Each number of heads in a configuration and its parts, with the width that the heads share."""
    width = next((raw[name] for name in _WIDTHS if isinstance(raw.get(name), int)), 0)
    for name, value in raw.items():
        if isinstance(value, dict) and "model_type" in value:
            yield from (((name, *inner), heads, its) for inner, heads, its in fields(value))
        elif _HEADS.search(name) and isinstance(value, int) and not isinstance(value, bool) and width:
            yield (name,), value, width


def dividing(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with numbers of heads that divide its widths, which classes ask for."""
    result = copy.deepcopy(dict(raw))
    for field, heads, width in list(fields(result)):
        if heads < 1 or width % heads:
            put(result, field, usual(width))
    return result


def put(raw: dict[str, Any], field: Field, value: int) -> None:
    """Set a number of a configuration in place."""
    inside: Any = raw
    for name in field[:-1]:
        inside = inside[name]
    inside[field[-1]] = value


def usual(width: int) -> int:
    """The number of heads that published models of a width have, or that tiny ones made for tests have.

    Example:
        >>> usual(768), usual(16)
        (12, 4)
    """
    return width // _USUAL_HEAD_SIZE if width % _USUAL_HEAD_SIZE == 0 else math.gcd(width, _TEST_HEADS)


def in_graph(constants: Mapping[str, tuple[int, ...]], width: int, field: Field) -> int | None:
    """What the constants of a graph say: an attention layer splits its input into heads times head size.

    Args:
        constants: by node name, as ``saved_model.constants`` reads them.
        width: that the heads share.
        field: the number that is looked for; ``encoder_attention_heads`` is looked for in the encoder only.
    """
    first = str(field[0])
    side = next((side for side in ("encoder", "decoder", "text", "vision") if first.startswith(side)), "")
    votes: set[int] = set()
    for name, values in constants.items():
        levels = name.split("/")
        if "att" not in name.lower() or "shape" not in levels:
            continue
        if side and not {side, f"{side}_model"} & set(levels):
            continue
        pairs = list(pairwise(values))
        element = re.search(r"(.*/shape)/(\d+)$", name)
        if element and len(values) == 1:
            after = constants.get(f"{element[1]}/{int(element[2]) + 1}", ())
            pairs += [(values[0], after[0])] if len(after) == 1 else []
        votes |= {heads for heads, size in pairs if heads > 1 and size > 1 and heads * size == width}
    return votes.pop() if len(votes) == 1 else None
