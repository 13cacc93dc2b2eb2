"""What the guards did in this process: counts by kind, never a payload."""

from __future__ import annotations

import atexit
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

REPORT_VARIABLE: Final = "SAFETRANSFORMERS_REPORT"

_counts: Counter[str] = Counter()
_has_begun = False


class Counts(Mapping[str, int]):
    """Counts by dotted kind, read-only; equal to a dictionary of the same."""

    def __init__(self, counted: Mapping[str, int]) -> None:
        self._counted = dict(counted)

    def __getitem__(self, kind: str) -> int:
        return self._counted[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counted)

    def __len__(self) -> int:
        return len(self._counted)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._counted})"

    def _repr_html_(self) -> str:
        from .html import table
        from .reporting.words import described

        rows = [(kind, number, words) for kind, number, words in described(self)]
        return table("what the guards did", ("kind", "times", "in words"), rows)


def count(kind: str) -> None:
    """Count one event. ``kind`` is a dotted name such as ``"padding.inferred"``."""
    if not _has_begun:
        _begin()
    _counts[kind] += 1


def report() -> Mapping[str, int]:
    """Counts of what the guards did since the process began, by dotted kind; a read-only snapshot.

    Example:
        >>> report().get("padding.no_such_event", 0)
        0
    """
    return Counts(_counts)


def _begin() -> None:
    """With the first count: a forked process counts from zero, and where the user wants a file it is written at exit.

    What writes it is imported now: at exit threads are over, and some modules cannot be imported any more.
    """
    global _has_begun
    _has_begun = True
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_counts.clear)
    if target := os.environ.get(REPORT_VARIABLE, "").strip():
        from .reporting.files import Place, write

        atexit.register(partial(write, _counts, Place.of(target)))
