"""Measure, for one class, which padding strategies leave the outputs of the real tokens as they are without padding."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any, Literal, TypedDict

import torch
from padding_cases import (
    DECODER_ROW_LENGTHS,
    ROW_LENGTHS,
    TOLERANCE,
    Batch,
    CallForm,
    Fields,
    Side,
    attempt,
    field_errors,
    pad_rows,
    positions,
    random_rows,
    rolled,
    run,
    runs_in_double,
    takes,
)
from tiny_models import Triple, usable_model, why_not
from torch import Tensor
from transformers import PreTrainedModel

from safetransformers.testing.configs import EOS_TOKEN_ID

SIDES: tuple[Side, ...] = ("right", "left")
Strategy = Literal["none", "mask", "positions", "roll"]
Errors = dict[str, float]
"""Largest relative error by output field."""
Outcome = Errors | str
"""The errors, or the exception that the call raised."""


class Measurement(TypedDict, total=False):
    """What was found for one triple; `left_out` alone where the model cannot be built or run on ids."""

    triple: Triple
    left_out: str
    takes_mask: bool
    takes_position_ids: bool
    builds_positions_from_ids: bool
    mask_is_noop: bool
    caches: bool
    options: dict[str, Any]
    cases: dict[str, Outcome]


def is_right(outcome: Outcome, tolerance: float = TOLERANCE) -> bool:
    """Tell whether every output field of a case is as without padding."""
    return isinstance(outcome, dict) and bool(outcome) and all(error <= tolerance for error in outcome.values())


def message(error: Exception) -> str:
    """Give an exception's type and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def _case_arguments(model: PreTrainedModel, batch: Batch, strategy: Strategy) -> tuple[Batch, dict[str, Any]] | None:
    """Give the batch to run and the arguments that a strategy adds; None where the class cannot take them."""
    masked = {"attention_mask": batch.mask} if takes(model, "attention_mask") else {}
    if strategy == "none":
        return batch, {}
    if strategy == "roll":
        front = rolled(batch)
        arguments = {"attention_mask": front.mask} if masked else {}
        return front, arguments | ({"use_cache": False} if takes(model, "use_cache") else {})
    if not masked:
        return None
    if strategy == "mask":
        return batch, masked
    if not takes(model, "position_ids"):
        return None
    return batch, masked | {"position_ids": positions(batch.mask)}


def _outcome(
    model: PreTrainedModel,
    form: CallForm,
    batch: Batch,
    arguments: dict[str, Any],
    alone: list[Fields],
    rows: list[Tensor],
) -> Outcome:
    output = attempt(run, model, batch.ids, decoder=form.decoder, **(form.options | arguments))
    return message(output) if isinstance(output, Exception) else field_errors(batch, output, alone, rows)


def _alone(model: PreTrainedModel, form: CallForm, rows: list[Tensor]) -> list[Fields]:
    return [run(model, row[None], index, decoder=form.decoder, **form.options) for index, row in enumerate(rows)]


def _equal_length_outcomes(model: PreTrainedModel, form: CallForm) -> dict[str, Outcome]:
    """Compare rows of one length with each row alone: what `padding="exact"` relies on."""
    rows = random_rows((ROW_LENGTHS[1],) * 3, seed=2)
    alone = _alone(model, form, rows)
    batch = pad_rows(rows, "right")
    outcomes = {"equal lengths": _outcome(model, form, batch, {}, alone, rows)}
    if takes(model, "attention_mask"):
        outcomes["all ones"] = _outcome(model, form, batch, {"attention_mask": batch.mask}, alone, rows)
    return outcomes


def _padded_decoder_outcome(model: PreTrainedModel, form: CallForm) -> dict[str, Outcome]:
    """Pad the decoder's tokens on the right, beside encoder rows of one length."""
    if not form.decoder:
        return {}
    rows, targets = random_rows((ROW_LENGTHS[1],) * 3), random_rows(DECODER_ROW_LENGTHS, seed=3)
    pairs = zip(rows, targets, strict=True)
    alone = [run(model, row[None], **form.options, decoder_input_ids=target[None]) for row, target in pairs]
    padded = pad_rows(targets, "right")
    arguments = {"decoder_input_ids": padded.ids}
    if takes(model, "decoder_attention_mask"):
        arguments["decoder_attention_mask"] = padded.mask
    output = attempt(run, model, torch.stack(rows), **(form.options | arguments))
    if isinstance(output, Exception):
        return {"padded decoder": message(output)}
    return {"padded decoder": field_errors(padded, output, alone, targets)}


