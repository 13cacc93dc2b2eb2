"""The documentation page of the conformance run."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from padding_cases import DECODER_ROW_LENGTHS, ROW_LENGTHS, TOLERANCE
from padding_decision import NEEDS_A_KERNEL
from padding_guarded import RIGHT, SAID_SO, SILENTLY_WRONG, STATUSES, Conformance
from padding_rows import CASES, Row, by_triple, csv_path

import safetransformers

_TITLES = {
    "right": "right padding, no mask passed",
    "left": "left padding, no mask passed",
    "pad is eos": "pad is eos, one genuine eos, right padding",
    "padded decoder": "decoder ids padded beside padded encoder ids",
}


PAGE = Path(__file__).parent.parent / "docs" / "padding-conformance.md"


def write_page(found: list[Conformance], rows: list[Row], date: str) -> None:
    """Write the page from a whole run."""
    measured = [conformance for conformance in found if conformance.calls]
    parts = (
        _introduction(measured, date),
        _summary(measured, rows),
        _exact(rows),
        _not_invariant(rows),
        _wrong(rows),
        _left_out(found),
    )
    PAGE.write_text("\n".join(line for part in parts for line in part) + "\n", encoding="utf-8")


def _introduction(measured: list[Conformance], date: str) -> Iterator[str]:
    types = {conformance.triple.model_type for conformance in measured}
    lengths = ", ".join(map(str, ROW_LENGTHS))
    yield "# Padding conformance"
    yield ""
    yield "Made by `python benchmarks/padding_conformance.py`; do not edit."
    yield ""
    yield (
        f"Each of {len(measured)} (Auto class, model type, class) triples of {len(types)} text model types is built "
        f"small and random. Rows of {lengths} tokens are run padded, by `model(input_ids=ids)` with no mask. Every "
        "output on the real tokens is compared with that of the same row run alone by plain transformers in the "
        "same process. A triple is right where the largest difference is at most "
        f"{TOLERANCE:g} of the largest value, in every output field and in every way to call it: with and without "
        "decoder ids for an encoder-decoder, intermediate hidden states included where the class returns them. "
        f"Padded decoder rows have {', '.join(map(str, DECODER_ROW_LENGTHS))} tokens."
    )
    yield ""
    processor = platform.processor() or platform.machine()
    yield (
        f"safetransformers {safetransformers.__version__}, transformers {transformers.__version__}, torch "
        f"{torch.__version__}, Python {platform.python_version()}, CPU {processor}, {date}."
    )
    yield ""


def _summary(measured: list[Conformance], rows: list[Row]) -> Iterator[str]:
    yield "## Plain and guarded"
    yield ""
    yield "| case | triples | plain: right | guarded: " + " | guarded: ".join(STATUSES) + " |"
    yield "|---" * (3 + len(STATUSES)) + "|"
    for case in CASES:
        plain, guarded = by_triple(rows, case, "plain"), by_triple(rows, case, "guarded")
        cells = [_TITLES[case], plain.total(), plain[RIGHT], *(guarded[status] for status in STATUSES)]
        yield "| " + " | ".join(map(str, cells)) + " |"
    identical = sum(conformance.unpadded_is_identical for conformance in measured)
    blank = " |" * (len(STATUSES) - 1)
    yield f"| no padding, a pad id inside a row: bit-identical | {len(measured)} | | {identical} |{blank}"
    yield ""
    yield (
        "*Said so*: no mask makes the class right, and one `NotInvariantWarning` says so. *Refused*: a `PaddingError`. "
        "*Silently wrong* is what must not happen. *Right but for hidden_states*: all that a default call returns is "
        "right; the intermediate states of `output_hidden_states=True` are not."
    )
    yield ""


def _exact(rows: list[Row]) -> Iterator[str]:
    yield "## Exact and strict"
    yield ""
    right = sum(row.exact == RIGHT for row in rows)
    raised = sum(row.strict_raises for row in rows)
    yield f'- `padding="exact"`: {right} of {len(rows)} padded calls are right.'
    yield f"- `strict()`: {raised} of {len(rows)} padded calls raise `PaddingError`."
    failures: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.exact != RIGHT:
            failures[row.exact.replace(row.cls_name, "the class")].add(f"`{row.cls_name}`")
    for reason, names in sorted(failures.items()):
        yield f"- not right with exact: {', '.join(sorted(names))}: {reason}"
    yield ""


def _call(row: Row) -> str:
    return f"{_TITLES[row.case].partition(',')[0]}" + (f" ({row.form})" if row.form else "")


def _not_invariant(rows: list[Row]) -> Iterator[str]:
    yield "## Not padding-invariant, and said so"
    yield ""
    classes: dict[str, set[str]] = defaultdict(set)
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.guarded == SAID_SO:
            classes[row.model_type].add(row.cls_name)
            sides[row.model_type].add(row.case)
    for model_type in sorted(classes):
        names = ", ".join(f"`{name}`" for name in sorted(classes[model_type]))
        remark = "; not measurable without its CUDA kernel" if model_type == NEEDS_A_KERNEL else ""
        yield f"- **{model_type}** ({', '.join(sorted(sides[model_type]))}{remark}): {names}"
    right_and_warned = {row.cls_name for row in rows if row.warned and row.guarded == RIGHT}
    warned = sorted(right_and_warned.difference(*classes.values()))
    if warned:
        yield ""
        yield f"Warned about, though right here: {', '.join(f'`{name}`' for name in warned)}."
    yield ""


def _wrong(rows: list[Row]) -> Iterator[str]:
    wrong = [row for row in rows if row.guarded not in (RIGHT, SAID_SO)]
    if not wrong:
        return
    yield f"## Refused, crashed or {SILENTLY_WRONG}"
    yield ""
    for row in wrong:
        yield f"- {row.guarded}: `{row.cls_name}`, {_call(row)}: {row.guarded_error} {row.wrong_field}".rstrip()
    yield ""


def _left_out(found: list[Conformance]) -> Iterator[str]:
    covered = {conformance.triple.model_type for conformance in found if conformance.calls}
    reasons: dict[str, str] = {}
    classes: list[str] = []
    for conformance in found:
        triple, reason = conformance.triple, conformance.left_out
        if not reason:
            continue
        if triple.model_type not in covered:
            reasons.setdefault(triple.model_type, reason)
        else:
            classes.append(f"- `{triple.cls_name}`: {reason}")
    yield f"## Left out: {len(reasons)} model types"
    yield ""
    yield from (f"- **{model_type}**: {reason}" for model_type, reason in sorted(reasons.items()))
    if classes:
        yield ""
        yield "Single classes of types that are covered:"
        yield ""
        yield from classes
    yield ""
    yield f"All rows: `benchmarks/results/{csv_path(transformers.__version__).name}`."
