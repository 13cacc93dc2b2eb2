"""What the guard costs in generate: its start, a decode step, and the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from transformers import LlamaForCausalLM

from safetransformers.padding.scope import untouched

from .counting import counted
from .jobs import Job, Reading, Run
from .rows import PLAIN, Case
from .subjects import CONTROL, EMPTY, LEFT, MASKED, PAD, ids_of, sharing, tiny_llama_config, variants
from .timing import QUICK, Effort, in_turns, wall_seconds

SECTION: Final = "generate"
STEP: Final = "decode step"
STEP_WITH_MASK, STEP_WITHOUT = "the step has a mask", "the step has no mask"
_TINY: Final = "tiny Llama, generate"
_BATCH, _SEQUENCE = 8, 128
_STEPS: Final = 8
_IN_WHOLE_RUNS: Final = (PLAIN, CONTROL, "guarded")


def jobs(run: Run) -> Iterator[Job]:
    """The step on the empty module, where a microsecond can be seen; then prefill and whole runs of a tiny Llama."""
    for call in (STEP_WITH_MASK, STEP_WITHOUT):
        case = Case(SECTION, EMPTY, run.place, STEP, call, _BATCH, 1)
        yield Job(case, partial(_step, case, run.is_quick))
    if run.is_quick:
        return
    for call in (MASKED, LEFT):
        for mode, tokens in (("prefill, 1 token", 1), (f"prefill and {_STEPS} steps", _STEPS + 1)):
            case = Case(SECTION, _TINY, run.place, mode, call, _BATCH, _SEQUENCE)
            yield Job(case, partial(_whole, case, tokens))


def _step(case: Case, is_quick: bool) -> list[Reading]:
    """As generate calls forward in a step: one new token a row, inside the scope that the guard opens around it."""
    models = variants(EMPTY, case.place)
    ids = ids_of("", case.batch, 2, case.place)[:, :1]
    mask = {"attention_mask": torch.ones(case.batch, _SEQUENCE, dtype=torch.int64, device=case.place)}
    given = mask if case.call == STEP_WITH_MASK else {}
    found: dict[str, Callable[[], Any]] = {
        name: partial(model, input_ids=ids, **given) for name, model in models.items()
    }
    with torch.no_grad(), untouched(*models.values()):
        times = in_turns(found, QUICK if is_quick else Effort(budget_s=2.0))
        counts = {name: counted(call, case.place) for name, call in found.items() if name != CONTROL}
    return [
        Reading("time", "us", times),
        Reading("kernels", "", {name: [one.kernels] for name, one in counts.items()}),
        Reading("syncs", "", {name: [one.syncs] for name, one in counts.items()}),
    ]


def _whole(case: Case, tokens: int) -> list[Reading]:
    torch.manual_seed(0)
    # transformers annotates no __init__ here
    plain: nn.Module = LlamaForCausalLM(tiny_llama_config()).eval().to(case.place)  # type: ignore[no-untyped-call]
    ids = ids_of(LEFT, case.batch, case.sequence, case.place)
    mask = {"attention_mask": (ids != PAD).long()}
    found: dict[str, Callable[[], Any]] = {}
    for name, model in sharing(plain).items():
        if name not in _IN_WHOLE_RUNS:
            continue
        infers = name not in (PLAIN, CONTROL) and case.call == LEFT
        generate: Any = model.generate
        how = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
        found[name] = partial(generate, ids, **({} if infers else mask), **how)
    for call in found.values():
        call()
    times = in_turns(found, Effort(budget_s=3.0, fewest_rounds=5), wall_seconds)
    counts = {name: counted(call, case.place) for name, call in found.items() if name != CONTROL}
    return [
        Reading("time", "us", times),
        Reading("kernels", "", {name: [one.kernels] for name, one in counts.items()}),
        Reading("syncs", "", {name: [one.syncs] for name, one in counts.items()}),
    ]
