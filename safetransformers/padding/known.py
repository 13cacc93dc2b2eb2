"""What was measured of each model class: how its padded rows are made right.

The data file is written by ``make conformance``; each class was run padded and alone, see docs/padding-conformance.md.
"""

from __future__ import annotations

import json
from collections.abc import Container
from functools import lru_cache
from importlib import resources
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, cast

from packaging.version import Version

Right = Literal["mask", "exact"]
Left = Literal["mask", "positions", "roll", "exact"]
_BY_CARE = ("mask", "positions", "roll", "exact")


class Known(NamedTuple):
    """How a class is made right on each side; ``exact`` means that no mask can, only running the rows unpadded."""

    right: Right
    left: Left


def measured(cls: type) -> Known | None:
    """The measurement of a class of transformers, or of the nearest one that it inherits from."""
    table = _table()
    name = _nearest(cls, table)
    return None if name is None else table[name]


def hidden_states_are_wrong(cls: type) -> bool:
    """Whether the class's intermediate hidden states stay wrong though a mask makes all else right."""
    by_version = _data()["meta"]["wrong_hidden_states"].values()
    return _nearest(cls, {name for names in by_version for name in names}) is not None


def _nearest(cls: type, names: Container[str]) -> str | None:
    """The name of the class, or of the first that it inherits from, which is transformers' own and among the names."""
    for base in cls.__mro__:
        if base.__module__.startswith("transformers.models.") and base.__name__ in names:
            return base.__name__
    return None


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(resources.files(__package__).joinpath("measured.json").read_text("utf-8"))
    return data


@lru_cache(maxsize=1)
def _table() -> dict[str, Known]:
    """The table of the installed transformers; of a version between the measured ones the more careful of both."""
    return table_of(_data(), version("transformers"))


def table_of(data: dict[str, Any], installed: str) -> dict[str, Known]:
    """The table for one version of transformers.

    Args:
        data: what ``measured.json`` holds: ``classes`` of the newest version measured, and by version what ``older``
            ones measured differently.
        installed: the version asked for.

    Returns:
        By class name, how its padded rows are made right.
    """
    newest = {name: Known(*value.split()) for name, value in data["classes"].items()}
    ours = Version(installed)
    measured_versions = sorted(map(Version, data["meta"]["dates"]))
    table = dict(newest)
    for name, differing in data["older"].items():
        older = {cls: Known(*value.split()) for cls, value in differing.items()}
        if ours.release[:2] <= Version(name).release[:2]:
            table |= older
        elif ours < measured_versions[-1]:
            table |= {cls: _more_careful(newest[cls], known) for cls, known in older.items()}
    return table


def _more_careful(one: Known, other: Known) -> Known:
    right, left = (max(pair, key=_BY_CARE.index) for pair in zip(one, other, strict=True))
    return Known(cast(Right, right), left)
