"""``device_checks="eager"``: a value beyond its limit is refused before the kernel that would stop at it is launched.

What the limits say is a suspicion: an architecture may put placeholders in its ids and replace them before they are
looked up. The suspected call runs with each lookup looked at first, so that none is refused that would have worked.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..counts import count
from ..errors import IndexOutOfRangeError
from ..padding.scope import is_untouched
from .findings import Finding, is_outside
from .texts import told

_aten = torch.ops.aten
_LOSSES = (_aten.nll_loss_forward.default, _aten.nll_loss2d_forward.default)


class Proving(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch annotates no __init_subclass__
    """Inside, a lookup of an index beyond its table raises in place of launching its kernel.

    Args:
        model: the class's name.
        suspects: what the limits say is wrong with the call; not empty.

    Raises:
        IndexOutOfRangeError: from the operator that would have failed.

    Cost: a sync for each lookup, in suspected calls only.
    """

    def __init__(self, model: str, suspects: list[Finding]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor this
        self._model, self._suspects = model, suspects

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at the indices of an embedding or of a loss, then run the operator."""
        if func is _aten.embedding.default:
            self._look(args[1], args[0].shape[0])
        elif func is _aten.gather.default:  # BERT's token types, by position (5.23)
            self._look(args[2], args[0].shape[args[1]])
        elif func in _LOSSES:
            self._look(args[1], args[0].shape[1 if args[0].dim() > 1 else 0], ignored=args[4])
        return func(*args, **(kwargs or {}))

    def _look(self, indices: Tensor, rows: int, ignored: int | None = None) -> None:
        if indices.is_meta:
            return
        outside = is_outside(indices, rows, ignored)
        if not bool(outside.any()):
            return
        is_label = ignored is not None
        of_kind = [one for one in self._suspects if (one.limit.kind == "label") == is_label] or self._suspects
        # Of two tables the one with as many rows; a table whose first rows are unused has more than its limit says.
        suspect = next((one for one in of_kind if one.limit.count == rows), of_kind[0])
        refuse(self._model, suspect.of(int(indices[outside][0])))


def refuse(model: str, finding: Finding) -> None:
    """Say what is beyond its limit.

    Raises:
        IndexOutOfRangeError: always.
    """
    explained = told(model, finding)
    count("device_checks.raised")
    raise IndexOutOfRangeError(
        explained.code,
        explained.what,
        why=explained.why,
        do=explained.do,
        off='safetransformers.configure(device_checks="off")',
        argument=finding.limit.argument,
        value=finding.value,
        place=finding.place,
        limit=finding.limit.count,
    )


class _Proofs(threading.local):
    """What ends the proofs that are under way in this thread, by module."""

    def __init__(self) -> None:
        self.ends: dict[int, ExitStack] = {}


def proving(model: str, suspects: list[Finding]) -> AbstractContextManager[object]:
    """``Proving`` where something is suspected, else nothing."""
    return Proving(model, suspects) if suspects else nullcontext()


_proofs = _Proofs()
_registering = threading.Lock()


class EndOfProof:
    """The forward hook that ends the look at a suspected call, also where it failed."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Leave the mode of this thread's call of the module, if there is one, and the guard does not run it inside."""
        if not is_untouched(module):
            end_proof(module)


def start_proof(module: nn.Module, model: str, suspects: list[Finding]) -> None:
    """Look at each lookup of the call of ``module`` that is about to run."""
    end_proof(module)  # of a call that ended with no hook being called: KeyboardInterrupt
    with _registering:
        if not any(isinstance(hook, EndOfProof) for hook in module._forward_hooks.values()):
            module.register_forward_hook(EndOfProof(), prepend=True, always_call=True)
    end = _proofs.ends[id(module)] = ExitStack()
    end.enter_context(Proving(model, suspects))


def end_proof(module: nn.Module) -> None:
    """Stop looking at the lookups of this thread's call of ``module``."""
    if (end := _proofs.ends.pop(id(module), None)) is not None:
        end.close()
