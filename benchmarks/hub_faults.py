"""Does a load with a broken way to the hub end, how soon, and in the right model? Plain transformers and guarded.

Each cell (state of the cache, fault, what is loaded) runs in a fork of this process, plain and guarded: a first load
and up to three later ones. Printed as it goes; ``--write`` puts the rows into the CSV and the page of the docs.
Target: every cell with a complete sound snapshot is right within 5 s, the first load takes at most 2 s longer than with
HF_HUB_OFFLINE=1 and the later ones 0.1 s, and nothing is silently bad. Plain transformers is waited for 20 s.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import selectors
import signal
import statistics
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hub_cells import (
    ENTRIES,
    FAULTS,
    LIBRARIES,
    STATES,
    WHICH,
    Cell,
    World,
    fingerprint,
    hub_server,
    keep_modules_in,
    quiet,
    world,
)
from hub_page import ERROR, HUNG, RIGHT, WRONG, Row, better, failures, is_late, merge_csv, verdict, write_page
from measuring import cpu_name

LIMIT_S = 20.0
SETUP_S = 30.0
PLAIN_ENTRIES = ("AutoTokenizer", "AutoModel", "pipeline")
STATE_ENTRIES = ("AutoConfig", "AutoTokenizer", "AutoModel", "pipeline", "sharded")
STATE_FAULTS = ("none", "refused", "hang")
OFFLINE_ROUNDS = 5
MAX_LOADS = 4
TIMES_AGAIN = 3
BRIEF_S = 1.0  # loads that take longer are timed twice only
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1 << 1


@dataclass
class Running:
    """A cell under way.

    Attributes:
        cell: Which one.
        place: The folder of its own.
        pid: Its process.
        deadline_s: When it counts as hung.
        said: What it has told so far.
    """

    cell: Cell
    place: Path
    pid: int
    deadline_s: float
    said: list[Any] = field(default_factory=list)
    buffer: bytes = b""


def run_cells(made: World, cells: Iterable[Cell], jobs: int) -> Iterator[tuple[Cell, list[Any]]]:
    """Run cells in forks, so many at a time, and give what each load of a cell told; "hung" where it did not end."""
    waiting = deque(cells)
    with selectors.DefaultSelector() as selector:
        running: dict[int, Running] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                reader, one = _start(made, waiting.popleft())
                running[reader] = one
                selector.register(reader, selectors.EVENT_READ)
            next_s = min(one.deadline_s for one in running.values()) - time.monotonic()
            for key, _ in selector.select(max(next_s, 0.0)):
                one = running[key.fd]
                if not _read(key.fd, one):
                    one.deadline_s = 0.0
            for reader in [reader for reader, one in running.items() if one.deadline_s <= time.monotonic()]:
                one = running.pop(reader)
                selector.unregister(reader)
                os.close(reader)
                if one.deadline_s:
                    one.said.append("hung")
                    os.kill(one.pid, signal.SIGKILL)
                os.waitpid(one.pid, 0)
                made.remove(one.place)
                yield one.cell, one.said


def _start(made: World, cell: Cell) -> tuple[int, Running]:
    place = made.place(cell)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reader)

        def send(said: Any) -> None:
            os.write(writer, json.dumps(said).encode() + b"\n")

        try:
            quiet()
            run_here(made, cell, place, send)
        except BaseException:  # noqa: BLE001 - a fault of the benchmark, which the parent shows
            send({"broken": traceback.format_exc()})
        os._exit(0)
    os.close(writer)
    return reader, Running(cell, place, pid, time.monotonic() + SETUP_S)


def run_here(made: World, cell: Cell, place: Path, send: Callable[[Any], None]) -> None:
    """Load twice and more in this process, which is a fork; tell of each load as it ends, after a first word."""
    if not STATES[cell.state].is_mine:
        _give_up_rights()
    lib, entry = LIBRARIES[cell.which], ENTRIES[cell.entry]
    wanted, keywords = made.wanted(cell), made.keywords(cell)
    with hub_server.Hub() as hub, ExitStack() as stack:
        made.serve(hub, cell)
        keep_modules_in(place / "modules")
        fault = FAULTS[cell.fault]
        access = hub.access if fault is None else stack.enter_context(hub.faulty(fault))
        stack.enter_context(access.apply(place / "hub"))
        if cell.which == "offline":
            go_offline()
        send("ready")
        for count in range(1, MAX_LOADS + 1):
            start_s = time.perf_counter()
            loaded, told = _loaded(lambda: entry.load(lib, entry.repo, keywords))
            seconds = time.perf_counter() - start_s
            if not told:
                told = RIGHT if fingerprint(loaded) in wanted else WRONG
            send({"told": told, "s": round(seconds, 3)})
            if count > 1 and seconds > BRIEF_S:
                break
        if cell.which == "guarded" and told == RIGHT:
            go_offline()
            send({"offline_later_s": None})  # from here on nothing counts as the guard's
            send({"offline_later_s": _offline_later_s(lambda: entry.load(LIBRARIES["offline"], entry.repo, keywords))})


def _loaded(load: Callable[[], Any]) -> tuple[Any, str]:
    """What a load gives, or the name and code of the error that it ends with."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(), ""
    except Exception as error:  # noqa: BLE001 - the outcome of the cell
        return None, " ".join(part for part in (type(error).__name__, getattr(error, "code", "")) if part)


