"""What the guard adds to a forward: times and counts of each model, batch, sequence and way to call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import torch
import transformers
from packaging.version import Version

from .counting import counted
from .jobs import Job, Reading, Run
from .rows import Case
from .subjects import (
    BERT_BASE,
    CALLS,
    CONTROL,
    EMPTY,
    LEFT,
    LLAMA_1B,
    MASKED,
    SUBJECTS,
    TINY_BERT,
    calls,
    shapes,
    variants,
)
from .timing import QUICK, Effort, device_seconds, host_seconds, in_turns, wall_seconds

SECTION: Final = "forward"
IS_ON_META: Final = Version(transformers.__version__).major >= 5
"""Whether models take a mask of every pair of tokens, without which BERT looks into one; in 4.57 BERT refuses it."""
_QUICK: Final = ((EMPTY, 8, 32), (EMPTY, 8, 128), (TINY_BERT, 8, 32), (TINY_BERT, 8, 128))
_COUNTED: Final = (8, 128)
"""Counts do not depend on the shape."""
_BUDGET_S: Final = {EMPTY: 0.7, BERT_BASE: 2.0}


def jobs(run: Run) -> Iterator[Job]:
    """Every case of a place; beside the CPU's the host cost of whole forwards on meta."""
    places = [run.place]
    if run.place == "cpu" and IS_ON_META:
        places.append("meta")
    for place in places:
        for name in SUBJECTS:
            for batch, sequence in shapes(name, place):
                for call in _calls(name, place):
                    if run.is_quick and (name, batch, sequence) not in _QUICK:
                        continue
                    case = Case(SECTION, name, place, "eager", call, batch, sequence)
                    yield Job(case, partial(_measured, case, run.is_quick))


def _calls(name: str, place: str) -> tuple[str, ...]:
    """On meta no value can be read: what is inferred there is not what is inferred of real ids."""
    if place == "meta":
        return (MASKED,) if name != EMPTY else ()
    return tuple(call for call in CALLS if call != LEFT or name == EMPTY)


def _measured(case: Case, is_quick: bool) -> list[Reading]:
    models = variants(case.subject, case.place)
    if case.subject == BERT_BASE and case.place == "cpu":  # a second a call: the time goes to rounds
        models = {name: model for name, model in models.items() if name in ("plain", CONTROL, "guarded")}
    found = calls(models, case.call, case.batch, case.sequence, case.place)
    with torch.no_grad():
        for call in found.values():
            call()
        if is_quick:
            effort = QUICK
        elif case.place == "cuda":
            effort = Effort(budget_s=0.5, fewest_rounds=5)
        else:
            effort = Effort(budget_s=_BUDGET_S.get(case.subject, 0.4), fewest_rounds=5)
        readings = list(_timed(found, case.place, effort))
        if (case.batch, case.sequence) == _COUNTED:
            readings += _counts(found, case)
        return readings


def _timed(found: Mapping[str, Callable[[], Any]], place: str, effort: Effort) -> Iterator[Reading]:
    yield Reading("time", "us", in_turns(found, effort, wall_seconds))
    if place == "cuda":
        yield Reading("device time", "us", in_turns(found, effort, device_seconds))
        yield Reading("host time", "us", in_turns(found, effort, host_seconds))


def _counts(found: Mapping[str, Callable[[], Any]], case: Case) -> Iterator[Reading]:
    by_variant = {name: counted(call, case.place) for name, call in found.items() if name != CONTROL}
    yield Reading("kernels", "", {name: [counts.kernels] for name, counts in by_variant.items()})
    yield Reading("syncs", "", {name: [counts.syncs] for name, counts in by_variant.items()})
    yield Reading("allocated", "bytes", {name: [counts.allocated_bytes] for name, counts in by_variant.items()})


def left_to_a_gpu() -> list[tuple[str, list[tuple[int, int]]]]:
    """The shapes of each model that no CPU is asked for."""
    missing = [(name, [one for one in shapes(name, "cuda") if one not in shapes(name, "cpu")]) for name in SUBJECTS]
    return [(name, left) for name, left in missing if left and name != LLAMA_1B]
