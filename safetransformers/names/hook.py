"""The wrappers around transformers' loaders: a load that has failed is looked at once more, and told in words.

The happy path is one ``try``; what explains a failure is imported when there is one.
"""

from __future__ import annotations

import dis
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

from .. import policies
from ..counts import count
from ..errors import IncompatibleTaskError, SafeTransformersError, VocabularyError
from ..explanation import add_note

logger = logging.getLogger(__name__)

Wrapped = Callable[..., Any]

_is_trying: ContextVar[bool] = ContextVar("safetransformers_is_trying", default=False)
_is_explaining: ContextVar[bool] = ContextVar("safetransformers_is_explaining", default=False)
_FAILURES: Final = (ValueError, OSError, KeyError, ImportError)
_STILL_OPEN: Final = (VocabularyError, IncompatibleTaskError)  # of which more may be known
_BETWEEN: Final = ("safetransformers", "wrapt")


def from_pretrained(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``from_pretrained`` and ``from_config`` of every Auto class."""
    if _is_trying.get():
        return wrapped(*args, **kwargs)
    try:
        return wrapped(*args, **kwargs)
    except _FAILURES as failure:
        explained = _explained(failure, "of_load", cls, args, kwargs)
        if explained is None:
            raise
        cause = failure if isinstance(failure, ImportError) else None  # else five kilobytes of configuration names
    try:
        raise explained from cause
    finally:
        del explained, cause  # each holds this frame


def pipeline(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``pipeline()``: a failure with a model that has no head for the task is told as that."""
    try:
        return wrapped(*args, **kwargs)
    except _FAILURES as failure:
        explained = _explained(failure, "of_pipeline", args, kwargs)
        if explained is None:
            raise
    try:
        raise explained
    finally:
        del explained  # it holds this frame


def trying(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around the pipelines' loader, which tries one class after another: that one of them fails is no failure yet."""
    token = _is_trying.set(True)
    try:
        return wrapped(*args, **kwargs)
    finally:
        _is_trying.reset(token)


def missing_attribute(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``__getattr__`` of transformers' lazy module: a failing ``from transformers import X`` gains a note.

    The import statement drops the ``AttributeError`` and makes an ``ImportError`` of its own, so the same one is raised
    here, where it can carry the note. ``hasattr`` and ``getattr`` see the ``AttributeError`` as ever.
    """
    if _is_explaining.get():
        return wrapped(*args, **kwargs)
    try:
        return wrapped(*args, **kwargs)
    except (AttributeError, ImportError) as failure:
        name = str(args[0] if args else kwargs.get("name"))
        if policies.resolve("errors") == "off" or not _is_from_import(instance, name):
            raise
        if isinstance(failure, ImportError):
            _explain_name(failure, instance, name)
            raise
    error = _import_error(instance, name)
    _explain_name(error, instance, name)
    try:
        raise error
    finally:
        del error  # it holds this frame


def _explained(failure: BaseException, look: str, *call: Any) -> BaseException | None:
    """What ``failures`` makes of a failure. A fault in looking never hides the failure itself."""
    is_told = isinstance(failure, SafeTransformersError) and not isinstance(failure, _STILL_OPEN)
    if is_told or policies.resolve("errors") == "off":
        return None
    token = _is_explaining.set(True)
    try:
        from . import failures

        explained: BaseException | None = getattr(failures, look)(failure, *call)
    except SafeTransformersError as error:
        explained = error.with_traceback(None)
    except Exception:
        logger.exception("a failed load could not be explained")
        return None
    finally:
        _is_explaining.reset(token)
    if explained is not None:
        count("names.explained")
    return explained


def _is_from_import(module: Any, name: str) -> bool:
    """Whether an import statement asks for this name right now, and not ``getattr`` or the look before it."""
    if name.startswith("__") or f"{module.__name__}.{name}" in sys.modules:
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    if frame is None or frame.f_lasti < 0:
        return False
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM"


def _import_error(module: Any, name: str) -> ImportError:
    """The error that the import statement makes of a missing name."""
    file = getattr(module, "__file__", None)
    text = f"cannot import name {name!r} from {module.__name__!r} ({file or 'unknown location'})"
    return ImportError(text, name=module.__name__, path=file)


def _explain_name(error: ImportError, module: Any, name: str) -> None:
    token = _is_explaining.set(True)
    try:
        from . import answers

        add_note(error, answers.for_name(name, module.__name__))
    except Exception:
        logger.exception("a missing name could not be explained")
        return
    finally:
        _is_explaining.reset(token)
    count("names.explained")
