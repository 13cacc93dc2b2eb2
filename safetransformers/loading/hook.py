"""The wrappers around transformers' loaders. Each asks first whether it is on; each passes everything else through."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

from .. import policies
from .rules import check_remote_code, check_weights, has_only_pickle, refuse_remote_code, unsafe_weights

Wrapped = Callable[..., Any]
_inside_load: ContextVar[bool] = ContextVar("safetransformers_inside_load", default=False)


def from_pretrained(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``PreTrainedModel.from_pretrained``: check the weights, then guard the model.

    A model that is loaded as a part of another one is left to the outer load.
    """
    if _inside_load.get():
        return wrapped(*args, **kwargs)
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
    safe = policies.resolve("weights") == "safetensors" and _reads_weights(kwargs)
    if safe:
        if kwargs.get("use_safetensors") is False:
            raise unsafe_weights(cls.__name__, source)
        kwargs = {**kwargs, "use_safetensors": True}
    mode = policies.resolve("loading")
    asked = kwargs.get("output_loading_info", False)
    if mode != "off":
        kwargs = {**kwargs, "output_loading_info": True}
    with _loading():
        try:
            result = wrapped(*args, **kwargs)
        except OSError as error:
            if safe and _lacks_safetensors(source, error):
                raise unsafe_weights(cls.__name__, source) from error
            raise
    if mode == "off" or not isinstance(result, tuple):
        return _guarded(result)
    model, info = result
    check_weights(type(model).__name__, source, mode, info)
    model = _guarded(model)
    return (model, info) if asked else model


def from_config(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``PreTrainedModel._from_config``: guard the model, unless it is a part of one that is being made."""
    if _inside_load.get() or _inside_constructor():
        return wrapped(*args, **kwargs)
    with _loading():
        model = wrapped(*args, **kwargs)
    return _guarded(model)


def auto_from_pretrained(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``from_pretrained`` of every Auto class: remote code as the policy allows."""
    allowed = policies.resolve("remote_code")
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
    check_remote_code(source, allowed, kwargs, kwargs.get("revision"))
    return wrapped(*args, **kwargs)


def cached_module_file(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``get_cached_module_file``, which every way to remote code goes through, also to code of another repo."""
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
    revision = args[6] if len(args) > 6 else kwargs.get("revision")
    if not os.path.isdir(str(source)):
        refuse_remote_code(source, policies.resolve("remote_code"), revision)
    elif policies.resolve("remote_code") == "never":
        refuse_remote_code(source, "never", revision)
    return wrapped(*args, **kwargs)


def _guarded(result: Any) -> Any:
    from ..guards import guard

    if isinstance(result, tuple):
        return (guard(result[0]), *result[1:])
    return guard(result)


@contextmanager
def _loading() -> Iterator[None]:
    token = _inside_load.set(True)
    try:
        yield
    finally:
        _inside_load.reset(token)


def _inside_constructor() -> bool:
    """Whether a module's ``__init__`` is running: what is made in it is a part, which the whole must decide for."""
    from torch import nn

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__init__" and isinstance(frame.f_locals.get("self"), nn.Module):
            return True
        frame = frame.f_back
    return False


def _reads_weights(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("state_dict") is None and kwargs.get("gguf_file") is None


def _lacks_safetensors(source: Any, error: OSError) -> bool:
    if source is not None and os.path.isdir(source):
        return has_only_pickle(source)
    return "safetensors" in str(error)
