"""What the guards did in this process: counts by kind, never a payload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

_counts: Counter[str] = Counter()


def count(kind: str) -> None:
    """Count one event. ``kind`` is a dotted name such as ``"padding.inferred"``."""
    _counts[kind] += 1


def report() -> Mapping[str, int]:
    """Counts of what the guards did since the process began, by dotted kind; a read-only snapshot.

    Example:
        >>> report().get("padding.no_such_event", 0)
        0
    """
    return MappingProxyType(dict(_counts))
