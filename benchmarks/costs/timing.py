"""Times of several calls in turns, A B A B: ``torch.utils.benchmark`` measures each turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import torch
from torch.utils.benchmark import Timer

Call = Callable[[], Any]
Turn = Callable[[Call, int], float]


@dataclass(frozen=True)
class Effort:
    """How long a case may take.

    Attributes:
        budget_s: seconds for all turns of a case, the fewest rounds permitting.
        turn_s: seconds of a turn, in which a short call is repeated. Shorter than a scheduler's slice: a turn that is
            longer loses the processor on a busy machine every time, and the median with it.
        rounds: the most.
        fewest_rounds: taken even where they go over the budget.
    """

    budget_s: float
    turn_s: float = 0.001
    rounds: int = 101
    fewest_rounds: int = 7


QUICK: Final = Effort(budget_s=0.0, turn_s=0.0, rounds=2, fewest_rounds=2)


def wall_seconds(call: Call, repeats: int) -> float:
    """Mean seconds until all is done; on a GPU the calls are queued, and waited for once at the end."""
    timer = Timer("call()", globals={"call": call})
    if repeats > 1:
        return float(timer.timeit(repeats).mean)
    return float(timer.blocked_autorange(min_run_time=1e-9).mean)  # warms a long call up once; `timeit` does it twice


def host_seconds(call: Call, repeats: int) -> float:
    """Mean seconds until the call returns to its caller, from an idle GPU: the host's part, and any sync."""
    timer = Timer("call()", globals={"call": call}, timer=perf_counter)
    return sum(_from_idle(timer) for _ in range(repeats)) / repeats


def _from_idle(timer: Timer) -> float:
    torch.cuda.synchronize()
    return float(timer.timeit(1).mean)


def device_seconds(call: Call, repeats: int) -> float:
    """Mean seconds on the GPU's own clock, between two events around the calls."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / repeats


def _once(turn: Turn, call: Call, turn_s: float) -> float:
    """About how long a call takes. One that fills a turn by itself is not repeated, and once is enough to know that."""
    first_s = turn(call, 1)
    return first_s if first_s > turn_s else min(first_s, turn(call, 1), turn(call, 1))


def in_turns(calls: Mapping[str, Call], effort: Effort, turn: Turn = wall_seconds) -> dict[str, list[float]]:
    """Microseconds of each call in each round; every other round goes through the calls backwards.

    Args:
        calls: by variant.
        effort: how long.
        turn: how one turn is timed.
    """
    once_s = {name: _once(turn, call, effort.turn_s) for name, call in calls.items()}
    repeats = max(1, round(effort.turn_s / max(once_s.values())))
    round_s = repeats * sum(once_s.values())
    rounds = min(effort.rounds, max(effort.fewest_rounds, int(effort.budget_s / round_s)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for count in range(rounds):
        for name in reversed(list(calls)) if count % 2 else calls:
            found[name].append(turn(calls[name], repeats) * 1e6)
    return found
