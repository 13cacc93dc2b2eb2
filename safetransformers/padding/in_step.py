"""``padding="exact"`` on a model whose forward is a collective: every rank runs it equally often.

The parameters of a model under FSDP lie on several ranks, and each forward of a part gathers them: a rank that runs its
rows in three groups waits for ranks that ran theirs in one. So after the first forward, which all have, the ranks agree
on the number of further ones; who has fewer runs the last of its own again and drops the result. What one of them
refuses all of them refuse. Under DDP, and where the same rows are on all ranks (tensor parallel), nothing of this is
needed: no forward of the model inside is a collective, or all do the same by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import compat
from ..errors import PaddingError
from ..ranks import are_several, raised_by
from .exact import assemble
from .layout import Layout
from .plan import Plan, learn_layout, pend, taken, whole

if TYPE_CHECKING:
    from .call import Call
    from .facts import Facts

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def is_needed(module: nn.Module) -> bool:
    """Whether a forward waits for other ranks, whose rows may be others. Cost: a walk over the model's parts."""
    return are_several() and compat.is_sharded(module)


def decide(facts: Facts, module: nn.Module, call: Call, alone: Callable[[], Arguments | None]) -> Arguments | None:
    """The first run of this rank; a refusal is kept until all have had theirs.

    Args:
        facts: of the model.
        module: the model.
        call: its call.
        alone: what is decided where there are no other ranks.

    Raises:
        PaddingError: with gradients, on every rank: their collectives would be those of all runs, not of as many.
    """
    if torch.is_grad_enabled():
        raise PaddingError(
            "ST-MASK-012",
            f'padding="exact" cannot give gradients of {facts.name} while its parameters are sharded',
            why="each rank has as many groups as its rows have lengths, and each group has collectives in backward",
            do='run it under torch.no_grad(), or train with padding="infer" or with rows of one length in a batch',
            off='safetransformers.configure(padding="infer")',
        )
    try:
        arguments, error = alone(), None
    except PaddingError as refusal:
        arguments, error = None, refusal
    plan = taken(module) if arguments is not None else None
    plan = plan or whole(facts, call.named())  # no row was moved: it runs as it is
    plan.error, plan.is_in_step = error, True
    pend(module, plan)
    return arguments


def finish(
    module: nn.Module,
    plan: Plan,
    output: Any,
    known: Layout | None,
    learn: Callable[[], Layout],
    run: Callable[[dict[str, Any]], Any],
) -> Any:
    """The output put together from this rank's groups, after as many runs as the rank with the most of them has.

    Args:
        module: the model.
        plan: of this call.
        output: of the first run.
        known: the axes of the outputs, or None where they are not known yet.
        learn: finds them, by two runs.
        run: runs the model once more.

    Returns:
        The output, or None where it stays as it is.

    Raises:
        PaddingError: where this rank has refused the call, or another one (ST-RANK-001).

    Cost: one all-reduce of three numbers.
    """
    more = max(len(plan.groups) - 1, 0)
    refusal = 0 if plan.error is None else torch.distributed.get_rank() + 1
    wanted = torch.tensor([more, int(bool(plan.groups) and known is None), refusal])
    most, probes, refused = compat.agreed(module, wanted)
    if refused:
        raise plan.error or raised_by(refused - 1, f"it refused a call of {plan.facts.name} that all ranks make")
    if probes and (known is not None or not plan.groups):
        learn_layout(module, plan)  # for the sake of the others
    result, last = None, plan.inputs
    if plan.groups:
        result = assemble(plan, output, known or learn(), lambda group: run(group.inputs))
        last = plan.groups[-1].inputs
    for _ in range(most - more):
        run(last)
    return result
