"""Putting the guards on a model, whoever loaded it, and taking them off."""

from __future__ import annotations

import gc
from typing import Any, TypeVar

from torch import nn

from . import compat, failing, policies
from .memory import split
from .padding import attach as padding

Model = TypeVar("Model", bound=nn.Module)


def guard(model: Model, **fields: Any) -> Model:
    """Guard a model that was not loaded through safetransformers; returns the same object.

    Guarding twice is guarding once. The guard is a forward pre-hook and, where the class can generate, an instance
    attribute ``generate``: it goes along with ``deepcopy``, ``pickle`` and ``torch.save``, and is no part of the
    state dict, of ``config.json`` or of ``forward``'s signature.

    Args:
        model: a transformers model, or a wrapper around one (peft, ``DataParallel``, ``torch.compile``).
        **fields: policy fields for this model alone; they give way to ``with policy(...)`` only.

    Raises:
        PolicyError: for an unknown field or value.
        TypeError: where there is no transformers model in ``model``.

    Cost: one ``inspect.signature``; about 1 us a call where a mask is given.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(BertConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1))
        >>> guard(model, padding="raise") is model
        True
    """
    layer = policies.checked(fields)
    compat.check_versions()
    inner = innermost(model)
    padding.attach(inner, layer)
    failing.attach(inner)
    split.attach(inner, layer)
    return model


def unguard(model: Model) -> Model:
    """Take the guards off; returns the same object, with ``vars()`` as without them. A plain model stays as it is."""
    for module in model.modules():
        _detach(module)
    return model


def is_guarded(model: nn.Module) -> bool:
    """Whether the model, or the model that it wraps, is guarded."""
    return padding.is_attached(innermost(model))


def innermost(model: nn.Module) -> nn.Module:
    """The transformers model inside wrappers of peft, torch and accelerate.

    Raises:
        TypeError: where there is none.
    """
    from transformers import PreTrainedModel

    if isinstance(model, PreTrainedModel):
        return model
    # Registered modules only: a tuner of peft hands every other name on to the model, whose base_model is a part of it.
    for name in ("_orig_mod", "module", "_fsdp_wrapped_module", "base_model", "model"):
        inner = model._modules.get(name)
        if inner is not None:
            return innermost(inner)
    raise TypeError(f"{type(model).__name__} is not a transformers model and does not wrap one")


def release_all() -> None:
    """Unguard every guarded model that is alive in this process, copies included."""
    for thing in gc.get_objects():
        if issubclass(type(thing), nn.Module) and "_forward_pre_hooks" in vars(thing) and padding.is_attached(thing):
            _detach(thing)


def _detach(module: nn.Module) -> None:
    padding.detach(module)
    failing.detach(module)
    split.detach(module)
