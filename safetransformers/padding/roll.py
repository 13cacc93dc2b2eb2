"""Left-padded rows rolled so that the padding comes last, run with the mask, and the outputs rolled back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .call import rows_of
from .facts import Facts
from .layout import Layout, Path, rebuild
from .plan import Plan, attach


def roll(facts: Facts, inputs: dict[str, Any], mask: Tensor) -> dict[str, Any]:
    """Roll each row so that its leading padding comes last; returns the changed arguments, by name.

    Every argument of shape (batch, sequence, ...) is rolled along. Cost: four kernels and one more per such argument.
    """
    batch, sequence = mask.shape
    lead = (mask.cumsum(-1) == 0).sum(-1, keepdim=True)
    columns = torch.arange(sequence, device=mask.device)
    there, back = (columns + lead) % sequence, (columns - lead) % sequence
    changes: dict[str, Any] = {
        name: take_columns(value, there) for name, value in inputs.items() if rows_of(value, batch, sequence)
    }
    changes["attention_mask"] = take_columns(mask, there)
    if facts.takes("use_cache"):
        changes["use_cache"] = False
    attach(changes["input_ids"], Plan(facts, batch, sequence, 0, back=back, inputs=inputs))
    return {**inputs, **changes}


def roll_back(plan: Plan, output: Any, layout: Layout) -> Any:
    """Put the outputs of rolled rows back where the tokens stood."""

    def put_back(path: Path, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or plan.back is None:
            return leaf
        for axis, kind in enumerate(layout.get(path, ())):
            if kind == "sequence":
                leaf = take_columns(leaf, plan.back, axis)
        return leaf

    return rebuild(output, put_back)


def take_columns(tensor: Tensor, columns: Tensor, axis: int = 1) -> Tensor:
    """``tensor`` with each row's entries along ``axis`` in the order of ``columns`` (batch, sequence)."""
    shape = [1] * tensor.dim()
    shape[0], shape[axis] = columns.shape
    sizes = list(tensor.shape)
    sizes[axis] = columns.shape[1]
    return tensor.gather(axis, columns.view(shape).expand(sizes))
