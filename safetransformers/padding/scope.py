"""Calls that the padding guard must leave alone: those inside ``generate()``, and the guard's own runs of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_untouched: ContextVar[bool] = ContextVar("safetransformers_untouched", default=False)


@contextmanager
def untouched() -> Iterator[None]:
    """Leave every guarded call inside the block alone, in this thread or task."""
    token = _untouched.set(True)
    try:
        yield
    finally:
        _untouched.reset(token)


def is_untouched() -> bool:
    """Whether the call happens inside ``untouched()``."""
    return _untouched.get()
