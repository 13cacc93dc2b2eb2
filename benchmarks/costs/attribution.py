"""Where each microsecond of the guard's part of a call goes: cProfile on the empty module."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from .jobs import Job, Reading, Run
from .machine import ROOT
from .rows import PLAIN, Case
from .subjects import CALLS, EMPTY, SUBJECTS, calls, variants
from .timing import Effort, in_turns

SECTION: Final = "profile"
HOOK_ALONE: Final = "a pre-hook that does nothing"
_BATCH, _SEQUENCE = 8, 128
_CALLS_PROFILED: Final = 3000
_SHOWN: Final = 14


def do_nothing(module: nn.Module, args: Any, kwargs: Any) -> None:
    """The cheapest pre-hook that torch can call."""


def jobs(run: Run) -> Iterator[Job]:
    """What torch takes for any hook, and the functions that take most of ours, by way to call."""
    if run.is_quick:
        return
    for call in CALLS:
        case = Case(SECTION, EMPTY, run.place, "eager", call, _BATCH, _SEQUENCE)
        yield Job(case, partial(_attributed, case))


def _attributed(case: Case) -> list[Reading]:
    hooked = SUBJECTS[EMPTY].make().eval()
    hooked.register_forward_pre_hook(do_nothing, with_kwargs=True)
    models = variants(EMPTY, case.place)
    found = calls(
        {PLAIN: models[PLAIN], "guarded": models["guarded"]}, case.call, case.batch, case.sequence, case.place
    )
    found[HOOK_ALONE] = partial(hooked, **found[PLAIN].keywords)
    with torch.no_grad():
        times = in_turns(found, Effort(budget_s=2.0))
        shares = _shares(found["guarded"])
    return [Reading("time", "us", times), Reading("share of the call", "%", shares, "cProfile, own time")]


def _shares(call: Callable[[], Any]) -> dict[str, list[float]]:
    """Percent of the profiled call that each function itself took, the largest ones."""
    for _ in range(100):
        call()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(_CALLS_PROFILED):
        call()
    profile.disable()
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # not in typeshed
    own = {_name(*where): own_s for where, (_, _, own_s, _, _) in stats.items() if "disable" not in where[2]}
    total = sum(own.values())
    largest = sorted(own, key=lambda name: -own[name])[:_SHOWN]
    return {name: [own[name] / total * 100] for name in largest}


def _name(path: str, line: int, function: str) -> str:
    if path == "~":
        return (
            function.replace("built-in method ", "").strip("<>").partition(" of ")[0].removeprefix("method ").strip("'")
        )
    file = Path(path)
    where = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else "/".join(file.parts[-2:])
    return f"{where}: {function}"
