"""The documentation page of the conformance run."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from padding_cases import DECODER_ROW_LENGTHS, ROW_LENGTHS, TOLERANCE
from padding_guarded import RIGHT, SAID_SO, SILENTLY_WRONG, Conformance
from padding_rows import CASES, STATUSES, Row, by_triple, csv_path

import safetransformers

_TITLES = {
    "right": "right padding, no mask passed",
    "left": "left padding, no mask passed",
    "pad is eos": "pad is eos, one genuine eos, right padding",
    "padded decoder": "decoder ids padded beside padded encoder ids",
}


def page_path() -> Path:
    """Say where the page is: the newest supported transformers has the plain name."""
    suffix = "" if transformers.__version__.startswith("5.") else f"-{transformers.__version__}"
    return Path(__file__).parent.parent / "docs" / f"padding-conformance{suffix}.md"


def write_page(found: list[Conformance], rows: list[Row], date: str) -> None:
    """Write the page from a whole run."""
    measured = [conformance for conformance in found if conformance.guarded]
    parts = (
        _introduction(measured, date),
        _summary(measured, rows),
        _exact(rows),
        _not_invariant(rows),
        _wrong(rows),
        _left_out(found),
    )
    page_path().write_text("\n".join(line for part in parts for line in part) + "\n", encoding="utf-8")


def _introduction(measured: list[Conformance], date: str) -> Iterator[str]:
    types = {conformance.plain["triple"].model_type for conformance in measured}
    lengths = ", ".join(map(str, ROW_LENGTHS))
    yield "# Padding conformance"
    yield ""
    yield "Made by `python benchmarks/padding_conformance.py`; do not edit."
    yield ""
    yield (
        f"Each of {len(measured)} (Auto class, model type, class) triples of {len(types)} text model types is built small "
        f"and random. Rows of {lengths} tokens are run padded, with `model(input_ids=ids)` and no mask, and every output "
        "on the real tokens is compared with the same row run alone by plain transformers in the same process. A triple is "
        f"right where the largest difference is at most {TOLERANCE:g} of the largest value, in every output field and in "
        "every way to call it: with and without decoder ids for an encoder-decoder, intermediate hidden states included "
        f"where the class returns them. Decoder rows in the last line have {', '.join(map(str, DECODER_ROW_LENGTHS))} tokens."
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
    yield f"| no padding, a pad id inside a row: bit-identical | {len(measured)} | | {identical} |" + " |" * len(STATUSES[1:])
    yield ""
    yield (
        "*Said so*: no mask makes the class right, and one `NotInvariantWarning` says so. *Refused*: a `PaddingError`. "
        "*Silently wrong* is what must not happen. The plain column of the last case has the right masks passed."
    )
    yield ""


def _exact(rows: list[Row]) -> Iterator[str]:
    yield "## Exact and strict"
    yield ""
    right = sum(row.exact == RIGHT for row in rows)
    raised = sum(row.strict_raises for row in rows)
    yield f'- `padding="exact"`: {right} of {len(rows)} padded calls are right.'
    yield f"- `strict()`: {raised} of {len(rows)} padded calls raise `PaddingError`."
    for row in rows:
        if row.exact != RIGHT:
            yield f"- not right with exact: `{row.cls_name}`, {_call(row)}: {row.exact}"
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
        yield f"- **{model_type}** ({', '.join(sorted(sides[model_type]))}): {names}"
    warned = sorted({row.cls_name for row in rows if row.warned and row.guarded == RIGHT} - set().union(*classes.values()))
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
    covered = {conformance.plain["triple"].model_type for conformance in found if conformance.guarded}
    reasons: dict[str, str] = {}
    classes: list[str] = []
    for conformance in found:
        triple, reason = conformance.plain["triple"], conformance.plain.get("left_out")
        if reason is None:
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


__all__ = ["page_path", "write_page"]
