"""Run one class under the guard and sort what happens: right, said so, refused, crashed, or silently wrong."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypedDict

import torch
from padding_cases import (
    DECODER_ROW_LENGTHS,
    ROW_LENGTHS,
    CallForm,
    Fields,
    Side,
    attempt,
    field_errors,
    pad_rows,
    random_rows,
    run,
    runs_in_double,
)
from padding_decision import without_hidden_states
from padding_measure import SIDES, Outcome, is_right, message, using_pad_token_id
from tiny_models import Triple, usable_model, why_not
from transformers import PreTrainedModel

import safetransformers
from safetransformers import notices
from safetransformers.errors import NotInvariantWarning, PaddingError
from safetransformers.testing.configs import EOS_TOKEN_ID, PAD_TOKEN_ID

RIGHT, SAID_SO, REFUSED, CRASHED, SILENTLY_WRONG = "right", "said so", "refused", "crashed", "silently wrong"
WRONG_INSIDE = "right but for hidden_states"
"""Every output is right except intermediate states, which a model returns only when asked for them."""
STATUSES = (RIGHT, WRONG_INSIDE, SAID_SO, REFUSED, CRASHED, SILENTLY_WRONG)
"""From best to worst."""


class Guarded(TypedDict):
    """What one padded call without a mask gave: plain, guarded, with `padding="exact"` and under `strict()`."""

    plain: Outcome
    status: str
    warned: bool
    outcome: Outcome
    exact: Outcome
    strict_raises: bool


class Conformance(NamedTuple):
    """One triple and its padded calls; where it is left out, the reason and nothing else."""

    triple: Triple
    left_out: str
    calls: dict[str, Guarded]
    unpadded_is_identical: bool


class _Case(NamedTuple):
    """A padded call: how to make it, and how to compare its output with the rows alone."""

    call: Callable[[], Fields]
    errors: Callable[[Fields], dict[str, float]]


@contextlib.contextmanager
def _guarded(model: PreTrainedModel) -> Iterator[list[warnings.WarningMessage]]:
    """Guard the model afresh, so that each case gives its own warnings."""
    notices.forget()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        safetransformers.guard(model)
        try:
            yield caught
        finally:
            safetransformers.unguard(model)


def _outcome(case: _Case) -> tuple[Outcome, Exception | None]:
    output = attempt(case.call)
    return (message(output), output) if isinstance(output, Exception) else (case.errors(output), None)


def _status(outcome: Outcome, error: Exception | None, warned: bool) -> str:
    if is_right(outcome):
        return RIGHT
    if isinstance(error, PaddingError):
        return REFUSED
    if warned:
        return SAID_SO
    if is_right(without_hidden_states(outcome)):
        return WRONG_INSIDE
    return SILENTLY_WRONG if error is None else CRASHED


def _strict_raises(model: PreTrainedModel, case: _Case) -> bool:
    with _guarded(model), safetransformers.strict():
        return isinstance(_outcome(case)[1], PaddingError)


def _run_case(model: PreTrainedModel, case: _Case) -> Guarded:
    plain = _outcome(case)[0]
    with _guarded(model) as caught:
        outcome, error = _outcome(case)
    warned = any(issubclass(message.category, NotInvariantWarning) for message in caught)
    with _guarded(model), safetransformers.policy(padding="exact"):
        exact = _outcome(case)[0]
    return {
        "plain": plain,
        "status": _status(outcome, error, warned),
        "warned": warned,
        "outcome": outcome,
        "exact": exact,
        "strict_raises": _strict_raises(model, case),
    }


def _padded_case(model: PreTrainedModel, form: CallForm, side: Side, pad: int = PAD_TOKEN_ID) -> _Case:
    rows = random_rows()
    alone = [run(model, row[None], index, decoder=form.decoder, **form.options) for index, row in enumerate(rows)]
    batch = pad_rows(rows, side, pad)

    def errors(output: Fields) -> dict[str, float]:
        return field_errors(batch, output, alone, rows)

    return _Case(lambda: run(model, batch.ids, decoder=form.decoder, **form.options), errors)


def _padded_decoder_case(model: PreTrainedModel, form: CallForm) -> _Case:
    """Pad the ids and the decoder's ids, each on the right."""
    rows, targets = random_rows(), random_rows(DECODER_ROW_LENGTHS, seed=3)
    pairs = zip(rows, targets, strict=True)
    alone = [run(model, row[None], **form.options, decoder_input_ids=target[None]) for row, target in pairs]
    batch, padded = pad_rows(rows, "right"), pad_rows(targets, "right")

    def errors(output: Fields) -> dict[str, float]:
        decoder = {name: value for name, value in output.items() if value.shape[1:2] == padded.ids.shape[1:]}
        encoder = {name: value for name, value in output.items() if name not in decoder}
        return field_errors(batch, encoder, alone, rows) | field_errors(padded, decoder, alone, targets)

    return _Case(lambda: run(model, batch.ids, **form.options, decoder_input_ids=padded.ids), errors)


