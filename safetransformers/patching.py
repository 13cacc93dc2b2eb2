"""``patch()``: guards for code that cannot be edited, put on by wrapt handle and taken off without residue.

A target is wrapped while anybody needs it: ``patch()``, an open ``patched()`` block, or a load through one of our Auto
classes. Each wrapper first asks whether it is on here, so one that somebody else's wrapper keeps alive does nothing.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import wrapt

from . import compat
from .hub import client as hub_client
from .hub import hook as hub
from .loading import hook as loading
from .names import hook as names

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
Target = tuple[Any, str, Wrapper]


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
        self.loads: Counter[str] = Counter()  # those under way through our Auto classes, by group of targets
        self.installed: dict[str, list[_Installed]] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """In a forked process: another thread may have held the lock."""
        self.lock = threading.RLock()


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
        was_patched, _state.is_patched = _state.is_patched, True
        try:
            _settle()
        except BaseException:
            _state.is_patched = was_patched
            _settle()
            raise


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
    try:
        with _state.lock:
            _settle()
        yield
    finally:
        with _state.lock:
            _state.blocks -= 1
            _settle()


def patches() -> tuple[str, ...]:
    """Every target that is patched now, as dotted names; empty where nothing is."""
    with _state.lock:
        if not is_on_everywhere():
            return ()
        return tuple(dict.fromkeys(str(installed) for group in _state.installed.values() for installed in group))


@contextmanager
def loading_through_us(*groups: str) -> Iterator[None]:
    """Guard the loads of this thread or task inside the block; others are left as they are.

    Args:
        *groups: the groups of targets that the load goes through: a tokenizer need not import what models need.
    """
    token = _load_is_ours.set(True)
    with _state.lock:
        _state.loads.update(groups)
    try:
        with _state.lock:
            _settle()
        yield
    finally:
        _load_is_ours.reset(token)
        with _state.lock:
            _state.loads.subtract(groups)
            _settle()


def is_on() -> bool:
    """Whether the wrappers act here and now."""
    return is_on_everywhere() or _load_is_ours.get()


def is_on_everywhere() -> bool:
    """Whether they act in the whole process, and not only in a load through one of our Auto classes."""
    return _state.is_patched or _state.blocks > 0


def _settle() -> None:
    """Install or remove the wrappers of each group, as the state asks. The caller holds the lock."""
    for group, targets in _GROUPS.items():
        needed = is_on_everywhere() or _state.loads[group] > 0
        if needed and group not in _state.installed:
            _state.installed[group] = [_Installed(*target) for target in targets()]
        elif not needed:
            for installed in reversed(_state.installed.pop(group, [])):
                installed.remove()


def _model_targets() -> list[Target]:
    from transformers import PreTrainedModel
    from transformers.generation import utils as generation_utils

    return [
        *((module, name, hub.is_offline_mode) for module, name in compat.offline_switches()),
        *((module, name, hub.files_found) for module, name in compat.weights_finder()),
        (PreTrainedModel, "from_pretrained", loading.from_pretrained),
        (PreTrainedModel, "_from_config", loading.from_config),
        (generation_utils, "get_cached_module_file", loading.cached_module_file),  # its own name, for custom_generate
    ]


def _code_targets() -> list[Target]:
    from transformers import dynamic_module_utils

    return [(dynamic_module_utils, "get_cached_module_file", loading.cached_module_file)]


def _entry_targets() -> list[Target]:
    """Transformers' own ways in, beside our Auto classes."""
    loaders, makers = (
        dict.fromkeys(  # AutoBackbone inherits its loader
            owner
            for cls in compat.auto_classes().values()
            for owner in [next((owner for owner in cls.__mro__ if method in vars(owner)), None)]
            if owner is not None
        )
        for method in ("from_pretrained", "from_config")
    )
    return [
        (*compat.pipeline_loader(), loading.pipeline_model),
        *((cls, method, loading.from_parts) for cls, method in compat.assemblers()),
        *((owner, "from_pretrained", loading.auto_from_pretrained) for owner in loaders),
        *((owner, "from_pretrained", hub.from_pretrained) for owner in loaders),
        *((*place, hub.from_pretrained) for place in compat.hub_loaders()),
        *((owner, "from_pretrained", names.from_pretrained) for owner in loaders),
        *((owner, "from_config", names.from_pretrained) for owner in makers),
        *((*place, names.pipeline) for place in compat.pipelines()),
        (*compat.pipeline_loader(), names.trying),
    ]


def _name_targets() -> list[Target]:
    """Where a name of transformers is looked up, under ``patch()`` only."""
    return [(compat.lazy_module(), "__getattr__", names.missing_attribute)]


def _hub_targets() -> list[Target]:
    """The ways of every request, and the one place where a tokenizer is given its files."""
    return [
        (compat.wire().client, "send", hub_client.send),
        (*compat.xet_switch(), hub.is_xet_available),
        (ThreadPoolExecutor, "submit", hub.in_context),
        (*compat.tokenizer_assembler(), hub.tokenizer_files),
    ]


def _training_targets() -> list[Target]:
    """The Trainer's training loop, where transformers can import its Trainer."""
    try:
        from transformers import Trainer
    except ImportError:  # something that it needs is broken: whoever uses it is told so by their own import
        return []
    from .memory import training

    return [(Trainer, "_inner_training_loop", training.training_loop)]


def _uncaught_targets() -> list[Target]:
    """Where exceptions go that nobody caught."""
    from .explanations import uncaught

    return uncaught.targets()


_GROUPS: Final[dict[str, Callable[[], list[Target]]]] = {
    "models": _model_targets,
    "code": _code_targets,
    "entries": _entry_targets,
    "hub": _hub_targets,
    "names": _name_targets,
    "training": _training_targets,
    "uncaught": _uncaught_targets,
}
