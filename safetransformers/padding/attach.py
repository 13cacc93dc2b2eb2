"""Putting the padding guard on a model and taking it off again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .. import policies
from ..devices.eager import EndOfProof
from .facts import facts_of
from .generate import GuardedGenerate
from .hook import PaddingHook, RestoreHook, hook_of


def attach(model: Any, layer: Mapping[str, Any]) -> None:
    """Guard the model's padding; on a guarded model only its own policy fields change.

    The hook goes first, so that hooks of others see the arguments that forward will get.
    """
    for field in (
        "padding",
        "device_checks",
    ):  # what the environment asks for, and asks wrongly, shows now, not at a call
        policies.resolve(field, layer)
    if (hook := hook_of(model)) is not None:
        hook.layer = {**hook.layer, **layer}
        return
    for module in model.modules():
        detach(module)  # a part that was loaded guarded: the whole decides from here on
    model.register_forward_pre_hook(PaddingHook(facts_of(model), layer), prepend=True, with_kwargs=True)
    if callable(getattr(model, "generate", None)):
        model.generate = GuardedGenerate(model, vars(model).get("generate"))


def detach(model: Any) -> None:
    """Take the guard off; what others put on the model stays."""
    for hooks, with_kwargs in (
        (model._forward_pre_hooks, model._forward_pre_hooks_with_kwargs),
        (model._forward_hooks, model._forward_hooks_with_kwargs),
    ):
        for key in [key for key, hook in hooks.items() if isinstance(hook, (PaddingHook, RestoreHook, EndOfProof))]:
            del hooks[key]
            with_kwargs.pop(key, None)
            model._forward_hooks_always_called.pop(key, None)
    generate = vars(model).get("generate")
    if isinstance(generate, GuardedGenerate):
        del model.generate
        if generate.inner is not None:
            model.generate = generate.inner


def is_attached(model: nn.Module) -> bool:
    """Whether the model is guarded."""
    return hook_of(model) is not None
