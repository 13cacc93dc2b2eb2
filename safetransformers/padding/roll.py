"""Left-padded rows rolled so that the padding comes last, run with the mask, and the outputs rolled back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PaddingError
from .call import Call, is_per_token
from .facts import Facts
from .in_step import is_needed
from .layout import Layout, Path, rebuild
from .plan import Plan, attach, is_label

# Arguments that are moved along or that say nothing of columns. With any other, rows are not rolled: an image, a span,
# a cache or an index may count the columns in a way that no shape tells.
_UNDERSTOOD = frozenset(
    {
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "bbox",
        "decoder_input_ids",
        "decoder_attention_mask",
        "labels",
        "next_sentence_label",
        "sentence_order_label",
        "use_cache",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "num_items_in_batch",
    }
)


def is_rollable(module: nn.Module, call: Call, mask: Tensor) -> bool:
    """Whether every argument of the call is understood, so that its rows can be rolled and its outputs rolled back.

    Not where a forward waits for other ranks: learning a layout is one that they would not take part in.
    """
    named = {name: value for name, value in call.named().items() if value is not None}
    types = named.get("token_type_ids")
    return (
        _UNDERSTOOD.issuperset(named)
        and named.get("use_cache") is not True
        and (types is None or types.shape == mask.shape)
        and not is_needed(module)
    )


def roll(module: nn.Module, facts: Facts, inputs: dict[str, Any], mask: Tensor) -> dict[str, Any]:
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
    attach(module, changed["input_ids"], plan)
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
        if is_per_token(name, value, batch, sequence) and not _is_decoders(facts, name)
    }
    return {**inputs, **changes}, back


def _is_decoders(facts: Facts, name: str) -> bool:
    """Whether an argument belongs to the decoder side, which is not rolled."""
    return facts.is_encoder_decoder and (name.startswith("decoder_") or is_label(name))


def roll_back(plan: Plan, output: Any, layout: Layout) -> Any:
    """Put the outputs of rolled rows back where the tokens stood."""

    if isinstance(output, tuple) and isinstance(output[0], Tensor) and output[0].dim() == 0:
        return (output[0], *roll_back(plan, output[1:], layout))  # a loss, which the layout was learnt without

    def put_back(path: Path, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0 or plan.back is None:
            return leaf
        kinds = layout.get(path)
        if kinds is None or "ragged" in kinds:
            raise PaddingError(
                "ST-MASK-006",
                f"{plan.facts.name} returns {'.'.join(map(str, path))}, whose sequence axis could not be found",
                do="pass attention_mask and position_ids, or pad on the right",
                off='safetransformers.configure(padding="off")',
            )
        for axis, kind in enumerate(kinds):
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
