"""Which weight of a save goes to which key of the target, and what is left over on either side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..read.tensors import Tensor
from . import naming
from .orient import Turn, turn
from .target import Slot, Target


@dataclass(frozen=True)
class Placed:
    """One weight with its place.

    Attributes:
        tensor: as stored.
        slot: the place.
        turn: what makes of the stored values those that torch wants.
        copies: further weights of the save for the same place, or for one that torch ties to it.
    """

    tensor: Tensor
    slot: Slot
    turn: Turn
    copies: tuple[Placed, ...] = ()


@dataclass
class Match:
    """How a save fits a target.

    Attributes:
        placed: by key.
        missing: keys that the save has no weight for.
        unused: weights that the target has no key for.
        misshapen: weights whose name fits a key, and whose shape does not, with the two shapes.
        by_order: layers that fit several modules equally well and were given to the first, in the order of definition.
    """

    placed: dict[str, Placed] = field(default_factory=dict)
    missing: list[Slot] = field(default_factory=list)
    unused: list[Tensor] = field(default_factory=list)
    misshapen: list[tuple[Tensor, Slot]] = field(default_factory=list)
    by_order: dict[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """How far the two are from each other; 0 where each weight has its key and each key its weight."""
        return len(self.missing) + len(self.unused) + len(self.misshapen)


def match(tensors: Sequence[Tensor], target: Target) -> Match:
    """Give each weight its key by name and shape.

    Costs no read of a weight. Of a group of tied keys only the first is filled; weights that go to another key of the
    group are copies of it.
    """
    found = Match()
    for tensor in tensors:
        place(tensor, target, found)
    filled = set(found.placed) | {slot.key for _, slot in found.misshapen}
    found.missing = [slot for slot in target.written() if slot.key not in filled]
    return found


def computed(slot: Slot) -> Placed:
    """A buffer that torch's module computes, in its place as if a save had it.

    Raises:
        ValueError: the place is one that a save must fill.
    """
    values = slot.computed
    if values is None:
        raise ValueError(slot.key)
    tensor = Tensor(slot.key, tuple(slot.key.split(".")), values.shape, values.dtype.name, lambda: values)
    return Placed(tensor, slot, lambda array: array)


def place(tensor: Tensor, target: Target, found: Match) -> None:
    """Put one weight that is known by name into its place."""
    misfit: Slot | None = None
    for key in naming.candidates(tensor.path, target):
        slot = target.slots.get(key)
        if slot is None:
            continue
        turned = turn(tensor, slot)
        if turned is not None:
            put(tensor, slot, turned, target, found)
            return
        misfit = misfit or slot
    if misfit is not None:
        found.misshapen.append((tensor, misfit))
    else:
        found.unused.append(tensor)


def put(tensor: Tensor, slot: Slot, turned: Turn, target: Target, found: Match) -> None:
    """Note that a weight goes to a key, or is a further copy of what is there."""
    owner = target.slots[slot.group[0]]
    before = found.placed.get(owner.key)
    if before is None:
        found.placed[owner.key] = Placed(
            tensor, owner, turned, (Placed(tensor, slot, turned),) if slot != owner else ()
        )
    else:
        found.placed[owner.key] = replace(before, copies=(*before.copies, Placed(tensor, slot, turned)))
