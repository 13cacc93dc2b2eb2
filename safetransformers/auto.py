"""The drop-in classes: for each Auto class of the installed transformers a subclass whose loads are guarded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .compat import is_auto_class, is_auto_name

_LOADERS = ("from_pretrained", "from_config")
_PACKAGE = __package__


def drop_in(name: str) -> Any:
    """Our class or function for a name of transformers, or transformers' own object where there is nothing to guard.

    Raises:
        AttributeError: where transformers has no such name.
    """
    import transformers

    theirs = getattr(transformers, name)
    if name == "pipeline":
        return _guarded_pipeline(theirs)
    return _guarded_class(name, theirs) if is_auto_name(name) and is_auto_class(theirs) else theirs


def is_drop_in(name: str) -> bool:
    """Whether ``drop_in`` may make an object of ours for this name, which is then kept."""
    return name == "pipeline" or is_auto_name(name)


def _guarded_class(name: str, theirs: type) -> type:
    """A subclass that pickles by reference, with the loaders' signatures and docstrings, and shared registration."""
    namespace: dict[str, Any] = {"__module__": _PACKAGE, "__qualname__": name, "__doc__": theirs.__doc__}
    ours = type(theirs)(name, (theirs,), namespace)
    for loader in _LOADERS:
        method = inspect.getattr_static(theirs, loader, None)
        if isinstance(method, classmethod):
            setattr(ours, loader, classmethod(_guarded_loader(ours, loader, method.__func__)))
    return ours


def _guarded_loader(ours: type, loader: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def load(cls: type, *args: Any, **kwargs: Any) -> Any:
        from . import policies
        from .hub import hook as hub
        from .loading.hook import auto_from_pretrained
        from .names import hook as names
        from .patching import loading_through_us

        theirs = getattr(super(ours, cls), loader)

        @functools.wraps(theirs)
        def checked(*args: Any, **kwargs: Any) -> Any:
            return auto_from_pretrained(theirs, cls, args, kwargs)

        groups = ["code", "hub"]
        if hasattr(ours, "_model_mapping"):
            groups.append("models")
        if policies.resolve("offline") == "raise":
            groups.append("entries")  # strict looks at each repository that a load reads, also without a request

        @functools.wraps(theirs)
        def fetched(*args: Any, **kwargs: Any) -> Any:
            return hub.from_pretrained(checked, cls, args, kwargs)

        with loading_through_us(*groups):
            return names.from_pretrained(fetched if loader == "from_pretrained" else theirs, cls, args, kwargs)

    return load


def _guarded_pipeline(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(theirs)
    def pipeline(*args: Any, **kwargs: Any) -> Any:
        from .hub import hook as hub
        from .names import hook as names
        from .patching import loading_through_us

        @functools.wraps(theirs)
        def fetched(*args: Any, **kwargs: Any) -> Any:
            return hub.from_pretrained(theirs, None, args, kwargs)

        with loading_through_us("code", "hub", "models", "entries"):
            return names.pipeline(fetched, None, args, kwargs)

    pipeline.__module__ = _PACKAGE
    return pipeline
