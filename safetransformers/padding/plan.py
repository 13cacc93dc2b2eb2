"""How a batch of padded rows was taken apart, and what is needed to put its outputs together again."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PaddingError
from .call import is_per_token
from .facts import Facts
from .layout import Layout, probe
from .mask import position_ids_from_mask


@dataclass(eq=False)
class Group:
    """Rows of one real length.

    Attributes:
        rows: int64 (group,): their indices in the batch.
        columns: int64 (group, length): where their real tokens stand in the padded row.
        targets: the same for decoder ids, or None.
        inputs: arguments of the group's run, by name.
    """

    rows: Tensor
    columns: Tensor
    targets: Tensor | None
    inputs: dict[str, Any]


@dataclass(eq=False)
class Plan:
    """How a batch was taken apart, so that its outputs can be put together again.

    It travels from the pre-hook to the post-hook as an attribute of the ids that forward gets, and beside them per
    thread and module, for a hook in between that puts other ids in their place.
    """

    facts: Facts
    batch: int
    sequence: int
    target: int
    groups: list[Group] = field(default_factory=list)
    kept: Any = None  # columns whose logits are asked for, of rows that were run unpadded; None for all
    back: Tensor | None = None  # rolled rows: int64 (batch, sequence), where each column went
    mask: Tensor | None = None  # rolled rows: (batch, sequence), as they stood
    inputs: dict[str, Any] = field(default_factory=dict)
    is_in_step: bool = False  # other ranks are to run the model as often as this one, see in_step.py
    error: PaddingError | None = None  # why this rank refuses the call, until the others know

    def unrolled(self) -> dict[str, Any]:
        """The arguments of rolled rows as they stood, with the mask, and with position ids where they help."""
        takes_positions = self.facts.left_when_traced == "positions" and self.facts.takes("position_ids")
        if not takes_positions or self.mask is None:
            return self.inputs
        return {**self.inputs, "position_ids": position_ids_from_mask(self.mask)}

    def options(self) -> Hashable:
        """What decides the layout of the outputs: the arguments' names, and the values of those that are flags."""
        named = self.groups[0].inputs if self.groups else self.inputs
        return tuple(sorted((name, _flag(value)) for name, value in named.items()))


def _flag(value: Any) -> str:
    """A text or a flag as it is, of a number whether it is zero: a count that differs at each call is no new layout."""
    if isinstance(value, (bool, int, float, type(None))):
        return str(bool(value))
    return value if isinstance(value, str) else ""


def whole(facts: Facts, inputs: dict[str, Any]) -> Plan:
    """The plan of a call whose rows are not moved: enough to learn the layout of its outputs."""
    batch, sequence = inputs["input_ids"].shape
    target = inputs["decoder_input_ids"].shape[1] if "decoder_input_ids" in inputs else 0
    return Plan(facts, batch, sequence, target, inputs=inputs)


class _Pending(threading.local):
    """The plans of this thread's calls that are under way, by module."""

    def __init__(self) -> None:
        self.plans: dict[int, Plan] = {}


_pending = _Pending()


def attach(module: nn.Module, ids: Tensor, plan: Plan) -> None:
    """Let the plan travel with the ids to the post-hook; it is never on a tensor of the caller's."""
    ids._safetransformers_plan = plan  # type: ignore[attr-defined]
    pend(module, plan)


def pend(module: nn.Module, plan: Plan) -> None:
    """Let the plan wait for the post-hook beside ids that are the caller's."""
    _pending.plans[id(module)] = plan


def taken(module: nn.Module) -> Plan | None:
    """The plan of this thread's call of the module, if any; it is taken away."""
    return _pending.plans.pop(id(module), None)


def attached(ids: Any) -> Plan | None:
    """The plan that travels with these ids, if any."""
    plan: Plan | None = getattr(ids, "_safetransformers_plan", None)
    return plan


def is_label(name: str) -> bool:
    """Whether an argument asks for a loss: ``labels``, ``next_sentence_label``, ``start_positions`` and the like."""
    return name.endswith(("labels", "_label")) or name in ("start_positions", "end_positions")


def is_target(facts: Facts, name: str, value: Any, batch: int, target: int) -> bool:
    """Whether an argument has one entry per decoder token."""
    is_decoders = facts.is_encoder_decoder and name.startswith("decoder_")
    return is_decoders and isinstance(value, Tensor) and value.dim() >= 2 and value.shape[:2] == (batch, target)


def learn_layout(model: nn.Module, plan: Plan) -> Layout:
    """The axes of the model's outputs for calls with these arguments, by two small runs on tokens of the batch."""
    source, sizes, target, row, real = _sample(plan)

    def inputs(batch: int, sequence: int, target_length: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in source.items():
            if is_target(plan.facts, name, value, sizes[0], target):
                made[name] = _stretched(value[row], target_length).expand(batch, -1)
            elif is_per_token(name, value, *sizes):
                tokens = _stretched(value[row][real.to(value.device)], sequence)
                made[name] = tokens.expand(batch, *tokens.shape)
            elif isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == sizes[0]:
                made[name] = value[row].expand(batch, *value.shape[1:])
            else:
                made[name] = value
        return {name: value for name, value in made.items() if not is_label(name)}

    return probe(model, inputs)


def _sample(plan: Plan) -> tuple[dict[str, Any], tuple[int, int], int, int, Tensor]:
    """Arguments, their sizes, and the row and columns of real tokens to make small batches of."""
    if plan.groups:
        group = max(plan.groups, key=lambda group: group.columns.shape[1])
        length = group.columns.shape[1]
        target = 0 if group.targets is None else group.targets.shape[1]
        return group.inputs, (len(group.rows), length), target, 0, torch.arange(length)
    if plan.mask is None:
        return plan.inputs, (plan.batch, plan.sequence), plan.target, 0, torch.arange(plan.sequence)
    row = int(plan.mask.sum(-1).argmax())
    return plan.inputs, (plan.batch, plan.sequence), plan.target, row, plan.mask[row].nonzero()[:, 0]


def _stretched(tokens: Tensor, length: int) -> Tensor:
    """The tokens as a row of another length: the first and the last stay first and last, and the last stays alone."""
    columns = torch.arange(length, device=tokens.device) * (tokens.shape[0] - 1) // max(length - 1, 1)
    return tokens[columns]
