"""What the padding guard says: the texts of its warnings and errors, and whether a cause was told already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import policies
from ..counts import count
from ..errors import (
    AmbiguousPaddingWarning,
    NoCacheWarning,
    NotInvariantWarning,
    PaddingError,
    PaddingWarning,
    RightPaddedPromptWarning,
    UnmaskedPaddingWarning,
    UnmeasuredArchitectureWarning,
    message,
)
from ..notices import warn_once
from .facts import Facts


class Speaker(Protocol):
    """The hook on whose behalf something is said.

    Attributes:
        facts: of its model.
        layer: its model's own policy fields.
        told: whether the caller was told that no mask helps.
    """

    facts: Facts
    layer: Mapping[str, Any]
    told: bool


_OFF = 'safetransformers.configure(padding="off")'
_MASKED_CALL = 'batch = tokenizer(texts, padding=True, return_tensors="pt"); model(**batch)'


def found(hook: Speaker, pads: Tensor, pad: int, mode: str) -> None:
    """Padding without a mask was found: raise or warn where the mode says so.

    Raises:
        PaddingError: with ``padding="raise"``.
    """
    if mode not in ("raise", "warn"):
        return
    what, why = describe(hook.facts.name, pads, pad)
    if mode == "raise":
        count("padding.raised")
        raise PaddingError(
            "ST-MASK-001",
            what,
            why=why,
            do=f"{_MASKED_CALL}  # or attention_mask=safetransformers.infer_attention_mask(input_ids, {pad})",
            off='with safetransformers.policy(padding="infer"): ...',
            pad_token_id=pad,
        )
    _tell(hook, UnmaskedPaddingWarning, "ST-MASK-002", what, why, f'{_MASKED_CALL}  # or padding="infer"')


def describe(name: str, pads: Tensor, pad: int) -> tuple[str, str]:
    """What was found and why it matters, with the numbers of the worst row."""
    is_edge = (pads.cumprod(-1) + pads.flip(-1).cumprod(-1).flip(-1)) > 0
    per_row = is_edge.sum(-1).tolist()
    worst = max(range(len(per_row)), key=per_row.__getitem__)
    padded = sum(1 for n in per_row if n)
    what = f"{name} was called without attention_mask on {padded} padded row{'s' if padded > 1 else ''}"
    why = (
        f"row {worst} has {per_row[worst]} of {pads.shape[1]} tokens equal to pad_token_id={pad} at its edges; "
        "unmasked, they change the numbers of the real tokens"
    )
    return what, why


def ambiguous(hook: Speaker, pad: int, other: str) -> None:
    """The pad token is the eos or bos token too. Warns once; raises in strict mode."""
    _tell(
        hook,
        AmbiguousPaddingWarning,
        "ST-MASK-003",
        f"pad_token_id={pad} is also the {other} token of {hook.facts.name}: which of them is padding is ambiguous",
        "the first of a trailing run was taken for the genuine eos"
        if other == "eos"
        else "the last of a leading run was taken for the genuine bos where every row begins with it",
        "pass attention_mask, or give the tokenizer a pad token of its own",
    )


def not_invariant(hook: Speaker, side: str) -> None:
    """No mask makes this class right on this side. Warns once; raises in strict mode."""
    _tell(
        hook,
        NotInvariantWarning,
        "ST-MASK-004",
        f"{hook.facts.name} is not padding-invariant: its numbers on {side}-padded rows are wrong with any mask",
        "measured: a row alone differs from the padded row with the right mask (docs/padding-conformance.md)"
        if hook.facts.takes("attention_mask")
        else "its forward takes no mask",
        'with safetransformers.policy(padding="exact"): ...  # rows run unpadded, in groups of equal length',
    )
    hook.told = True


def no_cache(hook: Speaker) -> None:
    """Left-padded rows were rolled, so that their cache cannot be returned. Warns once; raises in strict mode."""
    _tell(
        hook,
        NoCacheWarning,
        "ST-MASK-010",
        f"{hook.facts.name} returns no cache for left-padded rows: past_key_values is None",
        "its rows were run with their padding last, and a cache of such rows cannot be gone on from",
        "pass use_cache=False where you need none, or pad on the right",
    )


def unmeasured(hook: Speaker) -> None:
    """The class is not in the measurements. Warns once; raises in strict mode."""
    _tell(
        hook,
        UnmeasuredArchitectureWarning,
        "ST-MASK-005",
        f"padding of {hook.facts.name} was masked, but nobody measured whether that makes it right",
        "the class is not among the measured ones (docs/padding-conformance.md)",
        "print(safetransformers.audit_padding(model))",
    )


def right_padded_prompt(hook: Speaker) -> None:
    """A decoder-only prompt ends in padding. Warns once; raises in strict mode."""
    _tell(
        hook,
        RightPaddedPromptWarning,
        "ST-MASK-009",
        f"{hook.facts.name}.generate() was given right-padded prompts: their continuations start from a pad token",
        "a decoder-only model continues the last column of the batch",
        'tokenizer.padding_side = "left"',
    )


def is_told(hook: Speaker) -> bool:
    """Whether the caller of a masked call has nothing more to be told: keeps the sync off all calls but the first."""
    return not policies.is_strict(hook.layer) and hook.told


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def mode_when_traced(layer: tuple[tuple[str, Any], ...]) -> str:
    """The padding mode as a constant of the traced graph."""
    return policies.resolve("padding", dict(layer))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def wrong_when_traced(name: str, always: bool) -> bool:
    """A class that no mask makes right is traced or compiled, where rows cannot be moved. Warns once."""
    which = "padded rows" if always else "pooled outputs of left-padded rows"
    text = message(
        "ST-MASK-011",
        f"{name} is compiled or traced, where its {which} are wrong with any mask",
        "what makes them right moves rows, which needs to look at values",
        "run padded batches eagerly, or run rows of one length together",
        _OFF,
    )
    warn_once(NotInvariantWarning, f"{name} traced", text)
    return True


def refuse_traced(mode: str, name: str) -> None:
    """Under a policy that needs values, a call without a mask cannot be exported, traced or captured.

    Raises:
        PaddingError: always.
    """
    raise PaddingError(
        "ST-MASK-008",
        f'padding="{mode}" cannot look at values while {name} is traced',
        why="whether the batch is padded is not known then",
        do="pass an attention_mask",
        off='with safetransformers.policy(padding="infer"): ...',
    )


def _tell(hook: Speaker, category: type[PaddingWarning], code: str, what: str, why: str, do: str) -> None:
    if policies.is_strict(hook.layer):
        count("padding.raised")
        raise PaddingError(code, what, why=why, do=do, off=_OFF)
    count("padding.warned")
    warn_once(category, hook.facts.name, message(code, what, why, do, _OFF))
