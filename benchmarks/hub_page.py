"""The rows of the hub matrix in their CSV, what they say against the target, and the page of the documentation."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from hub_cells import hub_answers
from measuring import RESULTS

PAGE: Final = Path(__file__).parent.parent / "docs" / "hub-faults.md"
MAX_LOAD_S: Final = 5.0
MAX_FIRST_S: Final = 2.0
MAX_LATER_S: Final = 0.1
RIGHT, ERROR, HUNG, WRONG = "right", "error", "hung", "WRONG"


class Row(NamedTuple):
    """One cell of the matrix, as measured.

    ``later_s`` is the median of up to three loads after the first; ``offline_s`` and ``offline_later_s`` are the same
    of plain transformers with ``HF_HUB_OFFLINE=1``, in the same run; the later ones in the same process, right after
    the guarded ones, where that cache can be read so. Empty where there is none.
    """

    date: str
    transformers: str
    huggingface_hub: str
    http: str
    torch: str
    cpu: str
    state: str
    has_copy: str
    fault: str
    entry: str
    which: str
    outcome: str
    detail: str
    first_s: str
    later_s: str
    offline_s: str
    offline_later_s: str


def csv_path(version: str) -> Path:
    """Where the rows of one transformers version are stored."""
    return RESULTS / f"hub_faults_{version}.csv"


def read_csv(path: Path) -> list[Row]:
    """The rows of a run, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def merge_csv(rows: Iterable[Row], version: str) -> None:
    """Put rows in the place of those of the same cells; the others stay."""
    merged = {_cell(row): row for row in [*read_csv(csv_path(version)), *rows]}
    RESULTS.mkdir(exist_ok=True)
    with csv_path(version).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(merged[cell] for cell in sorted(merged))


def verdict(rows: Iterable[Row]) -> list[str]:
    """What the guarded rows say against the target."""
    guarded = [row for row in rows if row.which == "guarded"]
    with_copy = [row for row in guarded if row.has_copy]
    right = [row for row in with_copy if row.outcome == RIGHT]
    in_time = [row for row in right if _slowest_s(row) <= MAX_LOAD_S]
    wrong = [row for row in guarded if row.outcome == WRONG]
    lines = [
        (
            f"cells with a complete sound snapshot: {len(with_copy)}; right: {len(right)}; "
            f"right and within {MAX_LOAD_S:g} s: {len(in_time)}: "
            f"{'met' if len(in_time) == len(with_copy) else 'MISSED'}"
        ),
        f"silently bad, of all {len(guarded)} guarded cells: {len(wrong)}: {'MISSED' if wrong else 'met'}",
    ]
    away = [row for row in right if not hub_answers(row.fault)]
    for what, limit_s, added in (("first", MAX_FIRST_S, _first_added_s), ("later", MAX_LATER_S, _later_added_s)):
        times = [(added(row), row) for row in away]
        if times:
            worst_s, row = max(times, key=lambda pair: pair[0])
            over = sum(added_s > limit_s for added_s, _ in times)
            lines.append(
                f"{what} load over that of HF_HUB_OFFLINE=1, while the hub is away: median "
                f"{statistics.median(added_s for added_s, _ in times):.2f} s, worst {worst_s:.2f} s ({row.state}, "
                f"{row.fault}, {row.entry}), {over} of {len(times)} over {limit_s:g} s: {'MISSED' if over else 'met'}"
            )
    return lines


def is_late(row: Row) -> bool:
    """Whether a time may be that of other work on the machine.

    A right guarded load takes longer than the target allows while the hub is away, or any load hangs though it answers.
    """
    if row.outcome == HUNG and hub_answers(row.fault):
        return True
    if row.which != "guarded" or not row.has_copy or row.outcome != RIGHT or hub_answers(row.fault):
        return False
    return _slowest_s(row) > MAX_LOAD_S or _first_added_s(row) > MAX_FIRST_S or _later_added_s(row) > MAX_LATER_S


