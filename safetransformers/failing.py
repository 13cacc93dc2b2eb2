"""The hook of a guarded model that is called where forward failed: the error gains a note, and is raised as it was.

torch calls an ``always_call`` hook inside its ``except`` block, with None for the output (``Module._call_impl``, 2.13).
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import nn

from . import policies
from .devices import note as devices
from .errors import SafeTransformersError
from .explanation import Explanation, add_note
from .memory import note as memory
from .memory import split
from .padding.hook import hook_of

logger = logging.getLogger(__name__)

Explainer = Callable[[nn.Module, Mapping[str, Any], BaseException, Mapping[str, Any]], Explanation | None]

# Each looks at a failure in turn. They are imported before there is one, for then there may be no memory to do so.
_EXPLAINERS: Final[tuple[Explainer, ...]] = (memory.explanation, devices.explanation)


class FailureHook:
    """A forward hook that returns at once where there is an output. It holds no model and has no state."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Let the error of a failed forward carry its explanation."""
        if output is not None:
            return
        error = sys.exc_info()[1]
        # A forward that returns None comes here too, perhaps while its caller handles an error of its own.
        if error is not None and error.__traceback__ and error.__traceback__.tb_frame is sys._getframe(1):
            hook = hook_of(module)
            names = hook.facts.parameters if hook is not None else tuple(inspect.signature(module.forward).parameters)
            tell(module, {**dict(zip(names, args, strict=False)), **kwargs}, error)

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied, ()


def _copied() -> FailureHook:
    split.expect_copies()
    return FailureHook()


def tell(module: nn.Module, arguments: Mapping[str, Any], error: BaseException) -> None:
    """Add what the explainers know about a failure to it, as a note. Their own failure is logged, and hides nothing.

    Args:
        module: the model; its own policy fields count.
        arguments: of the failed call, by name.
        error: what was raised, and still is.
    """
    if isinstance(error, SafeTransformersError):
        return
    try:
        hook = hook_of(module)
        layer = {} if hook is None else hook.layer
        if policies.resolve("errors", layer) == "off":
            return
        for explain in _EXPLAINERS:
            if (told := explain(module, arguments, error, layer)) is not None:
                add_note(error, told)
    except Exception:
        logger.exception("a failure of %s could not be explained", type(module).__name__)


def attach(model: nn.Module) -> None:
    """Register the hook; on a model that has it, nothing changes. A part that was loaded guarded loses its own."""
    if not any(isinstance(hook, FailureHook) for hook in model._forward_hooks.values()):
        for module in model.modules():
            detach(module)
        model.register_forward_hook(FailureHook(), with_kwargs=True, always_call=True)


def detach(model: nn.Module) -> None:
    """Take the hook off; what others put on the model stays."""
    for key in [key for key, hook in model._forward_hooks.items() if isinstance(hook, FailureHook)]:
        del model._forward_hooks[key]
        model._forward_hooks_with_kwargs.pop(key, None)
        model._forward_hooks_always_called.pop(key, None)
