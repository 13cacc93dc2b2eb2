"""``patch()``: guards for code that cannot be edited, put on by wrapt handle and taken off without residue.

A target is wrapped while anybody needs it: ``patch()``, an open ``patched()`` block, or a load through one of our Auto
classes. Each wrapper first asks whether it is on here, so one that somebody else's wrapper keeps alive does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import wrapt

from . import compat
from .loading import hook as loading

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


class _Installed:
    """One wrapper on one target. Off for good once removed, also where a foreign closure keeps it alive."""

    def __init__(self, target: Any, name: str, wrapper: Wrapper) -> None:
        self.target, self.name, self._wrapper = target, name, wrapper
        self._is_installed = True
        self._handle = wrapt.wrap_function_wrapper(target, name, self._ask_first)

    def _ask_first(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        if not self._is_installed or not is_on():
            return wrapped(*args, **kwargs)
        return self._wrapper(wrapped, instance, args, kwargs)

    def remove(self) -> None:
        self._is_installed = False
        with suppress(wrapt.WrapperNotOutermostError):  # a closure that is not wrapt's lies above: ours stays, off
            wrapt.unwrap_object(self.target, self.name, self._handle, missing_ok=True)

    def __str__(self) -> str:
        if isinstance(self.target, type):
            return f"{self.target.__module__}.{self.target.__qualname__}.{self.name}"
        return f"{self.target.__name__}.{self.name}"


class _State:
    """All state of patching, in one place."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_patched = False
        self.blocks = 0
        self.loads = 0
        self.installed: list[_Installed] = []


_state = _State()
_load_is_ours: ContextVar[bool] = ContextVar("safetransformers_load_is_ours", default=False)


def patch() -> None:
    """Guard every model that transformers loads in this process from now on, whoever loads it.

    Covers the Auto classes, ``from_pretrained`` of concrete classes, ``pipeline()``, and libraries on top, also where a
    class was imported before. Idempotent and thread-safe. Models that were loaded before are left as they are.

    Example:
        >>> patch()
        >>> unpatch()
        >>> patches()
        ()
    """
    with _state.lock:
        _state.is_patched = True
        _settle()


def unpatch(*, release_models: bool = False) -> None:
    """Undo ``patch()``: ``vars()`` of everything that was touched is as it was. Idempotent.

    Args:
        release_models: also unguard every guarded model alive in this process; else they stay guarded.
    """
    with _state.lock:
        _state.is_patched = False
        _settle()
    if release_models:
        from .guards import release_all

        release_all()


@contextmanager
def patched() -> Iterator[None]:
    """``patch()`` for a ``with`` block, for the whole process; blocks nest, and a ``patch()`` outside stays on."""
    with _state.lock:
        _state.blocks += 1
        _settle()
    try:
        yield
    finally:
        with _state.lock:
            _state.blocks -= 1
            _settle()


def patches() -> tuple[str, ...]:
    """Every target that is patched now, as dotted names; empty where nothing is."""
    with _state.lock:
        if not (_state.is_patched or _state.blocks):
            return ()
        return tuple(map(str, _state.installed))


@contextmanager
def loading_through_us() -> Iterator[None]:
    """Guard the loads of this thread or task inside the block; others are left as they are."""
    token = _load_is_ours.set(True)
    with _state.lock:
        _state.loads += 1
        _settle()
    try:
        yield
    finally:
        _load_is_ours.reset(token)
        with _state.lock:
            _state.loads -= 1
            _settle()


def is_on() -> bool:
    """Whether the wrappers act here and now."""
    return _state.is_patched or _state.blocks > 0 or _load_is_ours.get()


def _settle() -> None:
    """Install or remove the wrappers, as the state asks. The caller holds the lock."""
    needed = _state.is_patched or _state.blocks > 0 or _state.loads > 0
    if needed and not _state.installed:
        _state.installed = [_Installed(*target) for target in _targets()]
    elif not needed and _state.installed:
        for installed in reversed(_state.installed):
            installed.remove()
        _state.installed = []


def _targets() -> list[tuple[Any, str, Wrapper]]:
    from transformers import PreTrainedModel, dynamic_module_utils
    from transformers.generation import utils as generation_utils

    targets: list[tuple[Any, str, Wrapper]] = [
        (PreTrainedModel, "from_pretrained", loading.from_pretrained),
        (PreTrainedModel, "_from_config", loading.from_config),
        (dynamic_module_utils, "get_cached_module_file", loading.cached_module_file),
        (generation_utils, "get_cached_module_file", loading.cached_module_file),  # its own name, for custom_generate
        (*compat.pipeline_loader(), loading.pipeline_model),
    ]
    targets += [(cls, method, loading.from_parts) for cls, method in compat.assemblers()]
    loaders = dict.fromkeys(
        next(owner for owner in cls.__mro__ if "from_pretrained" in vars(owner))  # AutoBackbone inherits its loader
        for cls in compat.auto_classes().values()
    )
    targets += [(owner, "from_pretrained", loading.auto_from_pretrained) for owner in loaders]
    return targets