def better(row: Row, again: Row) -> Row:
    """Of two measurements the one that counts: not a doubtful hang, else the worse outcome, else the sooner."""
    if row.outcome == HUNG or again.outcome != RIGHT:
        return again
    return min(row, again, key=lambda one: max(_first_added_s(one) / MAX_FIRST_S, _later_added_s(one) / MAX_LATER_S))


def failures(rows: Iterable[Row]) -> list[str]:
    """The guarded cells that miss the target, one line each."""
    return [
        f"{row.state}, {row.fault}, {row.entry}: {row.outcome} {row.detail} {row.first_s} s, later {row.later_s} s"
        for row in rows
        if row.which == "guarded"
        and (row.outcome == WRONG or (row.has_copy and (row.outcome != RIGHT or _slowest_s(row) > MAX_LOAD_S)))
    ]


def write_page() -> None:
    """Write the page from the CSVs of all versions."""
    runs = {path.stem.rpartition("_")[2]: read_csv(path) for path in sorted(RESULTS.glob("hub_faults_*.csv"))}
    parts = (_introduction(runs), _verdicts(runs), _faults(runs), _states(runs), _refused(runs), _reproduce())
    PAGE.write_text("\n".join(line for part in parts for line in part).rstrip() + "\n", encoding="utf-8")


def _introduction(runs: dict[str, list[Row]]) -> Iterator[str]:
    rows = [row for run in runs.values() for row in run]
    faults = {row.fault for row in rows} - {"none"}
    yield "# Hub faults"
    yield ""
    yield "Made by `python benchmarks/hub_faults.py --write`; do not edit."
    yield ""
    yield (
        f"What a load does when the way to the hub is broken: {len(faults)} faults and "
        f"{len({row.state for row in rows})} states of the cache, plain transformers and guarded. Each cell is a fork "
        "of a warm process that talks to a hub on 127.0.0.1, which fails as the name of the fault says; "
        "huggingface_hub, its cache and its downloader are the real ones. `AutoConfig`, `AutoTokenizer`, `AutoModel` "
        "and `pipeline` load all-MiniLM-L6-v2 (91 MB); the others load tiny models: sharded weights, a PEFT adapter "
        "with its base model, remote code, a feature extractor, a `GenerationConfig`."
    )
    yield ""
    yield (
        "A load is *right* where weights, configuration, vocabulary and token ids are, bit for bit, those of a load "
        "of the folder of one commit that is whole in the cache, or that the hub has now; anything else that comes "
        "back without an error is *silently bad*. A load that has not ended after 20 s is *hung*, and counted with "
        "20 s. A cell is as good as the worst of its loads: the first of the process, and up to three later ones."
    )
    yield ""
    for run in runs.values():
        row = run[0]
        dates = sorted({row.date for row in run})
        yield (
            f"- transformers {row.transformers}, huggingface_hub {row.huggingface_hub}, {row.http}, torch {row.torch}, "
            f"one thread, {row.cpu}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}."
        )
    yield ""


def _verdicts(runs: dict[str, list[Row]]) -> Iterator[str]:
    yield "## Target and result"
    yield ""
    yield (
        f"Every guarded cell with a complete sound snapshot loads right, none takes over {MAX_LOAD_S:g} s, nothing is "
        f"silently bad; while the hub is away, the first load takes at most {MAX_FIRST_S:g} s more than with "
        f"`HF_HUB_OFFLINE=1`, each later one at most {MAX_LATER_S:g} s more. (It is not away where only the bytes of "
        "files fail to come, or where it recovers: there it is asked, as ever.) A cell over these times, and one that "
        "hangs though the hub answers, is measured again, alone and up to three times, and its best time counts; so "
        "does a worse outcome. The machine has two cores and had other work: the seconds of plain transformers, "
        "several cells at a time, say what hangs and for how long one waits, not how fast it is."
    )
    for version, rows in runs.items():
        yield ""
        yield f"transformers {version}:"
        yield ""
        yield from (f"- {line}" for line in [*verdict(rows), *failures(rows)])
    yield ""


