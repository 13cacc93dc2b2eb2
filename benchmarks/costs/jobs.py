"""A job measures one case; the sections of the benchmark are lists of them, which are run here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from .machine import stamp
from .rows import Case, Row, compared, is_measured, put, read


class Reading(NamedTuple):
    """One quantity of a case.

    Attributes:
        quantity: such as ``time``.
        unit: of the values; empty for a count.
        values: of each variant, one a round.
        note: what a reader has to know of them.
    """

    quantity: str
    unit: str
    values: Mapping[str, Sequence[float]]
    note: str = ""


class Job(NamedTuple):
    """A case, and what measures it."""

    case: Case
    run: Callable[[], list[Reading]]


class Run(NamedTuple):
    """How a benchmark is run.

    Attributes:
        place: ``cpu`` or ``cuda``.
        is_quick: whether it is to end in seconds; its numbers mean little.
    """

    place: str
    is_quick: bool = False


def measure(
    section: str, jobs: Iterable[Job], place: str, path: Path, *, deadline_s: float, is_again: bool = False
) -> None:
    """Run the jobs whose case the file does not have yet; each one's rows are in the file when it ends.

    Args:
        section: to print.
        jobs: of the section.
        place: ``cpu`` or ``cuda``.
        path: of the rows.
        deadline_s: on the monotonic clock; no job is started after it.
        is_again: whether cases that the file has are measured too.
    """
    about = stamp(place)
    known = [] if is_again else read(path)
    start_s, left = monotonic(), 0
    for job in jobs:
        if is_measured(known, about.machine, job.case):
            continue
        if monotonic() > deadline_s:
            left += 1
            continue
        rows = [row for one in job.run() for row in compared(about, job.case, *one)]
        put(path, rows)
        for row in rows:
            print(told(row), flush=True)
    print(f"{section}: {monotonic() - start_s:.0f} s" + f", {left} cases left for another run" * bool(left), flush=True)


def told(row: Row) -> str:
    """A row in a line of text."""
    case = row.case
    what = ", ".join(text for text in (case.subject, case.place, case.mode, case.call) if text)
    shape = f" {case.batch} x {case.sequence}" if case.sequence else f" {case.batch}" if case.batch else ""
    ratio = "" if row.ratio is None else f", ratio {row.ratio:.3f}"
    return f"{what}{shape}: {row.variant}: {row.quantity} {row.median:.6g} {row.unit}{ratio}"
