"""What was measured of each model class: how its padded rows are made right.

The data file is written by ``make conformance``; each class was run padded and alone, see docs/padding-conformance.md.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Literal, NamedTuple

Right = Literal["mask", "exact"]
Left = Literal["mask", "positions", "roll", "exact"]


class Known(NamedTuple):
    """How a class is made right on each side; ``exact`` means that no mask can, only running the rows unpadded."""

    right: Right
    left: Left


def measured(cls: type) -> Known | None:
    """The measurement of a class of transformers, or of the nearest one that it inherits from."""
    table = _table()
    for base in cls.__mro__:
        if base.__module__.startswith("transformers.models.") and base.__name__ in table:
            return table[base.__name__]
    return None


@lru_cache(maxsize=1)
def _table() -> dict[str, Known]:
    text = resources.files(__package__).joinpath("measured.json").read_text(encoding="utf-8")
    return {name: Known(*value.split()) for name, value in json.loads(text)["classes"].items()}
