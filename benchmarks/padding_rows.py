"""One row of the conformance table for every triple and case: the CSV, and the counts that the page shows."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from padding_cases import TOLERANCE
from padding_decision import without_hidden_states
from padding_guarded import CRASHED, RIGHT, SILENTLY_WRONG, STATUSES, WRONG_INSIDE, Conformance, Guarded
from padding_measure import Outcome, is_right

RESULTS = Path(__file__).parent / "results"
CASES = ("right", "left", "pad is eos", "padded decoder")


class Row(NamedTuple):
    """One padded call of one class: what plain transformers and the guarded model gave."""

    auto: str
    model_type: str
    cls_name: str
    form: str
    case: str
    plain: str
    plain_error: str
    guarded: str
    guarded_error: str
    wrong_field: str
    warned: bool
    exact: str
    strict_raises: bool


def largest_error(outcome: Outcome) -> tuple[str, str]:
    """Give the largest error and its field, or the exception's text."""
    if isinstance(outcome, str):
        return outcome, ""
    if not outcome:
        return "", ""
    field = max(outcome, key=lambda name: outcome[name])
    return f"{outcome[field]:.1e}", field if outcome[field] > TOLERANCE else ""


def _status(outcome: Outcome) -> str:
    if is_right(outcome):
        return RIGHT
    if is_right(without_hidden_states(outcome)):
        return WRONG_INSIDE
    return CRASHED if isinstance(outcome, str) else SILENTLY_WRONG


def _exact_status(guarded: Guarded) -> str:
    outcome = guarded["exact"]
    if is_right(outcome):
        return RIGHT
    return outcome if isinstance(outcome, str) else f"wrong by {largest_error(outcome)[0]}"


def rows_of(conformance: Conformance) -> Iterable[Row]:
    """Give the rows of one triple."""
    for name, guarded in conformance.calls.items():
        form, _, case = name.rpartition(": ")
        outcome = guarded["plain"]
        error, field = largest_error(guarded["outcome"])
        yield Row(
            *conformance.triple,
            form=form,
            case=case,
            plain=_status(outcome),
            plain_error=largest_error(outcome)[0],
            guarded=guarded["status"],
            guarded_error=error,
            wrong_field=field,
            warned=guarded["warned"],
            exact=_exact_status(guarded),
            strict_raises=guarded["strict_raises"],
        )


def by_triple(rows: Iterable[Row], case: str, column: str) -> Counter[str]:
    """Count triples by status, each by the worst of the ways to call it."""
    worst: dict[tuple[str, str, str], str] = {}
    for row in rows:
        if row.case == case:
            triple, status = (row.auto, row.model_type, row.cls_name), str(getattr(row, column))
            worst[triple] = max(worst.get(triple, RIGHT), status, key=STATUSES.index)
    return Counter(worst.values())


def summary_lines(found: list[Conformance], rows: list[Row]) -> list[str]:
    """Say in a few lines how plain transformers and the guard did."""
    measured = [conformance for conformance in found if conformance.calls]
    types = {conformance.triple.model_type for conformance in measured}
    lines = [f"{len(measured)} triples of {len(types)} model types"]
    for case in CASES:
        plain, guarded = by_triple(rows, case, "plain"), by_triple(rows, case, "guarded")
        counts = ", ".join(f"{guarded[status]} {status}" for status in STATUSES)
        lines.append(f"{case}: plain {plain[RIGHT]} right; guarded {counts}")
    identical = sum(conformance.unpadded_is_identical for conformance in measured)
    lines.append(f"no padding: {identical} of {len(measured)} bit-identical")
    lines.append(f"padding='exact' not right: {sum(row.exact != RIGHT for row in rows)} of {len(rows)} calls")
    lines.append(f"strict() did not raise: {sum(not row.strict_raises for row in rows)} of {len(rows)} calls")
    wrong = [row for row in rows if row.guarded in (SILENTLY_WRONG, CRASHED, WRONG_INSIDE)]
    return lines + [
        f"{row.guarded}: {row.cls_name} {row.form} {row.case}: {row.guarded_error} {row.wrong_field}" for row in wrong
    ]


def csv_path(version: str) -> Path:
    """Say where the rows of one transformers version are stored."""
    return RESULTS / f"padding_conformance_{version}.csv"


def write_csv(rows: Iterable[Row], version: str) -> None:
    """Write one line a row."""
    RESULTS.mkdir(exist_ok=True)
    with csv_path(version).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)
