"""``on_oom="split"``: a forward without gradients that runs out of memory is run again in halves of its batch.

A hook cannot answer in place of a forward that failed, so this is an attribute ``forward`` of the instance, put on
only where the policy asks for it.
"""

from __future__ import annotations

import gc
import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any

import torch
from torch import nn

from .. import policies
from ..compat.ranks import is_in_step
from ..counts import count
from ..errors import PaddingError, SplitBatchWarning, message
from ..notices import warn_once
from ..padding.call import Call
from ..padding.hook import hook_of
from . import texts
from .freeing import free
from .halves import CannotJoin, cut, join, layout_of, rows_to_cut, run_in_halves

logger = logging.getLogger(__name__)

_guarded: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_changing = threading.Lock()
_has_copies = False  # since the last look: a copy makes itself known before it is whole
_is_splitting: ContextVar[bool] = ContextVar("safetransformers_is_splitting", default=False)


@contextmanager
def splitting() -> Iterator[None]:
    """Cut no call inside the block again: it is a piece of one."""
    token = _is_splitting.set(True)
    try:
        yield
    finally:
        _is_splitting.reset(token)


def is_splitting() -> bool:
    """Whether this thread or task is inside ``splitting()``."""
    return _is_splitting.get()


def announce(name: str, rows: int, pieces: int, failure: BaseException) -> None:
    """Warn once that a call was run in pieces."""
    text = message(
        "ST-OOM-003",
        f"{name} ran out of memory on {rows} rows and was run in {pieces} pieces",
        str(failure).partition("\n")[0][:200],
        f"batches of {max(1, rows // pieces)} rows spare the run that fails first",
        'safetransformers.configure(on_oom="explain")',
    )
    warn_once(SplitBatchWarning, name, text)


class SplittingForward:
    """The ``forward`` of one guarded model. It refers to the model weakly, and follows it through copies and pickle."""

    def __init__(self, model: Any, inner: Callable[..., Any] | None = None) -> None:
        self.inner = inner
        self._model: Callable[[], Any] = weakref.ref(model)
        self._owner = type(model)
        update_wrapper(self, type(model).forward, updated=())

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.plain)

    @property
    def __self__(self) -> Any:
        return self._model()

    @property
    def plain(self) -> Callable[..., Any]:
        """The model's forward as it is without this."""
        if self.inner is not None:
            return self.inner
        if (model := self._model()) is None:
            raise ReferenceError(f"the {self._owner.__name__} of this forward is gone")
        bound: Callable[..., Any] = self._owner.forward.__get__(model)
        return bound

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run forward; where memory runs out and the policy says so, run it in halves."""
        try:
            return self.plain(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            kind = texts.kind_of(error)
            if kind is None or not self._may_split():
                raise
            failure = error
        try:
            with splitting():
                return self._in_halves(failure, kind, args, kwargs)
        except (CannotJoin, PaddingError) as reason:
            logger.info("%s cannot be run in halves: %s", self._owner.__name__, reason)
        except (RuntimeError, MemoryError) as error:
            if texts.kind_of(error) is None:
                raise
        raise failure

    def _may_split(self) -> bool:
        """Whether nothing is recorded for a backward pass, nothing is traced, and the policy says so."""
        model = self._model()
        hook = hook_of(model)
        if hook is None or torch.is_grad_enabled() or model.training or _is_splitting.get():
            return False
        # Ranks that share the parameters wait for each other in every forward: one alone must not run more of them.
        return policies.resolve("on_oom", hook.layer) == "split" and not is_in_step(model)

    def _in_halves(self, failure: Exception, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        model = self._model()
        hook = hook_of(model)
        if hook is None:
            raise CannotJoin("unguarded")
        named = Call(hook.facts.parameters, args, kwargs).named()
        rows = rows_to_cut(model, hook.facts, named)
        free(failure, kind)
        layout = layout_of(model, hook.facts, named, rows)
        parts = run_in_halves(
            lambda start, stop: self.plain(**cut(named, rows, start, stop)),
            rows,
            lambda error: texts.kind_of(error) is not None,
            lambda error: free(error, kind),
        )
        output = join(parts, layout)
        count("memory.split")
        announce(self._owner.__name__, rows, len(parts), failure)
        return output

    def __reduce__(self) -> tuple[Any, ...]:
        return SplittingForward, (self._model(), self.inner)


def attach(model: nn.Module, layer: Mapping[str, Any]) -> None:
    """Know the model, and give it the forward where the policy asks for it now."""
    with _changing:
        _guarded.add(model)
        if policies.resolve("on_oom", layer) == "split":
            _install(model)


def detach(model: Any) -> None:
    """Take the forward off; what others put in its place stays."""
    with _changing:
        _guarded.discard(model)
        forward = vars(model).get("forward")
        if isinstance(forward, SplittingForward):
            del model.forward
            if forward.inner is not None:
                model.forward = forward.inner


def expect_copies() -> None:
    """A guarded model is being copied or unpickled: the next look for models goes over all objects."""
    global _has_copies
    _has_copies = True


def follow(layer: Mapping[str, Any]) -> None:
    """A layer of the policy was set: where it asks for halves, every guarded model alive gets the forward."""
    global _has_copies
    if layer.get("on_oom") != "split":
        return
    with _changing:
        if _has_copies:
            _has_copies = False
            _guarded.update(thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module) and _knows(thing))
        for model in list(_guarded):
            _install(model)


def _knows(module: Any) -> bool:
    return "_forward_pre_hooks" in vars(module) and hook_of(module) is not None


def _install(model: Any) -> None:
    if not isinstance(vars(model).get("forward"), SplittingForward):
        model.forward = SplittingForward(model, vars(model).get("forward"))


policies.followers.append(follow)