def _padded_outcomes(model: PreTrainedModel, form: CallForm) -> dict[str, Outcome]:
    rows = random_rows()
    alone = _alone(model, form, rows)
    outcomes: dict[str, Outcome] = {}
    for side in SIDES:
        batch = pad_rows(rows, side)
        for strategy in ("none", "mask", "positions", "roll"):
            if strategy == "roll" and side == "right":
                continue
            case = _case_arguments(model, batch, strategy)
            if case is not None:
                outcomes[f"{side}/{strategy}"] = _outcome(model, form, *case, alone, rows)
    return outcomes


@contextlib.contextmanager
def using_pad_token_id(model: PreTrainedModel, pad_token_id: int) -> Iterator[None]:
    """Give the model another pad token for a while, as users do who set the eos token for it."""
    configs = (model.config, model.config.get_text_config())
    before = [config.pad_token_id for config in configs]
    for config in configs:
        config.pad_token_id = pad_token_id
    yield
    for config, value in zip(configs, before, strict=True):
        config.pad_token_id = value


def _pad_is_eos_outcomes(model: PreTrainedModel, form: CallForm) -> dict[str, Outcome]:
    """Right padding with the eos token after one genuine eos: masked behind it, and masked with it."""
    with using_pad_token_id(model, EOS_TOKEN_ID):
        return _pad_is_eos_cases(model, form)


def _pad_is_eos_cases(model: PreTrainedModel, form: CallForm) -> dict[str, Outcome]:
    rows = random_rows()
    alone = _alone(model, form, rows)
    batch = pad_rows(rows, "right", EOS_TOKEN_ID)
    outcomes = {"pad is eos/none": _outcome(model, form, batch, {}, alone, rows)}
    if takes(model, "attention_mask"):
        every_eos = (batch.ids != EOS_TOKEN_ID).long()
        for name, mask in (("mask", batch.mask), ("mask genuine eos too", every_eos)):
            arguments = {"attention_mask": mask}
            outcomes[f"pad is eos/{name}"] = _outcome(model, form, batch, arguments, alone, rows)
    return outcomes


@torch.no_grad()
def _mask_is_noop(model: PreTrainedModel, form: CallForm) -> bool:
    """Tell whether masking real tokens changes nothing at all: a signature cannot reveal a dummy parameter."""
    if not takes(model, "attention_mask"):
        return False
    batch = pad_rows(random_rows((ROW_LENGTHS[1],) * 3), "right")
    mask = batch.mask.clone()
    mask[:, -3:] = 0
    plain = run(model, batch.ids, decoder=form.decoder, **form.options)
    masked = attempt(run, model, batch.ids, decoder=form.decoder, **form.options, attention_mask=mask)
    if isinstance(masked, Exception):
        return False
    return plain.keys() == masked.keys() and all(torch.equal(plain[name], masked[name]) for name in plain)


def _builds_positions_from_ids(model: PreTrainedModel) -> bool:
    module = sys.modules[type(model).__module__]
    return "create_position_ids_from_input_ids" in inspect.getsource(module)


def _outcomes(triple: Triple, model: PreTrainedModel, forms: list[CallForm]) -> dict[str, Outcome]:
    cases: dict[str, Outcome] = {}
    for form in forms:
        found = _padded_outcomes(model, form) | _equal_length_outcomes(model, form)
        found |= _padded_decoder_outcome(model, form)
        cases |= {f"{form.name}: {name}" if len(forms) > 1 else name: outcome for name, outcome in found.items()}
    if triple.auto == "AutoModelForCausalLM":
        cases |= _pad_is_eos_outcomes(model, forms[0])
    return cases


def _better(single: Outcome, double: Outcome) -> Outcome:
    """Take the outcome in float64, unless only float32 runs or is right: some classes hold constants of float32."""
    return single if is_right(single) or isinstance(double, str) else double


def measure(triple: Triple) -> Measurement:
    """Measure one triple under every padding case.

    Args:
        triple: What to build.

    Returns:
        The outcome of each case by its name, `side/strategy`, with the call form in front where there are two.
    """
    torch.set_num_threads(1)
    usable = attempt(usable_model, triple)
    if isinstance(usable, Exception):
        return {"triple": triple, "left_out": why_not(triple, usable)}
    model, forms = usable
    cases = _outcomes(triple, model, forms)
    noop = _mask_is_noop(model, forms[0])
    if not all(map(is_right, cases.values())) and runs_in_double(model, random_rows()[0], forms):
        cases = {name: _better(cases[name], outcome) for name, outcome in _outcomes(triple, model, forms).items()}
    return {
        "triple": triple,
        "takes_mask": takes(model, "attention_mask"),
        "takes_position_ids": takes(model, "position_ids"),
        "builds_positions_from_ids": _builds_positions_from_ids(model),
        "mask_is_noop": noop,
        "caches": takes(model, "use_cache") and bool(getattr(model.config.get_text_config(), "use_cache", False)),
        "options": forms[0].options,
        "cases": cases,
    }
