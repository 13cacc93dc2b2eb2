"""How a batch of padded rows was taken apart, and what is needed to put its outputs together again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .call import rows_of
from .facts import Facts
from .layout import Layout, probe

LABELS = frozenset({"labels", "start_positions", "end_positions", "next_sentence_label", "sentence_order_label"})


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

    It travels from the pre-hook to the post-hook as an attribute of the ids that forward gets.
    """

    facts: Facts
    batch: int
    sequence: int
    target: int
    groups: list[Group] = field(default_factory=list)
    back: Tensor | None = None  # rolled rows: int64 (batch, sequence), where each column went
    inputs: dict[str, Any] = field(default_factory=dict)


def whole(facts: Facts, inputs: dict[str, Any]) -> Plan:
    """The plan of a call whose rows are not moved: enough to learn the layout of its outputs."""
    batch, sequence = inputs["input_ids"].shape
    target = inputs["decoder_input_ids"].shape[1] if "decoder_input_ids" in inputs else 0
    return Plan(facts, batch, sequence, target, inputs=inputs)


def attach(ids: Tensor, plan: Plan) -> None:
    """Let the plan travel with the ids to the post-hook; it is never on a tensor of the caller's."""
    ids._safetransformers_plan = plan  # type: ignore[attr-defined]


def attached(ids: Any) -> Plan | None:
    """The plan that travels with these ids, if any."""
    plan: Plan | None = getattr(ids, "_safetransformers_plan", None)
    return plan


def is_target(facts: Facts, name: str, value: Any, batch: int, target: int) -> bool:
    """Whether an argument has one entry per decoder token."""
    return facts.is_encoder_decoder and name.startswith("decoder_") and rows_of(value, batch, target)


def learn_layout(model: nn.Module, plan: Plan) -> Layout:
    """The axes of the model's outputs for calls with these arguments, by two small runs on tokens of the batch."""
    if plan.groups:
        group = max(plan.groups, key=lambda group: group.columns.shape[1])
        source, sizes = group.inputs, (len(group.rows), group.columns.shape[1])
        target = 0 if group.targets is None else group.targets.shape[1]
    else:
        source, sizes, target = plan.inputs, (plan.batch, plan.sequence), plan.target

    def inputs(batch: int, sequence: int, target_length: int) -> dict[str, Any]:
        rows = torch.zeros(batch, dtype=torch.int64)
        made: dict[str, Any] = {}
        for name, value in source.items():
            if is_target(plan.facts, name, value, sizes[0], target):
                made[name] = _cycled(value, rows, target_length)
            elif rows_of(value, *sizes):
                made[name] = _cycled(value, rows, sequence)
            elif isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == sizes[0]:
                made[name] = value[rows.to(value.device)]
            else:
                made[name] = value
        return {name: value for name, value in made.items() if name not in LABELS}

    return probe(model, inputs)


def _cycled(value: Tensor, rows: Tensor, length: int) -> Tensor:
    columns = torch.arange(length, device=value.device) % value.shape[1]
    return value[rows.to(value.device)][:, columns]
