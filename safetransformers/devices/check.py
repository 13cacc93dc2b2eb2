"""What is done before a call whose policy asks for checks: keep a record, or look and name what is suspected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from torch import Tensor, nn

from .. import policies
from ..padding.call import Call, is_unreadable
from . import record
from .findings import Finding, beyond
from .limits import is_decoding, length_of, limits_of
from .snapshot import TYPES, take
from .tables import SIDES

_ARGUMENTS: Final = (
    *(side + name for side in SIDES for name in ("input_ids", "position_ids")),
    "token_type_ids",
    "labels",
)


def suspects(model: nn.Module, call: Call, layer: Mapping[str, Any]) -> list[Finding]:
    """What is beyond a limit in a call that is about to be launched, under ``device_checks="eager"``.

    Under ``"record"`` nothing is looked at: what the arguments hold is copied to the host while the call runs. On the
    CPU not even that: they are still there when the call has failed.

    Cost: ``take``'s under ``record``, nothing on the CPU; one sync under ``eager``. A decoding step is left alone.
    """
    mode = policies.resolve("device_checks", layer)
    if mode == "off" or is_decoding(call):
        return []
    tensors = indices_of(call)
    if mode == "record":
        tensors = {name: value for name, value in tensors.items() if dies_with_its_device(value)}
        if tensors:
            record.keep(model, lengths_of(call), take(tensors))
        return []
    values = take(tensors, waits=True).values() or {}
    return beyond(limits_of(model, call), values, lengths_of(call))


def indices_of(call: Call) -> dict[str, Tensor]:
    """The arguments that index a table, and that can be read here."""
    return {name: value for name in _ARGUMENTS if _is_index(value := call.get(name))}


def _is_index(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dtype in TYPES and value.numel() > 0 and not is_unreadable(value)


def dies_with_its_device(value: Tensor) -> bool:
    """Whether nothing of it can be read after an assert in a kernel: on CUDA, and on HIP, which goes by that name."""
    return value.is_cuda


def lengths_of(call: Call) -> dict[str, int]:
    """The positions that each side of the call needs, by the name of its ids."""
    return {f"{side}input_ids": length_of(call, side) for side in SIDES}
