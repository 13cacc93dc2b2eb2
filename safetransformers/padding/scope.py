"""Calls that the padding guard must leave alone: those inside ``generate()``, and the guard's own runs of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_untouched: ContextVar[frozenset[int]] = ContextVar("safetransformers_untouched")
_NONE: frozenset[int] = frozenset()


@contextmanager
def untouched(*models: Any) -> Iterator[None]:
    """Leave the guarded calls of these models alone inside the block, in this thread or task; None is no model."""
    token = _untouched.set(_untouched.get(_NONE) | {id(model) for model in models})
    try:
        yield
    finally:
        _untouched.reset(token)


def is_untouched(model: Any) -> bool:
    """Whether the call of this model happens inside ``untouched()``."""
    return id(model) in _untouched.get(_NONE)