def _cases(model: PreTrainedModel, forms: list[CallForm]) -> Iterator[tuple[str, _Case]]:
    for form in forms:
        prefix = f"{form.name}: " if len(forms) > 1 else ""
        for side in SIDES:
            yield f"{prefix}{side}", _padded_case(model, form, side)
        if form.decoder:
            yield f"{prefix}padded decoder", _padded_decoder_case(model, form)


def _all_cases(triple: Triple, model: PreTrainedModel, forms: list[CallForm]) -> dict[str, Guarded]:
    found = {name: _run_case(model, case) for name, case in _cases(model, forms)}
    if triple.auto == "AutoModelForCausalLM":
        with using_pad_token_id(model, EOS_TOKEN_ID):
            found["pad is eos"] = _run_case(model, _padded_case(model, forms[0], "right", EOS_TOKEN_ID))
    return found


def _unpadded_is_identical(model: PreTrainedModel, form: CallForm) -> bool:
    """Compare plain and guarded outputs bit by bit on rows of one length, with a pad id inside one of them."""
    batch = pad_rows(random_rows((ROW_LENGTHS[1],) * 3), "right")
    batch.ids[0, 4] = PAD_TOKEN_ID
    plain = run(model, batch.ids, decoder=form.decoder, **form.options)
    with _guarded(model):
        guarded = run(model, batch.ids, decoder=form.decoder, **form.options)
    return plain.keys() == guarded.keys() and all(torch.equal(plain[name], guarded[name]) for name in plain)


def _better(single: Guarded, double: Guarded) -> Guarded:
    """Take the run whose rounding hides nothing: float64 counts where float32 is not right only for its rounding."""
    kept = min(single, double, key=lambda guarded: STATUSES.index(guarded["status"]))
    exact, plain = (
        next((outcome for outcome in pair if is_right(outcome)), pair[0])
        for pair in ((single["exact"], double["exact"]), (single["plain"], double["plain"]))
    )
    return {**kept, "plain": plain, "exact": exact, "strict_raises": single["strict_raises"]}


def conform(triple: Triple) -> Conformance:
    """Run one triple plain and guarded, in one process."""
    torch.set_num_threads(1)
    usable = attempt(usable_model, triple)
    if isinstance(usable, Exception):
        return Conformance(triple, why_not(triple, usable), {}, unpadded_is_identical=True)
    model, forms = usable
    identical = _unpadded_is_identical(model, forms[0])
    calls = _all_cases(triple, model, forms)
    if not all(_is_clear(call) for call in calls.values()) and runs_in_double(model, random_rows()[0], forms):
        double = _all_cases(triple, model, forms)
        calls = {name: _better(calls[name], double[name]) for name in calls}
    return Conformance(triple, "", calls, identical)


def _is_clear(call: Guarded) -> bool:
    """Tell whether nothing is to be gained from a second run in float64."""
    return call["status"] in (RIGHT, SAID_SO, WRONG_INSIDE) and is_right(call["exact"])