def _faults(runs: dict[str, list[Row]]) -> Iterator[str]:
    yield "## A complete cache, by fault"
    yield ""
    yield "Loads that are right, of all; median and worst seconds of the first load."
    yield ""
    yield from _table(runs, ("fault",), lambda row: (row.fault,) if row.state == "complete" else None)
    yield ""


def _states(runs: dict[str, list[Row]]) -> Iterator[str]:
    yield "## By state of the cache"
    yield ""
    yield (
        "*branch*, *tag* and *commit*: that revision is cached, beside the default branch, and asked for. "
        "*half-upgraded*: the newest commit has its configuration only, the one before is whole. *corrupt*: the newest "
        "commit's weights are cut off, the one before is whole. *stale*: the hub has a newer commit. "
        "*snapshot_download*: filled by that function. *empty*, *partial* and *corrupt, no other* have no sound "
        "copy: an error is what can be had while the hub is away."
    )
    yield ""
    yield from _table(
        runs,
        ("state", "fault"),
        lambda row: (row.state, row.fault) if row.state != "complete" or row.fault in _FEW else None,
    )
    yield ""


_FEW: Final = ("none", "refused", "hang")


def _table(
    runs: dict[str, list[Row]], titles: tuple[str, ...], key: Callable[[Row], tuple[str, ...] | None]
) -> Iterator[str]:
    columns = [(version, which) for version in runs for which in ("plain", "guarded")]
    groups: dict[tuple[str, ...], dict[tuple[str, str], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for version, rows in runs.items():
        for row in rows:
            if (found := key(row)) is not None:
                groups[found][version, row.which].append(row)
    yield "| " + " | ".join([*titles, *(f"{version} {which}" for version, which in columns)]) + " |"
    yield "|---" * (len(titles) + len(columns)) + "|"
    for found in sorted(groups, key=lambda found: (found[0] != "none", found)):
        cells = [_told(groups[found].get(column, [])) for column in columns]
        yield "| " + " | ".join([*found, *cells]) + " |"


def _told(rows: list[Row]) -> str:
    if not rows:
        return ""
    right = sum(row.outcome == RIGHT for row in rows)
    times = [float(row.first_s) for row in rows]
    others = [
        f"{count} {word}"
        for word, outcome in (("hung", HUNG), ("**silently bad**", WRONG))
        if (count := sum(row.outcome == outcome for row in rows))
    ]
    remark = f", {', '.join(others)}" if others else ""
    return f"{right} of {len(rows)}{remark}; {statistics.median(times):.1f} / {max(times):.1f} s"


def _refused(runs: dict[str, list[Row]]) -> Iterator[str]:
    yield "## What the guarded loads without a sound copy end with"
    yield ""
    counts: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for version, rows in runs.items():
        for row in rows:
            if row.which == "guarded" and not row.has_copy and row.outcome != RIGHT:
                counts[row.state, row.fault, f"{row.outcome} {row.detail}".strip()].append(f"{row.entry} ({version})")
    for (state, fault, what), names in sorted(counts.items()):
        yield f"- {state}, {fault}: {what}: {', '.join(names)}"
    yield ""


def _reproduce() -> Iterator[str]:
    yield "## Run it again"
    yield ""
    yield "```sh"
    yield "make .venv/.installed .venv-4.57/.installed"
    yield "for python in .venv/bin/python .venv-4.57/bin/python; do"
    yield "    OMP_NUM_THREADS=1 $python benchmarks/hub_faults.py --write"
    yield "done"
    yield "```"
    yield ""
    yield (
        "`--faults`, `--states` and `--entries` narrow it, `--no-plain` leaves plain transformers out, `--jobs` says "
        "how many cells run at a time. All rows: `benchmarks/results/hub_faults_*.csv`."
    )


def _cell(row: Row) -> tuple[str, str, str, str]:
    return row.state, row.fault, row.entry, row.which


def _slowest_s(row: Row) -> float:
    return max(float(row.first_s), float(row.later_s or 0))


def _first_added_s(row: Row) -> float:
    return float(row.first_s) - float(row.offline_s)


def _later_added_s(row: Row) -> float:
    return float(row.later_s) - float(row.offline_later_s)
