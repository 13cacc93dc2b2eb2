"""One CSV row for each thing that was measured, where it was measured, and the file that holds the rows."""

from __future__ import annotations

import csv
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

PLAIN: Final = "plain"


class Machine(NamedTuple):
    """Where and with what: rows of the same machine, versions and sources need not be measured again.

    ``source`` is a digest of the package's and the benchmark's files: unlike a commit it is the same with and without
    git, and after a commit that changes the documentation alone.
    """

    device: str
    driver: str
    cores: str
    python: str
    torch: str
    transformers: str
    safetransformers: str
    source: str


class Case(NamedTuple):
    """What is measured; empty where a column says nothing about it.

    Attributes:
        section: the part of the page.
        subject: the model, or what else is called.
        place: of the tensors: ``cpu``, ``cuda`` or ``meta``.
        mode: ``eager``, ``compile``, ``CUDA graph``.
        call: what is passed.
        batch: rows of the batch, or processes that load at once.
        sequence: tokens of a row.
    """

    section: str
    subject: str
    place: str = "cpu"
    mode: str = "eager"
    call: str = ""
    batch: int = 0
    sequence: int = 0


class Row(NamedTuple):
    """One quantity of one variant of a case: median and quartiles over ``rounds``.

    ``ratio`` and ``added`` compare it with plain transformers round by round, so that a slow spell of the machine falls
    on both; None where there is nothing to compare.
    """

    date: str
    commit: str
    machine: Machine
    case: Case
    variant: str
    quantity: str
    unit: str
    rounds: int
    median: float
    q1: float
    q3: float
    ratio: float | None = None
    ratio_q1: float | None = None
    ratio_q3: float | None = None
    added: float | None = None
    added_q1: float | None = None
    added_q3: float | None = None
    note: str = ""


_NUMBERS: Final = Row._fields[8:17]
_FIELDS: Final = ("date", "commit", *Machine._fields, *Case._fields, *Row._fields[4:])


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, first and third quartile; of a single value three times itself."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return median, first, third


class Stamp(NamedTuple):
    """What every row of a run begins with."""

    date: str
    commit: str
    machine: Machine


def compared(
    stamp: Stamp, case: Case, quantity: str, unit: str, values: Mapping[str, Sequence[float]], note: str = ""
) -> list[Row]:
    """The rows of one quantity, from each variant's value in each round.

    Args:
        stamp: of the run.
        case: that was measured.
        quantity: such as ``time``.
        unit: of the values.
        values: by variant; those of ``plain`` are what the others are compared with.
        note: for the row's last column.
    """
    plain = values.get(PLAIN)
    rows = []
    for variant, own in values.items():
        row = Row(*stamp, case, variant, quantity, unit, len(own), *quartiles(own), note=note)
        if plain is not None and variant != PLAIN:
            added = quartiles([b - a for a, b in zip(plain, own, strict=True)])
            row = row._replace(added=added[0], added_q1=added[1], added_q3=added[2])
            if all(plain):
                ratio = quartiles([b / a for a, b in zip(plain, own, strict=True)])
                row = row._replace(ratio=ratio[0], ratio_q1=ratio[1], ratio_q3=ratio[2])
        rows.append(row)
    return rows


def read(path: Path) -> list[Row]:
    """The rows of a file; none where there is no file.

    Raises:
        ValueError: for a file whose columns are not those of a row.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != _FIELDS:
            raise ValueError(f"{path.name} has other columns than these: {', '.join(_FIELDS)}. Remove it and run again")
        return [_parsed(line) for line in reader]


def _parsed(line: Mapping[str, str]) -> Row:
    texts = {name: line[name] for name in Case._fields[:5]}
    case = Case(**texts, batch=int(line["batch"] or 0), sequence=int(line["sequence"] or 0))
    numbers = {name: float(line[name]) if line[name] else None for name in _NUMBERS}
    return Row(
        line["date"],
        line["commit"],
        Machine(*(line[name] for name in Machine._fields)),
        case,
        line["variant"],
        line["quantity"],
        line["unit"],
        int(line["rounds"]),
        **numbers,  # type: ignore[arg-type]  # a written row has its median and quartiles
        note=line["note"],
    )


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a file anew; a run that is cut off leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_FIELDS)
        for row in sorted(rows, key=lambda row: (row.machine, row.case)):
            numbers = ["" if value is None else f"{value:.6g}" for value in row[8:17]]
            case = [value or "" for value in row.case]
            writer.writerow([row.date, row.commit, *row.machine, *case, *row[4:8], *numbers, row.note])
    os.replace(part, path)


def put(path: Path, new: Sequence[Row]) -> None:
    """Put rows in the place of those of the same cases, machine and versions; git has the older ones."""
    replaced = {(row.machine._replace(source=""), row.case) for row in new}
    kept = [row for row in read(path) if (row.machine._replace(source=""), row.case) not in replaced]
    write(path, [*kept, *new])


def is_measured(rows: Iterable[Row], machine: Machine, case: Case) -> bool:
    """Whether the rows have this case, on this machine, with these versions and sources."""
    return any(row.case == case and row.machine == machine for row in rows)