def _offline_later_s(load: Callable[[], Any]) -> float | None:
    """Median seconds of plain loads with HF_HUB_OFFLINE=1, beside the guarded ones; None where they fail.

    The load of this machine changes in the minutes of a run; so what is compared is timed side by side.
    """
    times = []
    for _ in range(MAX_LOADS):
        start_s = time.perf_counter()
        loaded, told = _loaded(load)
        if told:
            return None
        times.append(time.perf_counter() - start_s)
        fingerprint(loaded)  # as between the guarded ones: it touches every weight
    return statistics.median(times)


def go_offline() -> None:
    """As if the process had been started with ``HF_HUB_OFFLINE=1``."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in {"huggingface_hub", "transformers"}:
            for constant in ("HF_HUB_OFFLINE", "_is_offline_mode"):
                if constant in vars(module):
                    setattr(module, constant, True)
    http: Any = importlib.import_module("huggingface_hub.utils._http")
    (getattr(http, "close_session", None) or http.reset_sessions)()  # 0.x asks for the constant when it opens one


def _give_up_rights() -> None:
    """To Linux' superuser no folder is read-only, unless it lays down CAP_DAC_OVERRIDE (capabilities(7))."""
    if os.geteuid() == 0 and sys.platform == "linux":
        kernel = ctypes.CDLL(None, use_errno=True)
        header, data = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        assert kernel.capget(header, data) == 0
        data[0] &= ~_CAP_DAC_OVERRIDE  # of the effective set, which comes first
        assert kernel.capset(header, data) == 0


def _read(reader: int, one: Running) -> bool:
    """Take what a cell has told; False at its end."""
    data = os.read(reader, 1 << 16)
    *lines, one.buffer = (one.buffer + data).split(b"\n")
    for line in lines:
        said = json.loads(line)
        if isinstance(said, dict) and "broken" in said:
            sys.exit(f"{one.cell} cannot be measured:\n{said['broken']}")
        one.said.append(said)
        one.deadline_s = time.monotonic() + LIMIT_S
    return bool(data)


def row_of(cell: Cell, said: list[Any], offline: tuple[float, float], about: dict[str, str]) -> Row:
    """A cell's row: as good as its worst load."""
    end = next((i for i, one in enumerate(said) if "offline_later_s" in one), len(said))
    loads, beside = said[1:end], [one["offline_later_s"] for one in said[end:] if one != "hung"]
    told = [load if isinstance(load, str) else load["told"] for load in loads]
    seconds = [LIMIT_S if isinstance(load, str) else load["s"] for load in loads]
    order = (RIGHT, ERROR, HUNG, WRONG)
    outcomes = [word if word in order else ERROR for word in told]
    at = max(range(len(outcomes)), key=lambda index: order.index(outcomes[index]))
    detail = told[at] if outcomes[at] == ERROR else ""
    if outcomes[at] != RIGHT and at:
        detail = f"{detail} (the first load was right)" if outcomes[0] == RIGHT else detail
    return Row(
        **about,
        state=cell.state,
        has_copy="yes" if STATES[cell.state].cached else "",
        fault=cell.fault,
        entry=cell.entry,
        which=cell.which,
        outcome=outcomes[at],
        detail=detail.strip(),
        first_s=f"{seconds[0]:.3f}",
        later_s=f"{statistics.median(seconds[1:]):.3f}" if seconds[1:] else "",
        offline_s=f"{offline[0]:.3f}",
        offline_later_s=f"{(beside[-1] if beside and beside[-1] else offline[1]):.3f}",
    )


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """The cells to run: every fault with a complete cache, a few faults with the other states."""
    found = []
    for which in WHICH:
        if (which == "plain" and not args.plain) or (which == "guarded" and not args.guarded):
            continue
        for state in args.states:
            is_whole = state == "complete"
            faults = args.faults or (list(FAULTS) if is_whole else list(STATE_FAULTS))
            default = list(ENTRIES) if which == "guarded" else list(PLAIN_ENTRIES)
            entries = args.entries or (default if is_whole else list(STATE_ENTRIES))
            found += [Cell(state, fault, entry, which) for fault in faults for entry in entries]
    return found


