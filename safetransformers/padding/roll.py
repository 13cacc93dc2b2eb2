"""Left-padded rows rolled so that the padding comes last, run with the mask, and the outputs rolled back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import PaddingError
from .call import rows_of
from .facts import Facts
from .layout import Layout, Path, rebuild
from .plan import Plan, attach, is_label


def roll(facts: Facts, inputs: dict[str, Any], mask: Tensor) -> dict[str, Any]:
    """Arguments of a forward, by name, with each row's leading padding last, and with the way back for its outputs.

    Cost: four kernels and one more for each argument of shape (batch, sequence, ...), which is rolled along.
    """
    changed, back = rolled(inputs, mask, facts)
    if facts.takes("use_cache"):
        changed["use_cache"] = False
    decoder_ids = inputs.get("decoder_input_ids")
    target = 0 if decoder_ids is None else decoder_ids.shape[1]
    batch, sequence = mask.shape
    plan = Plan(facts, batch, sequence, target, back=back, mask=mask, inputs=inputs)
    attach(changed["input_ids"], plan)
    return changed


def rolled(inputs: dict[str, Any], mask: Tensor, facts: Facts) -> tuple[dict[str, Any], Tensor]:
    """Arguments with each row's leading padding last, and the columns (batch, sequence) that put it back."""
    batch, sequence = mask.shape
    lead = (mask.cumsum(-1) == 0).sum(-1, keepdim=True)
    columns = torch.arange(sequence, device=mask.device)
    there, back = (columns + lead) % sequence, (columns - lead) % sequence
    changes = {
        name: take_columns(value, there)
        for name, value in inputs.items()
        if rows_of(value, batch, sequence) and not _is_decoders(facts, name)
    }
    return {**inputs, **changes}, back


def _is_decoders(facts: Facts, name: str) -> bool:
    """Whether an argument belongs to the decoder side, which is not rolled."""
    return facts.is_encoder_decoder and (name.startswith("decoder_") or is_label(name))


def roll_back(plan: Plan, output: Any, layout: Layout) -> Any:
    """Put the outputs of rolled rows back where the tokens stood."""

    def put_back(path: Path, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or plan.back is None:
            return leaf
        if path not in layout:
            raise PaddingError(
                "ST-MASK-006",
                f"{plan.facts.name} returns {'.'.join(map(str, path))}, whose sequence axis could not be found",
                do="pass attention_mask and position_ids, or pad on the right",
                off='safetransformers.configure(padding="off")',
            )
        for axis, kind in enumerate(layout[path]):
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
