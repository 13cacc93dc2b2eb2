"""What a process has learned of its hubs, and how to forget it: for tests, and for a network that is made to fail."""

from __future__ import annotations

from . import freshness
from .breaker import breakers
from .load import verified


def forget() -> None:
    """Be as if just started: every circuit closed, no commit named, no look for news made. File hashes are kept."""
    breakers.forget()
    freshness.forget()
    verified.clear()
