"""The note on a call that died of an index: which tensor, which value, where, and which limit."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from torch import nn
from torch.nn import functional

from .. import policies
from ..explanation import Explanation
from ..padding.call import Call
from ..padding.plan import attached
from .check import indices_of, lengths_of
from .findings import Finding, beyond
from .limits import limits_of
from .record import is_lost, of_lost
from .tables import row_count, tables_of
from .texts import told

# aten/src/ATen/native: Embedding.cpp, TensorAdvancedIndexing.cpp, LossNLL.cpp and ExpandUtils.h (torch 2.13).
_INDEX: Final = re.compile(
    r"index out of range in self|index -?\d+ is out of bounds for dimension \d+ with size (?P<rows>\d+)"
)
_LABEL: Final = re.compile(r"Target (?P<label>-?\d+) is out of bounds")
_SIZES: Final = re.compile(r"The (?:expanded )?size of (?:the )?tensor .* must match")


def explanation(
    module: nn.Module, arguments: Mapping[str, Any], error: BaseException, layer: Mapping[str, Any]
) -> Explanation | None:
    """What a guarded call died of, where an index beyond its table explains it; None for every other failure.

    Args:
        module: the guarded model.
        arguments: that its forward got, or its generate(), by name.
        error: what forward raised.
        layer: the model's own policy fields.

    Cost: reads of the host's memory. No device is touched: after a device-side assert none can be.
    """
    name = type(module).__name__
    call = Call((), (), {"input_ids": arguments.get("inputs"), **arguments})  # generate() names its prompt so
    if is_lost(error):
        return of_lost(error) or _first(name, _too_long(module, call), is_lost=True)
    text = str(error)
    if label := _LABEL.search(text):
        found = [one.of(int(label["label"])) for one in _on_the_host(module, call, layer) if one.limit.kind == "label"]
    elif index := _INDEX.search(text):
        rows = int(index["rows"]) if index["rows"] else _looked_up(error)
        found = [one for one in _on_the_host(module, call, layer) if _is_in(module, call, one, rows)]
    elif _SIZES.search(text):  # the model's own positions end at the last one, and stand beside a longer row
        sizes = set(map(int, re.findall(r"\d+", text)))
        found = [one for one in _too_long(module, call) if {one.value, one.limit.count} <= sizes]
    else:
        return None
    return _first(name, found)


def _looked_up(error: BaseException) -> int | None:
    """The rows of the table whose lookup failed, where the traceback shows the call of ``functional.embedding``."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is functional.embedding.__code__:
            return int(frame.f_locals["weight"].shape[0])
    return None


def _is_in(module: nn.Module, call: Call, finding: Finding, rows: int | None) -> bool:
    """Whether a finding is about the table that has so many rows."""
    table = finding.limit.table
    if finding.limit.kind == "label":  # moved to the right they are the decoder's ids, where none are passed
        decoder = tables_of(module).get("decoder_")
        if decoder is None or call.get("decoder_input_ids") is not None:
            return False
        table = decoder.ids
    return rows is None or rows == row_count(module.get_submodule(table))


def _first(name: str, found: list[Finding], *, is_lost: bool = False) -> Explanation | None:
    return told(name, found[0], is_lost=is_lost) if found else None


def _too_long(module: nn.Module, call: Call) -> list[Finding]:
    return beyond(limits_of(module, call), {}, lengths_of(call))


def _on_the_host(module: nn.Module, call: Call, layer: Mapping[str, Any]) -> list[Finding]:
    """What is beyond a limit in arguments on the CPU, at the places where the caller had put them."""
    plan = attached(call.get("input_ids"))
    if plan is not None and plan.inputs:  # rows were rolled
        call = Call((), (), plan.inputs)
    values = {name: value for name, value in indices_of(call).items() if value.device.type == "cpu"}
    found = beyond(limits_of(module, call), values, lengths_of(call))
    is_moved = policies.resolve("padding", layer) == "exact"  # a group of the caller's rows, without their padding
    return [replace(one, place=(), argument=None) for one in found] if is_moved else found
