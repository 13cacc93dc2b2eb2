"""The note on an error of a call that ran out of memory: what filled it, and what fits instead.

The error keeps its type and arguments: accelerate and Trainer match on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from .. import policies
from ..counts import count
from ..explanation import Explanation
from . import split, texts
from .advice import Situation, advice
from .budget import Budget, budget_of
from .fit import largest_that_fits
from .room import Room, room_of

# The Trainer whose training loop runs in this thread or task: its note has the line for its arguments.
trainer: ContextVar[Any] = ContextVar("safetransformers_trainer", default=None)


def explanation(
    module: nn.Module, arguments: Mapping[str, Any], error: BaseException, layer: Mapping[str, Any]
) -> Explanation | None:
    """What is said of a failed call; ``None`` where memory has not run out, or the policy says ``on_oom="off"``.

    Args:
        module: the model.
        arguments: of the call, by name; empty where the failure was in no call, as in an optimizer's step.
        error: what was raised.
        layer: policy fields of this model alone.

    Cost: reads counters and shapes; nothing is allocated on the device, and nothing waits for it.
    """
    kind, mode = texts.kind_of(error), policies.resolve("on_oom", layer)
    if kind is None or mode == "off":
        return None
    if mode == "split":
        split.attach(module, layer)  # of a copy that was unpickled after the policy was set: its next call is cut
    count("memory.explained")
    device = _device(kind, module, arguments, str(error))
    given = {name: value for name, value in arguments.items() if value is not None}
    budget, room = budget_of(module, given.values(), kind), room_of(device)
    rows = rows_of(given)
    asked = texts.asked_bytes(str(error)) or 0
    running = trainer.get()
    situation = Situation(
        rows=rows,
        at_most=_at_most(rows, asked, budget, room, kind),
        is_training=module.training and (torch.is_grad_enabled() or running is not None),
        keeps_gradients=torch.is_grad_enabled(),
        generates="max_new_tokens" in given or given.get("past_key_values") is not None,
        checkpoints=any(getattr(part, "gradient_checkpointing", False) for part in module.modules()),
        is_float32=getattr(module, "dtype", None) is torch.float32,
        is_fragmented=room.is_fragmented,
        on_oom=mode,
    )
    training_args = None if running is None else running.args
    ran_out = "ran out" if texts.is_sure(error) else "probably ran out"
    return Explanation(
        "ST-OOM-001" if running is None else "ST-OOM-002",
        f"{type(module).__name__} {ran_out} of {_words(device)} memory{_shapes(given)}",
        _facts(budget, room, asked, kind),
        "\n".join(advice(situation, training_args)),
    )


def rows_of(arguments: Mapping[str, Any]) -> int:
    """The batch size of a call: the first axis of its first tensor; 0 where there is none."""
    return next((value.shape[0] for value in arguments.values() if isinstance(value, Tensor) and value.dim()), 0)


def _device(kind: str, module: nn.Module, arguments: Mapping[str, Any], text: str) -> torch.device:
    """The device that has run out: the one that the text names, else the model's or the inputs'."""
    if named := re.search(r"GPU (\d+) has", text):
        return torch.device(kind, int(named[1]))
    tensors = (*module.parameters(), *arguments.values())
    found = (tensor.device for tensor in tensors if isinstance(tensor, Tensor) and tensor.device.type == kind)
    return next(found, torch.device(kind))


def _at_most(rows: int, asked: int, budget: Budget, room: Room, kind: str) -> int | None:
    """The most rows that can fit, by what the failed call had reached; ``None`` where too little is known."""
    if room.total is None or not asked or rows < 2:
        return None
    reached = 0 if kind == "cpu" else max(0, room.held - budget.fixed)  # the host's counter holds much beside tensors
    return largest_that_fits(rows, reached + asked, room.total - budget.fixed)


def _facts(budget: Budget, room: Room, asked: int, kind: str) -> str:
    told = [str(room), str(budget)]
    if asked:
        told.insert(0, f"{texts.size(asked)} more were asked for")
    activations = room.held - budget.fixed - budget.inputs - budget.cache
    if kind != "cpu" and activations > 0:
        told.append(f"probably {texts.size(activations)} of activations and temporaries")
    return "; ".join(part for part in told if part)


def _words(device: torch.device) -> str:
    return "the machine's own" if device.type == "cpu" else f"{device}'s"


def _shapes(arguments: Mapping[str, Any]) -> str:
    shapes = [
        f"{name} {' x '.join(map(str, value.shape))}"
        for name, value in arguments.items()
        if isinstance(value, Tensor) and value.dim()
    ]
    return f": {', '.join(shapes[:4])}" if shapes else ""
