"""Run a function over many items in worker processes that may hang or die without taking the run with them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any, NamedTuple


class Died(NamedTuple):
    """What became of an item whose worker did not answer."""

    reason: str


def _serve(function: Callable[[Any], Any], connection: Connection) -> None:
    while (item := connection.recv()) is not None:
        connection.send(function(item))


class _Worker:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(function, child), daemon=True)
        self.process.start()
        child.close()
        self.item: Any = None
        self.deadline = float("inf")

    def give(self, item: Any, timeout_s: float) -> None:
        self.item, self.deadline = item, monotonic() + timeout_s
        self.connection.send(item)

    def answer(self) -> Any:
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            return Died(f"process died with exit code {self.process.exitcode}")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _answered(workers: list[_Worker]) -> Iterator[tuple[_Worker, Any]]:
    patience_s = max(0.0, min(worker.deadline for worker in workers) - monotonic())
    ready = wait([worker.connection for worker in workers], timeout=patience_s)
    for worker in workers:
        if worker.connection in ready:
            yield worker, worker.answer()
        elif monotonic() >= worker.deadline:
            yield worker, Died("time limit")


def run_isolated(
    function: Callable[[Any], Any], items: Iterable[Any], jobs: int, timeout_s: float
) -> Iterator[tuple[Any, Any]]:
    """Call a picklable `function` on each item, at most `timeout_s` seconds each, in `jobs` processes.

    Yields:
        Pairs of an item and its result, in the order of completion; the result of an item whose process died or ran
        out of time is a `Died`. Such a process is replaced by a new one.
    """
    waiting = iter(items)
    busy: list[_Worker] = []
    for _, item in zip(range(jobs), waiting, strict=False):
        busy.append(_Worker(function))
        busy[-1].give(item, timeout_s)
    while busy:
        for worker, result in list(_answered(busy)):
            yield worker.item, result
            busy.remove(worker)
            following = next(waiting, None)
            if following is None or isinstance(result, Died):
                worker.stop()
            if following is not None:
                heir = _Worker(function) if isinstance(result, Died) else worker
                heir.give(following, timeout_s)
                busy.append(heir)
