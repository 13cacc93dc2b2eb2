"""One warning per cause and call site, told at the line of the user's own code."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from types import FrameType
from typing import Final

from .errors import SafeTransformersWarning

# Frames of these packages are between the user's line and ours; the warning belongs to the user's line.
_BETWEEN: Final = (
    "safetransformers",
    "transformers",
    "torch",
    "accelerate",
    "peft",
    "huggingface_hub",
    "sentence_transformers",
    "wrapt",
    "contextlib",
    "typer",
    "click",
)
_seen: set[tuple[type[SafeTransformersWarning], str, str, int]] = set()
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it


def warn_once(category: type[SafeTransformersWarning], cause: str, text: str) -> None:
    """Warn at the caller's line, once per category, cause and line.

    Args:
        category: a category of ``errors.py``.
        cause: what tells one cause from another within the category, such as a model class's name.
        text: a message made by ``errors.message``.
    """
    frame, level = _users_frame()
    where = (category, cause, frame.f_code.co_filename, frame.f_lineno)
    with _lock:
        if where in _seen:
            return
    warnings.warn(text, category, stacklevel=level)
    with _lock:  # after the warning: one that a filter turned into an error was not given yet
        _seen.add(where)


def forget() -> None:
    """Forget which warnings were given, so that each is given again (for tests)."""
    with _lock:
        _seen.clear()


def _users_frame() -> tuple[FrameType, int]:
    """The innermost frame outside the packages in between, and how far it is above ``warn_once``."""
    frame, level = sys._getframe(1), 1
    while (outer := frame.f_back) is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _BETWEEN:
            break
        frame, level = outer, level + 1
    return frame, level


def relative(path: str | os.PathLike[str]) -> str:
    """The last part of a path, for messages: folders may hold names that do not belong in a log."""
    return os.path.basename(os.path.normpath(os.fspath(path)))
