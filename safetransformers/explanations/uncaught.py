"""Uncaught exceptions say what they are about: a note on the exception, before whoever prints it does."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from ..errors import SafeTransformersError
from ..explanation import HAS_NOTES, add_note
from ..policies import resolve
from .find import explain

_LOG: Final = logging.getLogger(__name__)
_OURS: Final = re.compile(r"\[ST-[A-Z]+-\d{3}\] ")
_is_telling: ContextVar[bool] = ContextVar("safetransformers_is_telling", default=False)


def excepthook(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``sys.excepthook``: scripts, torchrun workers, and shells that are no IPython."""
    return _told(wrapped, args, kwargs, args[1] if len(args) > 1 else None)


def thread_excepthook(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``threading.excepthook``."""
    return _told(wrapped, args, kwargs, getattr(args[0], "exc_value", None) if args else None)


def showtraceback(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``InteractiveShell.showtraceback`` of IPython, which every cell's exception comes to."""
    exc_tuple = args[0] if args else kwargs.get("exc_tuple")
    error = exc_tuple[1] if exc_tuple else sys.exc_info()[1] or getattr(sys, "last_value", None)
    return _told(wrapped, args, kwargs, error)


def targets() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Where an exception goes that nobody caught. A shell's class is among them where IPython is imported."""
    found: list[tuple[Any, str, Callable[..., Any]]] = [
        (sys, "excepthook", excepthook),
        (threading, "excepthook", thread_excepthook),
    ]
    shell = getattr(sys.modules.get("IPython.core.interactiveshell"), "InteractiveShell", None)
    if shell is not None:
        found.append((shell, "showtraceback", showtraceback))
    return found


def _told(wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: Any) -> Any:
    """Call what was there before, with a note on the exception; on Python 3.10 the text comes after it instead."""
    if _is_telling.get():  # one hook that calls another: it is the same exception
        return wrapped(*args, **kwargs)
    token = _is_telling.set(True)
    try:
        text = _noted(error)
        result = wrapped(*args, **kwargs)
        if text and not HAS_NOTES and sys.stderr is not None:
            print(text, file=sys.stderr)  # noqa: T201 - beside the traceback, which is printed there too
        return result
    finally:
        _is_telling.reset(token)


def _noted(error: Any) -> str:
    """What is said of it, as a note where there are notes; nothing where it says so itself, or it is unknown."""
    try:
        if not isinstance(error, Exception) or isinstance(error, SafeTransformersError):
            return ""
        notes = getattr(error, "__notes__", ())
        if any(isinstance(note, str) and _OURS.match(note) for note in notes) or resolve("errors") == "off":
            return ""
        told = explain(error)
        if told is None:
            return ""
        if HAS_NOTES:
            add_note(error, told)
    except Exception:  # noqa: BLE001 - the user's exception must be shown, whatever is wrong here
        _LOG.warning("an uncaught exception could not be explained", exc_info=True)
        return ""
    return str(told)
