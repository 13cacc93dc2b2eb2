"""``fit_batch_size``: the largest of some batch sizes with which a function does not run out of memory."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from torch import Tensor, nn
from typing_extensions import NamedTuple  # comes with torch; typing's takes no Generic before Python 3.11

from ..counts import count
from ..errors import BatchSizeError
from . import texts
from .fit import smaller_batch
from .freeing import free

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Fit(NamedTuple, Generic[Result]):
    """What the function returned, and the batch size that it was called with."""

    result: Result
    batch_size: int


_remembered: dict[Hashable, int] = {}


# accelerate's find_executable_batch_size (1.15) does not serve: it knows five texts of an error and no MemoryError,
# frees memory while the failed call's frames still hold it, and ends in an error of its own, not in the last real one.
def fit_batch_size(
    fn: Callable[[int], Result], start: int, *, minimum: int = 1, multiple_of: int = 1, key: Any = None
) -> Fit[Result]:
    """Call ``fn(batch_size)`` with ``start``, and with half of it as long as memory runs out.

    For training, evaluation and ``generate()``: whatever the function does with that many rows at a time. It is called
    anew each time, so it should make its loader and its optimizer itself.

    Args:
        fn: takes the batch size.
        start: the first size, rounded down to ``multiple_of``.
        minimum: no smaller size is tried.
        multiple_of: each size is a multiple of it.
        key: what the size holds for, such as ``(model, model.device, input_ids)``: later calls with an equal key start
            at the size that fitted. Models count by identity and are not kept alive; tensors by shape, dtype, device.

    Returns:
        What ``fn`` returned, and the size.

    Raises:
        BatchSizeError: where no size is between ``minimum`` and ``start``.
        Exception: the last error where the smallest size does not fit, and any error that is not about memory, at once.

    Cost: a garbage collection and an emptied cache after each size that did not fit; nothing where the first does.

    Example:
        >>> def run(batch_size):
        ...     if batch_size > 20:
        ...         raise MemoryError
        ...     return "done"
        >>> fit_batch_size(run, 64)
        Fit(result='done', batch_size=16)
    """
    size, floor = start // max(multiple_of, 1) * multiple_of, -(-minimum // max(multiple_of, 1)) * multiple_of
    if minimum < 1 or multiple_of < 1 or size < floor:
        raise BatchSizeError(
            "ST-OOM-006",
            f"there is no batch size from minimum={minimum} to start={start} that is a multiple of {multiple_of}",
            do="a larger start, or a smaller minimum or multiple_of, each 1 or more",
        )
    name = _name(key)
    if name in _remembered:
        size = max(floor, min(size, _remembered[name]) // multiple_of * multiple_of)
    while True:
        try:
            result = fn(size)
        except (RuntimeError, MemoryError) as error:
            kind = texts.kind_of(error)
            smaller = smaller_batch(size, minimum, multiple_of)
            if kind is None or smaller is None:
                raise
            failure = error
        else:
            if name is not None:
                _remembered[name] = size
            logger.info("batch size %d fits", size)
            return Fit(result, size)
        logger.info("batch size %d runs out of memory; trying %d", size, smaller)
        count("memory.reduced")
        free(failure, kind)
        del failure
        size = smaller


def _name(key: Any) -> Hashable | None:
    """The key with its models held weakly, and its tensors as shape, dtype and device."""
    if isinstance(key, nn.Module):
        return weakref.ref(key)
    if isinstance(key, Tensor):
        return tuple(key.shape), key.dtype, key.device
    if isinstance(key, (tuple, list)):
        return tuple(map(_name, key))
    return key  # type: ignore[no-any-return]  # an unhashable one fails where it is looked up, with its own words
