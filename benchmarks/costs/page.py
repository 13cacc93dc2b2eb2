"""docs/benchmarks.md, from the rows alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from .conversion import CSV, FROM_TF, last_run
from .forward import left_to_a_gpu
from .machine import ROOT
from .plots import draw
from .rows import PLAIN, Case, Machine, Row, read
from .subjects import BERT_BASE, CALLS, CONTROL, EMPTY
from .targets import TARGETS, verdict

PAGE: Final = ROOT / "docs" / "benchmarks.md"
_MACHINE_COLUMNS: Final = ("date", "cpu", "cores", "python", "torch", "transformers", "safetransformers")
_NO_GPU: Final = (
    "**No GPU was at hand when this page was made: it has no GPU rows, and no number below says anything about one.** "
    "Kernels and syncs are counted on the CPU, as operators that compute and as values that are read on the host. "
    "`make bench-gpu` on a machine that has one adds its rows."
)
Tables = Iterator[str]


def write_page(path: Path, page: Path = PAGE) -> None:
    """Write the page and its plots from the rows of a file, whichever it has."""
    rows = read(path)
    plots = page.parent / "plots"
    names = draw_plots(rows, plots)
    page.write_text(page_text(rows, last_run(CSV), last_run(FROM_TF), names), encoding="utf-8")


def page_text(
    rows: Sequence[Row],
    conversions: Sequence[dict[str, str]],
    from_tf: Sequence[dict[str, str]],
    plots: Sequence[tuple[str, str]],
) -> str:
    """The page.

    Args:
        rows: of all machines.
        conversions: rows of the conversion's last run, with its own columns.
        from_tf: rows of the last run of transformers' own path.
        plots: captions and file names.
    """
    parts = (
        _introduction(rows),
        _targets(rows),
        _plots(plots),
        _forward(rows),
        _section(rows, "compiled", "torch.compile and CUDA graphs", _COMPILED),
        _section(rows, "generate", "generate()", _GENERATE),
        _profile(rows),
        _section(
            rows, "import", "Import", "Each import runs in an interpreter of its own, whose start is not counted."
        ),
        _section(rows, "load", "Loads", _LOADS),
        _conversion(conversions, from_tf),
    )
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


_COMPILED: Final = (
    "A function that calls the model is compiled and given a batch, the same again and one of another shape: graph "
    "breaks, and graphs that dynamo traces. Times are those of inductor's code."
)
_GENERATE: Final = (
    "A decode step is one call of the empty module inside the scope that generate opens: in a whole run a microsecond "
    "is not to be seen. The tiny Llama's runs are whole."
)
_LOADS: Final = (
    "A complete cache of MiniLM (91 MB), in forks of a warm process, one and four at once; of several the slowest "
    "counts. A plain load that does not end is given up after 20 s. Every other fault: [hub-faults.md](hub-faults.md)."
)


def _introduction(rows: Sequence[Row]) -> Tables:
    yield "# Benchmarks: what the guards cost"
    yield ""
    yield "Made by `make bench` from `benchmarks/results/costs.csv`; do not edit."
    yield ""
    yield (
        "Plain transformers and guarded models share their weights and are called in turns (A B A B, every other round "
        "backwards) in one process and thread by `torch.utils.benchmark`. Given are medians, with quartiles in "
        "parentheses. On the empty module the variants' columns say what they add to plain; on others a ratio "
        "(x), the median of the rounds' ratios. *Plain again* is plain against itself: what chance makes of any number "
        "here. Where the guard infers, plain gets that mask passed."
    )
    yield ""
    for machine in _machines(rows):
        own = [row for row in rows if row.machine._replace(source="") == machine]
        dates, commits = sorted({row.date for row in own}), sorted({row.commit for row in own if row.commit})
        driver = f", driver {machine.driver}" if machine.driver else ""
        commit = f", commit {', '.join(commits)}" if commits else ""
        yield (
            f"- {machine.device}{driver}, {machine.cores} cores, Python {machine.python}, torch {machine.torch}, "
            f"transformers {machine.transformers}, safetransformers {machine.safetransformers}, {dates[-1]}{commit}."
        )
    yield ""
    if not any(row.case.place == "cuda" for row in rows):
        yield _NO_GPU
        yield ""


def _machines(rows: Iterable[Row]) -> list[Machine]:
    """The machines and versions, whichever sources."""
    return sorted({row.machine._replace(source="") for row in rows})


def _targets(rows: Sequence[Row]) -> Tables:
    yield "## Targets"
    yield ""
    yield "The worst of the rows that a target is about, in brackets its quartiles; all are differences from plain."
    yield ""
    yield "| target | at most | " + " | ".join(machine.device for machine in _devices(rows)) + " |"
    yield "|---|---|" + "---|" * len(_devices(rows))
    reasons: dict[str, str] = {}
    for target in TARGETS:
        cells = []
        for machine in _devices(rows):
            value, said = verdict(target, [row for row in rows if row.machine.device == machine.device])
            if said == "MISSED" and target.why:
                reasons[target.what] = target.why
            cells.append(f"{value}: {said}" if said else "needs a GPU" if target.is_gpu else "not measured")
        limit = f"{target.limit:g}" if target.by != "least" else "must"
        yield f"| {target.what} | {limit} | {' | '.join(cells)} |"
    yield ""
    for what, why in reasons.items():
        yield f"- *{what}*: {why}."
    if reasons:
        yield ""


def _devices(rows: Iterable[Row]) -> list[Machine]:
    """One machine of each device: the rows of several runs stand in one column."""
    return list({machine.device: machine for machine in _machines(rows)}.values())


def _plots(plots: Sequence[tuple[str, str]]) -> Tables:
    for caption, name in plots:
        yield f"![{caption}](plots/{name})"
        yield ""
        yield f"*{caption}. Points are medians, bars quartiles.*"
        yield ""


def draw_plots(rows: Sequence[Row], folder: Path) -> list[tuple[str, str]]:
    """Draw what the rows have; captions and file names."""
    found = []
    for subject, column, label, reference in (
        (EMPTY, "added", "added host time (us)", 0.0),
        (BERT_BASE, "ratio", "ratio to plain", 1.0),
    ):
        for place in ("cpu", "cuda"):
            panels = [(call, _plotted(rows, subject, place, call, column)) for call in CALLS]
            panels = [(call, own) for call, own in panels if own]
            if panels:
                name = f"{subject.replace(' ', '-').lower()}-{place}.svg"
                draw(folder / name, panels, column, label, reference)
                device = panels[0][1][0].machine.device
                found.append((f"{subject}, guarded against plain, on {device}", name))
    return found


def _plotted(rows: Sequence[Row], subject: str, place: str, call: str, column: str) -> list[Row]:
    return [
        row
        for row in rows
        if (row.case.section, row.case.subject, row.case.place, row.case.call) == ("forward", subject, place, call)
        and (row.variant, row.quantity) == ("guarded", "time")
        and getattr(row, column) is not None
    ]


def _forward(rows: Sequence[Row]) -> Tables:
    own = [row for row in rows if row.case.section == "forward"]
    if not own:
        return
    yield "## Forward"
    yield ""
    yield (
        "On `meta` a whole forward runs without its arithmetic: what is left is the host's part. Values cannot be read "
        "there, so only calls that pass a mask are made: one of every pair of tokens, into which no model looks."
    )
    yield ""
    left = [f"{name} ({', '.join(f'{b} x {s}' for b, s in shapes)})" for name, shapes in left_to_a_gpu()]
    if not any(row.case.place == "cuda" for row in own):
        yield f"Left to a GPU: {'; '.join(left)}; Llama 1B but for its host cost."
        yield ""
    for place in ("cpu", "meta", "cuda"):
        yield from _tables([row for row in own if row.case.place == place], f"Forward on {place}: ")


def _section(rows: Sequence[Row], section: str, title: str, text: str) -> Tables:
    own = [row for row in rows if row.case.section == section]
    if own:
        yield f"## {title}"
        yield ""
        yield text
        yield ""
        yield from _tables(own, "")


def _tables(rows: Sequence[Row], title: str) -> Tables:
    """A table for each model, and in it a line for each case and quantity, with a column for each variant."""
    for subject in dict.fromkeys(row.case.subject for row in rows):
        own = [row for row in rows if row.case.subject == subject]
        variants = list(dict.fromkeys(row.variant for row in own))
        variants.sort(key=lambda name: (name != PLAIN, name != CONTROL))
        yield f"### {title}{subject}"
        yield ""
        yield f"| call | shape | quantity | {' | '.join(variants)} |"
        yield "|---|---|---|" + "---|" * len(variants)
        lines: dict[tuple[Case, str, str], dict[str, Row]] = {}
        for row in own:
            key = (row.case, row.quantity, row.machine.device if len(_devices(own)) > 1 else "")
            lines.setdefault(key, {})[row.variant] = row
        for (case, quantity, device), by_variant in lines.items():
            unit = next(iter(by_variant.values())).unit
            what = ", ".join(text for text in (case.mode if case.mode != "eager" else "", case.call, device) if text)
            cells = [_cell(by_variant[name]) if name in by_variant else "" for name in variants]
            shape = f"{case.batch} x {case.sequence}" if case.sequence else str(case.batch or "")
            yield f"| {what} | {shape} | {quantity}{f', {unit}' if unit else ''} | {' | '.join(cells)} |"
        yield ""


def _cell(row: Row) -> str:
    if row.rounds == 1 or not row.unit:
        return f"{row.median:,.0f}"
    if row.ratio is None:
        return f"{_short(row.median)} ({_short(row.q1)} to {_short(row.q3)})"
    if row.case.subject == EMPTY:  # a ratio to next to nothing says nothing
        return f"{row.added:+.2f} ({row.added_q1:.2f} to {row.added_q3:.2f})"
    return f"{_short(row.median)}, x {row.ratio:.3f} ({row.ratio_q1:.3f} to {row.ratio_q3:.3f})"


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _profile(rows: Sequence[Row]) -> Tables:
    own = [row for row in rows if row.case.section == "profile"]
    if not own:
        return
    yield "## Where each microsecond goes"
    yield ""
    yield (
        "The empty module: what torch takes for any pre-hook with keywords, then the functions that take most of a "
        "guarded call by themselves (cProfile, which makes calls of small Python functions look dearer than they are)."
    )
    yield ""
    for case in dict.fromkeys(row.case for row in own):
        times = {row.variant: row for row in own if row.case == case and row.quantity == "time"}
        shares = [row for row in own if row.case == case and row.quantity != "time"]
        told = ", ".join(f"{name} {row.median:.2f} us" for name, row in times.items())
        yield f"### {case.call}, {case.batch} x {case.sequence}"
        yield ""
        yield f"{told}."
        yield ""
        yield "| function | share of the call, % |"
        yield "|---|---|"
        for row in sorted(shares, key=lambda row: -row.median):
            yield f"| `{row.variant}` | {row.median:.0f} |"
        yield ""


def _conversion(ours: Sequence[dict[str, str]], from_tf: Sequence[dict[str, str]]) -> Tables:
    yield "## Conversion, conformance, faults"
    yield ""
    yield (
        "Padding on every text architecture: [padding-conformance.md](padding-conformance.md). Loads under every fault "
        "of the way to the hub: [hub-faults.md](hub-faults.md)."
    )
    yield ""
    copied = "`benchmarks/convert_speed.py` converts a BERT-base of TensorFlow beside a plain copy of its file"
    theirs = "The same save by transformers' own way, `from_tf=True` and `save_pretrained` (`make bench-from-tf`)"
    for runs, text, versions in ((ours, copied, ("torch", "transformers", "cpu")), (from_tf, theirs, ("cpu",))):
        if not runs:
            continue
        names = [name for name in runs[0] if name not in _MACHINE_COLUMNS]
        about = ", ".join(f"{name} {runs[0].get(name, '')}" for name in versions)
        yield f"{text} ({about}, {runs[0]['date']}):"
        yield ""
        yield "| " + " | ".join(names) + " |"
        yield "|" + "---|" * len(names)
        for row in runs:
            yield "| " + " | ".join(row[name] or "" for name in names) + " |"
        yield ""
