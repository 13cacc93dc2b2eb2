"""The last calls of this process that were launched with a record, for what is told when one of them has died."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from ..explanation import Explanation
from ..padding.call import Call
from .findings import beyond
from .limits import limits_of
from .snapshot import Snapshot
from .texts import told

# The host runs ahead of a GPU by at most about a thousand launches, which are a few forwards.
_KEPT: Final = 8


@dataclass(frozen=True, eq=False)
class Record:
    """One call: nothing in it keeps the model alive, or memory of a device.

    Attributes:
        model: whose call it was. Its limits are read when they are needed, which takes no device.
        lengths: positions that it needs, by argument.
        snapshot: what its arguments held.
    """

    model: weakref.ref[nn.Module]
    lengths: dict[str, int]
    snapshot: Snapshot


_records: deque[Record] = deque(maxlen=_KEPT)


def keep(model: nn.Module, lengths: dict[str, int], snapshot: Snapshot) -> None:
    """Keep the record of a call that is about to be launched, in place of the oldest one."""
    _records.append(Record(weakref.ref(model), lengths, snapshot))


def is_lost(error: BaseException) -> bool:
    """Whether a kernel has stopped, and with it the device for this process (``AcceleratorError``, torch 2.13)."""
    return isinstance(error, RuntimeError) and "device-side assert" in str(error)


def of_lost(error: BaseException) -> Explanation | None:
    """What a device-side assert was about, also where a later sync shows it; None where the records do not tell.

    Of each device only the newest record that has arrived counts: the calls before it had run to their end, and those
    after it had not begun.

    Cost: reads of the host's memory.
    """
    told_of: set[torch.device] = set()
    for record in reversed(tuple(_records)) if is_lost(error) else ():
        values = record.snapshot.values()
        if values is None or record.snapshot.devices <= told_of:
            continue
        told_of |= record.snapshot.devices
        model = record.model()
        if model is not None and (found := beyond(limits_of(model, Call((), (), values)), values, record.lengths)):
            return told(type(model).__name__, found[0], is_lost=True)
    return None


def forget() -> None:
    """Forget all records (for tests)."""
    _records.clear()
