"""``padding="exact"``: rows run unpadded, in groups of equal real length, and the outputs put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import PaddingError
from .call import Call, is_per_token
from .facts import Facts
from .layout import Layout, Path, leaves, rebuild
from .plan import Group, Plan, is_label, is_target

# The names by which models return what they keep for the next call (ALL_CACHE_NAMES, generation/utils.py, 5.23).
LAST_ONLY = ("logits_to_keep", "num_logits_to_keep")  # ask for the outputs of a row's last columns alone
MODALITIES = ("pixel_", "image_", "video_", "audio_", "input_features", "input_values", "visual_")
_CACHES = ("past_key_values", "cache_params", "state", "mems", "past_buckets_states")


def split(facts: Facts, call: Call, mask: Tensor, target_mask: Tensor | None) -> Plan:
    """Group the rows by real length, each group with its own unpadded arguments.

    Args:
        facts: of the model.
        call: the padded call.
        mask: (batch, sequence); zeros only at the edges of a row.
        target_mask: the same for ``decoder_input_ids``, or None.

    Raises:
        PaddingError: for arguments whose outputs cannot be put together: labels, an explicit ``use_cache=True``.

    Cost: one sync, for the lengths.
    """
    named = call.named()
    _refuse(facts, named)
    batch, sequence = mask.shape
    target = 0 if target_mask is None else target_mask.shape[1]
    plan = Plan(facts, batch, sequence, target, kept=_kept(named, sequence))
    lengths: dict[tuple[int, int], list[int]] = {}
    for row, key in enumerate(zip(_lengths(mask), _lengths(target_mask, batch), strict=True)):
        lengths.setdefault(key, []).append(row)
    for (length, target_length), members in sorted(lengths.items(), reverse=True):
        if length == 0:
            raise PaddingError(
                "ST-MASK-006",
                f"row {members[0]} has no real token: it cannot be run unpadded",
                do="leave empty rows out of the batch",
                off='safetransformers.configure(padding="infer")',
                rows=members,
            )
        rows = torch.tensor(members, device=mask.device)
        columns = _real_columns(mask[rows], length)
        targets = None if target_mask is None else _real_columns(target_mask[rows], target_length)
        inputs = _unpadded(facts, named, plan, rows, columns, targets)
        plan.groups.append(Group(rows, columns, targets, inputs))
    return plan


def assemble(plan: Plan, first: Any, layout: Layout, run: Callable[[Group], Any]) -> Any:
    """Run the groups after the first and put all outputs back into the padded shape; padded places hold zeros."""
    outputs = [first, *(run(group) for group in plan.groups[1:])]
    flat = [dict(leaves(output)) for output in outputs]

    def put_together(path: Path, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return _no_tensor(plan.facts, path, leaf)
        whole = _scatter(plan, path, layout.get(path), [output[path] for output in flat])
        return whole if plan.kept is None or path[-1] != "logits" else whole[:, plan.kept]

    return rebuild(first, put_together)


def _kept(named: dict[str, Any], sequence: int) -> Any:
    """The columns of the padded row whose logits are asked for, or None for all of them."""
    asked = next((named[name] for name in LAST_ONLY if named.get(name) is not None), 0)
    if isinstance(asked, Tensor):
        return asked
    return slice(sequence - asked, None) if asked else None


def _lengths(mask: Tensor | None, batch: int = 0) -> list[int]:
    return [0] * batch if mask is None else [int(n) for n in (mask != 0).sum(-1).tolist()]


def _real_columns(mask: Tensor, length: int) -> Tensor:
    start = (mask != 0).int().argmax(-1, keepdim=True)
    return start + torch.arange(length, device=mask.device)


def _unpadded(
    facts: Facts, named: dict[str, Any], plan: Plan, rows: Tensor, columns: Tensor, targets: Tensor | None
) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for name, value in named.items():
        if name in ("attention_mask", "decoder_attention_mask", *LAST_ONLY):
            continue
        if targets is not None and is_target(facts, name, value, plan.batch, plan.target):
            inputs[name] = value[rows[:, None], targets]
        elif is_per_token(name, value, plan.batch, plan.sequence):
            inputs[name] = value[rows[:, None], columns]
        elif isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == plan.batch:
            inputs[name] = value[rows]
        else:
            inputs[name] = value
    return inputs


def _refuse(facts: Facts, named: dict[str, Any]) -> None:
    labels = sorted(name for name in named if is_label(name) and named[name] is not None)
    if labels:
        raise PaddingError(
            "ST-MASK-006",
            f'padding="exact" cannot put the losses of its groups together ({", ".join(labels)} passed)',
            why="a mean over groups of unequal size is not the mean over the batch",
            do=f"call the model without {', '.join(labels)} and compute the loss from the outputs",
            off='safetransformers.configure(padding="infer")',
        )
    modalities = sorted(name for name in named if name.startswith(MODALITIES) and named[name] is not None)
    if modalities:
        raise PaddingError(
            "ST-MASK-006",
            f'padding="exact" cannot tell which row each entry of {", ".join(modalities)} belongs to',
            do="run rows of one length together, or one by one",
            off='safetransformers.configure(padding="infer")',
        )
    if named.get("use_cache") is True or named.get("past_key_values") is not None:
        raise PaddingError(
            "ST-MASK-006",
            'padding="exact" cannot return a cache: its groups have caches of unequal length',
            do="pass use_cache=False, or use generate() on prompts of one length",
            off='safetransformers.configure(padding="infer")',
        )


def _no_tensor(facts: Facts, path: Path, leaf: Any) -> Any:
    if leaf is None or isinstance(leaf, (bool, int, float, str)):
        return leaf
    if path[0] in _CACHES:  # nobody asked for it
        return None
    raise PaddingError(
        "ST-MASK-006",
        f"{facts.name} returns {'.'.join(map(str, path))}, a {type(leaf).__name__}, which cannot be put together",
        do="switch that output off (use_cache=False), or run the rows one by one",
        off='safetransformers.configure(padding="infer")',
    )


def _scatter(plan: Plan, path: Path, axes: tuple[str, ...] | None, parts: list[Tensor]) -> Tensor:
    """One output tensor from its groups: zeros of the padded shape, each group's entries at their places."""
    if axes is None or axes.count("batch") != 1:
        raise PaddingError(
            "ST-MASK-006",
            f"{plan.facts.name} returns {'.'.join(map(str, path))} without one batch axis: it cannot be put together",
            do="switch that output off, or run the rows one by one",
            off='safetransformers.configure(padding="infer")',
            shape=tuple(parts[0].shape),
        )
    kinds = [
        kind if kind != "fixed" or len({part.shape[axis] for part in parts}) == 1 else "ragged"
        for axis, kind in enumerate(axes)
    ]
    padded = {"batch": plan.batch, "sequence": plan.sequence, "target": plan.target}
    widest = [max(part.shape[axis] for part in parts) for axis in range(len(axes))]
    placed = [axis for axis, kind in enumerate(kinds) if kind in padded or kind == "ragged"]
    placed.sort(key=lambda axis: kinds[axis] != "batch")
    order = [*placed, *(axis for axis in range(len(axes)) if axis not in placed)]
    full = parts[0].new_zeros([padded.get(kinds[axis], widest[axis]) for axis in order])
    for group, part in zip(plan.groups, parts, strict=True):
        index = tuple(
            _places(group, kinds[axis], part.shape[axis], place, len(placed), part.device)
            for place, axis in enumerate(placed)
        )
        full[index] = part.permute(order)
    return full.permute([order.index(axis) for axis in range(len(axes))])


def _places(group: Group, kind: str, size: int, place: int, places: int, device: torch.device) -> Tensor:
    """Where a group's entries along one axis go, shaped to broadcast against the other axes' places."""
    shape = [1] * places
    if kind == "batch":
        shape[place] = size
        return group.rows.to(device).view(shape)
    columns = {"sequence": group.columns, "target": group.targets}.get(kind)
    if columns is None:
        columns = torch.arange(size).expand(len(group.rows), size)
    shape[0], shape[place] = columns.shape
    return columns.to(device).reshape(shape)
