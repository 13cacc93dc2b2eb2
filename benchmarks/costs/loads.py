"""What a warm load takes: one process and several at once, with a hub that answers and with one that swallows packets.

The hub is that of the tests, on 127.0.0.1, in a process of its own; every load runs in a fork of a warm process without
threads. Nothing here is specific to a fault: `docs/hub-faults.md` has all of them.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Final

from .jobs import Job, Reading, Run
from .rows import PLAIN, Case

SECTION: Final = "load"
ANSWERS, BLACK_HOLE = "hub answers", "hub swallows packets"
OFFLINE: Final = "HF_HUB_OFFLINE=1"
LIMIT_S: Final = 20.0
_FAULTS: Final = {ANSWERS: "none", BLACK_HOLE: "syn_dropped"}
_LIBRARY: Final = {PLAIN: "plain", OFFLINE: "offline", "guarded": "guarded"}
_RANKS: Final = (1, 4)
_ENTRY: Final = "AutoModel"
_FORK: Final = multiprocessing.get_context("fork")


def jobs(run: Run) -> Iterator[Job]:
    """Loads of MiniLM from a complete cache."""
    if run.is_quick:
        return
    from hub_cells import world  # sets the environment of the hub's clients before they are imported

    with world([_ENTRY], ["complete"]) as made:
        for call in (ANSWERS, BLACK_HOLE):
            for ranks in _RANKS:
                case = Case(SECTION, "AutoModel, MiniLM", "cpu", "", call, ranks)
                yield Job(case, partial(_measured, made, case))


def _measured(made: Any, case: Case) -> list[Reading]:
    """The slowest of the processes counts. Plain loads that hang are waited for once."""
    first: dict[str, list[float]] = {name: [] for name in _LIBRARY}
    later: dict[str, list[float]] = {name: [] for name in _LIBRARY}
    asked: dict[str, list[float]] = {name: [] for name in _LIBRARY}
    is_dark = case.call == BLACK_HOLE
    for count in range(5 if case.batch == 1 else 3):
        for name in reversed(_LIBRARY) if count % 2 else _LIBRARY:
            if is_dark and name == PLAIN and count:
                continue
            seconds, requests = _loaded_at_once(made, case, _LIBRARY[name])
            first[name].append(max(one for one, _ in seconds))
            later[name].append(max(two for _, two in seconds))
            asked[name].append(requests)
    if is_dark:  # a single plain load is nothing to pair the others with
        first["plain, waited for once"], later["plain, waited for once"] = first.pop(PLAIN), later.pop(PLAIN)
        asked["plain, waited for once"] = asked.pop(PLAIN)
    return [
        Reading("first load", "s", first, f"waited for at most {LIMIT_S:g} s"),
        Reading("second load", "s", later, f"waited for at most {LIMIT_S:g} s"),
        Reading("requests", "", asked, "of both loads of all processes"),
    ]


def _loaded_at_once(made: Any, case: Case, which: str) -> tuple[list[tuple[float, float]], int]:
    """Seconds of two loads of each process, which start together, and what they asked the hub for."""
    from hub_cells import Cell

    cell = Cell("complete", _FAULTS[case.call], _ENTRY, which)
    place: Path = made.place(cell)
    try:
        with _hub(made, cell) as (told, reach):
            barrier = _FORK.Barrier(case.batch)
            running = [_forked(_load_twice, made, cell, place, reach, barrier) for _ in range(case.batch)]
            deadline_s = monotonic() + LIMIT_S
            seconds = [_answer(process, reader, deadline_s) for process, reader in running]
            told.send("stop")
            requests: int = told.recv()
        return seconds, requests
    finally:
        made.remove(place)


def _forked(function: Any, *arguments: Any) -> tuple[Any, Connection]:
    reader, writer = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=function, args=(writer, *arguments))
    process.start()
    writer.close()
    return process, reader


def _answer(process: Any, reader: Connection, deadline_s: float) -> tuple[float, float]:
    """What a process tells before it has to be stopped.

    Raises:
        RuntimeError: where it ended without a word.
    """
    found: list[float] = []
    while len(found) < 2 and reader.poll(max(deadline_s - monotonic(), 0.0)):
        try:
            found.append(reader.recv())
        except EOFError:
            process.join()
            raise RuntimeError(f"a load ended with exit code {process.exitcode}") from None
    process.kill()
    process.join()
    first, later = [*found, LIMIT_S, LIMIT_S][:2]
    return first, later


def _load_twice(writer: Connection, made: Any, cell: Any, place: Path, reach: tuple[str, Any], barrier: Any) -> None:
    from hub_cells import ENTRIES, LIBRARIES, hub_server, keep_modules_in, quiet
    from hub_faults import go_offline

    quiet()
    entry = ENTRIES[cell.entry]
    keep_modules_in(place / "modules")
    with hub_server.Access(*reach).apply(place / "hub"):
        if cell.which == "offline":
            go_offline()
        barrier.wait()
        for _ in range(2):
            start_s = perf_counter()
            entry.load(LIBRARIES[cell.which], entry.repo, made.keywords(cell))
            writer.send(perf_counter() - start_s)
    writer.close()


@contextmanager
def _hub(made: Any, cell: Any) -> Iterator[tuple[Connection, tuple[str, Any]]]:
    """A hub in a process of its own, broken as the cell wants it; the connection to it, and how it is reached."""
    ours, theirs = _FORK.Pipe()
    process = _FORK.Process(target=_serve, args=(theirs, made, cell))
    process.start()
    try:
        if not ours.poll(LIMIT_S):
            raise RuntimeError("the test hub did not start")
        yield ours, ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(connection: Connection, made: Any, cell: Any) -> None:
    from hub_cells import FAULTS, hub_server

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fault = FAULTS[cell.fault]
    with hub_server.Hub() as hub, ExitStack() as stack:
        made.serve(hub, cell)
        access = hub.access if fault is None else stack.enter_context(hub.faulty(fault))
        connection.send((access.endpoint, access.env))
        connection.recv()
        connection.send(len(hub.requests))