def offline_seconds(made: World, entries: list[str], jobs: int) -> dict[str, tuple[float, float]]:
    """First and later load of plain transformers with HF_HUB_OFFLINE=1 and a complete cache: medians."""
    cells = [Cell("complete", "none", entry, "offline") for entry in entries] * OFFLINE_ROUNDS
    firsts: dict[str, list[float]] = {entry: [] for entry in entries}
    laters: dict[str, list[float]] = {entry: [] for entry in entries}
    for cell, said in run_cells(made, cells, jobs):
        assert all(load != "hung" and load["told"] == RIGHT for load in said[1:]), (cell, said)
        firsts[cell.entry].append(said[1]["s"])
        laters[cell.entry] += [load["s"] for load in said[2:]]
    return {entry: (statistics.median(firsts[entry]), statistics.median(laters[entry])) for entry in entries}


def about_this_run() -> dict[str, str]:
    """The date, the versions and the machine."""
    hub = version("huggingface_hub")
    http = {"0": "requests", "1": "httpx"}.get(hub.partition(".")[0], "httpx2")
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "transformers": version("transformers"),
        "huggingface_hub": hub,
        "http": f"{http} {version(http)}",
        "torch": version("torch"),
        "cpu": cpu_name(),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES), metavar="STATE")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, metavar="FAULT", help="default: all, or a few by state")
    parser.add_argument("--entries", nargs="+", choices=ENTRIES, metavar="ENTRY")
    parser.add_argument(
        "--jobs", type=int, default=2, help="cells at a time (default 2); most of their time is waiting"
    )
    parser.add_argument("--plain", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--guarded", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--write", action="store_true", help="update the CSV and the page of the documentation")
    return parser.parse_args()


def show(row: Row) -> None:
    """Print a row."""
    print(
        f"{row.state:19} {row.fault:25} {row.entry:18} {row.which:8} {row.outcome:6} {row.first_s:>7} s, later "
        f"{row.later_s or '-':>7} s, offline {row.offline_s} s, later {row.offline_later_s} s {row.detail}",
        flush=True,
    )


def main() -> None:
    """Measure, print, and write where that is wanted."""
    args = arguments()
    cells = cells_of(args)
    entries = [entry for entry in ENTRIES if any(cell.entry == entry for cell in cells)]
    states = [state for state in STATES if any(cell.state == state for cell in cells)]
    about = about_this_run()
    rows: dict[Cell, Row] = {}
    start_s = time.monotonic()
    with world(entries, dict.fromkeys([*states, "complete"])) as made:
        offline = offline_seconds(made, entries, args.jobs)
        for cell, said in run_cells(made, cells, args.jobs):
            rows[cell] = row_of(cell, said, offline[cell.entry], about)
            show(rows[cell])
        for _ in range(TIMES_AGAIN):
            late = [cell for cell, row in rows.items() if is_late(row)]
            for cell, said in run_cells(made, late, 1):
                rows[cell] = better(rows[cell], row_of(cell, said, offline[cell.entry], about))
                show(rows[cell])
    print(f"{len(rows)} cells in {time.monotonic() - start_s:.0f} s")
    print("\n".join([*verdict(rows.values()), *failures(rows.values())]))
    if args.write:
        merge_csv(rows.values(), about["transformers"])
        write_page()


if __name__ == "__main__":
    main()
