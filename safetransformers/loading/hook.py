"""The wrappers around transformers' loaders. Each asks first whether it is on; each passes everything else through."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

from .. import policies
from ..counts import count
from ..errors import GuardError, SafeTransformersError
from .rules import (
    check_remote_code,
    check_weights,
    has_only_pickle,
    has_pickle_adapter,
    refuse_remote_code,
    unsafe_adapter,
    unsafe_weights,
)

logger = logging.getLogger(__name__)

Wrapped = Callable[..., Any]
_inside_load: ContextVar[bool] = ContextVar("safetransformers_inside_load", default=False)
_inside_assembly: ContextVar[bool] = ContextVar("safetransformers_inside_assembly", default=False)
_refusals: ContextVar[list[SafeTransformersError] | None] = ContextVar("safetransformers_refusals", default=None)


def from_pretrained(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``PreTrainedModel.from_pretrained``: check the weights, then guard the model.

    A model that is loaded as a part of another one is left to the outer load.
    """
    if _inside_load.get():
        return wrapped(*args, **kwargs)
    try:
        args, kwargs = _from_tensorflow(args, kwargs)
        return _load_or_convert(wrapped, cls, args, kwargs)
    except SafeTransformersError as refusal:
        if (refusals := _refusals.get()) is not None:
            refusals.append(refusal)
        raise


def _load_or_convert(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A repository may have torch weights that are not in the cache yet: its TensorFlow weights come second."""
    try:
        return _checked_load(wrapped, cls, args, kwargs)
    except (OSError, AttributeError) as error:  # 4.57.6 goes on without a file where a repository has none
        if isinstance(error, SafeTransformersError):
            raise
        changed = _from_tensorflow(args, kwargs, has_failed=True)
        if changed == (args, kwargs):
            raise
    return _checked_load(wrapped, cls, *changed)


def _from_tensorflow(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, has_failed: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with the converted copy in the place of a checkpoint that has TensorFlow weights only."""
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
    if not isinstance(source, (str, os.PathLike)):
        return args, kwargs
    from ..tf.on_the_fly import redirected

    found = redirected(source, kwargs, has_failed=has_failed)
    if found is None:
        return args, kwargs
    folder, rest = found
    if args:
        return (folder, *args[1:]), rest
    return args, {**rest, "pretrained_model_name_or_path": folder}


def _checked_load(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
    safe = policies.resolve("weights") == "safetensors" and _reads_weights(kwargs)
    if safe:
        subfolder = kwargs.get("subfolder") or ""
        if kwargs.get("use_safetensors") is False:
            raise unsafe_weights(cls, source, subfolder)
        for folder in (source, (kwargs.get("adapter_kwargs") or {}).get("_adapter_model_path")):
            if has_pickle_adapter(folder):
                raise unsafe_adapter(folder)
        kwargs = {**kwargs, "use_safetensors": True}
    mode = policies.resolve("loading")
    asked = kwargs.get("output_loading_info", False)
    if mode != "off":
        kwargs = {**kwargs, "output_loading_info": True}
    with _set(_inside_load):
        try:
            result = wrapped(*args, **kwargs)
        except OSError as error:
            if safe and _lacks_safetensors(source, subfolder, error):
                raise unsafe_weights(cls, source, subfolder) from error
            raise
    if mode == "off" or not isinstance(result, tuple):
        return _guarded(result)
    model, info = result
    check_weights(type(model).__name__, source, mode, info)
    model = _guarded(model)
    return (model, info) if asked else model


def from_parts(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``from_encoder_decoder_pretrained`` and the like: checks each part's weights, guards the whole."""
    with _set(_inside_assembly):
        model = wrapped(*args, **kwargs)
    return _guarded(model)


def pipeline_model(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around the pipelines' loader, which answers a refusal by trying the next class that could fit: ours is final."""
    refusals: list[SafeTransformersError] = []
    token = _refusals.set(refusals)
    try:
        result = wrapped(*args, **kwargs)
    except ValueError:
        if refusals:
            raise refusals[0] from None
        raise
    finally:
        _refusals.reset(token)
    if refusals:
        raise refusals[0]
    return result


def from_config(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``PreTrainedModel._from_config``: guard the model, unless it is a part of one that is being made."""
    if _inside_load.get() or _inside_constructor():
        return wrapped(*args, **kwargs)
    with _set(_inside_load):
        model = wrapped(*args, **kwargs)
    return _guarded(model)


def auto_from_pretrained(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``from_pretrained`` of every Auto class: remote code as the policy allows."""
    allowed = policies.resolve("remote_code")
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
    check_remote_code(source, allowed, kwargs, kwargs.get("revision"))
    return wrapped(*args, **kwargs)


def cached_module_file(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``get_cached_module_file``, which every way to remote code goes through, also to code of another repo.

    The file is fetched first: where there is none, nothing would run and nothing is refused.
    """
    file = wrapped(*args, **kwargs)
    named = inspect.signature(wrapped).bind_partial(*args, **kwargs).arguments
    source = named.get("pretrained_model_name_or_path")
    refuse_remote_code(source, policies.resolve("remote_code"), named.get("revision"))
    return file


def _guarded(result: Any) -> Any:
    """The loaded model with its guard, or without one where the guard itself fails outside strict mode."""
    if _inside_assembly.get():
        return result
    from ..guards import guard

    model = result[0] if isinstance(result, tuple) else result
    try:
        guard(model)
    except Exception as error:
        if policies.is_strict():
            raise GuardError(
                "ST-GUARD-002",
                f"{type(model).__name__} cannot be guarded: {type(error).__name__}: {error}",
                do="report this as a bug of safetransformers",
                off="with safetransformers.policy(strict=False): ...",
            ) from error
        logger.exception("%s cannot be guarded; it is returned as transformers loaded it", type(model).__name__)
        count("padding.failed")
    return result


@contextmanager
def _set(flag: ContextVar[bool]) -> Iterator[None]:
    token = flag.set(True)
    try:
        yield
    finally:
        flag.reset(token)


def _inside_constructor() -> bool:
    """Whether a model's ``__init__`` is running: what is made in it is a part, which the whole must decide for.

    A plain ``nn.Module`` of the user's has no guard of its own, so a model that is made in one is guarded.
    """
    from transformers import PreTrainedModel

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__init__" and isinstance(frame.f_locals.get("self"), PreTrainedModel):
            return True
        frame = frame.f_back
    return False


def _reads_weights(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("state_dict") is None and kwargs.get("gguf_file") is None


def _lacks_safetensors(source: Any, subfolder: str, error: OSError) -> bool:
    if source is not None and os.path.isdir(source):
        return has_only_pickle(os.path.join(source, subfolder))
    return "safetensors" in str(error)
