"""Values beyond their limits, found on the host: pure, of tensors that are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from .limits import IGNORED_LABEL, Limit


@dataclass(frozen=True)
class Finding:
    """One value beyond its limit.

    Attributes:
        limit: which.
        value: the first such value; of a ``length`` the columns.
        place: its indices in the argument, row first; empty where it has none.
        argument: what the argument holds, on the host.
    """

    limit: Limit
    value: int
    place: tuple[int, ...] = ()
    argument: Tensor | None = field(default=None, repr=False, compare=False)

    def of(self, value: int) -> Finding:
        """The finding of the value that was looked up, where the argument holds it: another may never be looked up.

        A causal model, for one, leaves out the first column of its labels.
        """
        places = [] if self.argument is None else (self.argument == value).nonzero().tolist()
        return replace(self, value=value, place=tuple(places[0])) if places else self


def beyond(limits: Iterable[Limit], values: Mapping[str, Tensor], lengths: Mapping[str, int]) -> list[Finding]:
    """The first value beyond each limit; nothing of what is within. Lengths come last: padding may not need positions.

    Args:
        limits: of the call.
        values: integer tensors on the CPU, by argument.
        lengths: positions that an argument needs, by argument.

    Example:
        >>> import torch
        >>> limit = Limit("id", "input_ids", "wte", 10)
        >>> beyond([limit], {"input_ids": torch.tensor([[1, 2], [3, 12]])}, {})[0].place
        (1, 1)
    """
    found = []
    for limit in limits:
        if limit.kind == "length":
            if (length := lengths.get(limit.argument, 0)) > limit.count:
                found.append(Finding(limit, length))
        elif (tensor := values.get(limit.argument)) is not None:
            outside = is_outside(tensor, limit.count, IGNORED_LABEL if limit.kind == "label" else None)
            if bool(outside.any()):
                place = tuple(outside.nonzero()[0].tolist())
                found.append(Finding(limit, int(tensor[place]), place, tensor))
    return sorted(found, key=lambda finding: finding.limit.kind == "length")


def is_outside(indices: Tensor, count: int, ignored: int | None = None) -> Tensor:
    """Where indices are negative or at least ``count``, and not the one that is ignored; bool, of their shape."""
    outside = (indices < 0) | (indices >= count)
    return outside if ignored is None else outside & (indices != ignored)
