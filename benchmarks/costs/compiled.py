"""What the guard costs in a compiled model and in a CUDA graph: graph breaks, graphs, and the time of a call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from .jobs import Job, Reading, Run
from .rows import PLAIN, Case
from .subjects import BERT_BASE, CONTROL, FULL, MASKED, RIGHT, TINY_BERT, TINY_LLAMA, calls, variants
from .timing import Effort, device_seconds, in_turns, wall_seconds

SECTION: Final = "compiled"
_CALLS: Final = (MASKED, RIGHT, FULL)
_BATCH, _SEQUENCE = 8, 128
_VARIANTS: Final = (PLAIN, CONTROL, "guarded")


def jobs(run: Run) -> Iterator[Job]:
    """Counted on the tiny models; timed on one, with inductor; as CUDA graphs where there is a GPU."""
    for name in (TINY_BERT,) if run.is_quick else (TINY_BERT, TINY_LLAMA):
        for call in _CALLS:
            case = Case(SECTION, name, run.place, "compile", call, _BATCH, _SEQUENCE)
            yield Job(case, partial(_counted, case))
    if run.is_quick:
        return
    timed = BERT_BASE if run.place == "cuda" else TINY_BERT
    for call in _CALLS:
        case = Case(SECTION, timed, run.place, "compile (inductor)", call, _BATCH, _SEQUENCE)
        yield Job(case, partial(_timed, case))
    if run.place == "cuda":
        for call in _CALLS:
            case = Case(SECTION, timed, run.place, "CUDA graph", call, _BATCH, _SEQUENCE)
            yield Job(case, partial(_captured, case))


def _models(case: Case) -> dict[str, nn.Module]:
    return {name: model for name, model in variants(case.subject, case.place).items() if name in _VARIANTS}


def _counted(case: Case) -> list[Reading]:
    """Graph breaks, and graphs that are traced for a first batch, the same again, and one of another shape.

    What is compiled is a user's function around the model: torch itself traces the hooks of a model that is compiled
    alone apart from its forward, which is no break.
    """
    breaks, graphs = {}, {}
    shapes = ((case.batch, case.sequence), (case.batch, case.sequence), (4, 64))
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # a recompile is what is counted
    for name, model in _models(case).items():
        if name not in (PLAIN, "guarded"):
            continue
        torch._dynamo.reset()
        counters.clear()
        compiled: Any = torch.compile(partial(_called, model), backend="eager")
        with torch.no_grad():
            for batch, sequence in shapes:
                calls({name: compiled}, case.call, batch, sequence, case.place)[name]()
        breaks[name] = [float(sum(counters["graph_break"].values()))]
        graphs[name] = [float(counters["stats"]["unique_graphs"])]
    return [Reading("graph breaks", "", breaks), Reading("graphs traced", "", graphs)]


def _called(model: nn.Module, **kwargs: Any) -> Any:
    return model(**kwargs)


def _timed(case: Case) -> list[Reading]:
    torch._dynamo.reset()
    compiled: dict[str, Any] = {name: torch.compile(model) for name, model in _models(case).items()}
    found = calls(compiled, case.call, case.batch, case.sequence, case.place)
    with torch.no_grad():
        for call in found.values():
            call()
        times = in_turns(found, Effort(budget_s=2.0), wall_seconds)
    torch._dynamo.reset()
    return [Reading("time", "us", times)]


def _captured(case: Case) -> list[Reading]:
    """Capture each variant's call, replay it, and compare what it gives with the plain call's output."""
    found = calls(_models(case), case.call, case.batch, case.sequence, case.place)
    replays: dict[str, Callable[[], Any]] = {}
    works: dict[str, list[float]] = {}
    with torch.no_grad():
        expected = found[PLAIN]().last_hidden_state
        for name, call in found.items():
            graph, output = _capture(call)
            graph.replay()
            works[name] = [float(torch.allclose(output, expected, atol=1e-3))]
            replays[name] = graph.replay
        times = in_turns(replays, Effort(budget_s=1.0), wall_seconds)
        on_device = in_turns(replays, Effort(budget_s=1.0), device_seconds)
    return [
        Reading("time", "us", times),
        Reading("device time", "us", on_device),
        Reading("captured and right", "", works),
    ]


def _capture(call: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch annotates it not
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call().last_hidden_state
    return graph, output
