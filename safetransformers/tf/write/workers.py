"""Threads that read and write weights beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from .pieces import Memory

if TYPE_CHECKING:
    from typing_extensions import Self

_COUNT: Final = 2
"""More are no faster inside the page cache, and each holds a weight in memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """A few threads, to be used in a ``with`` block.

    Attributes:
        memory: of each thread.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self._pool = ThreadPoolExecutor(_COUNT, "safetransformers-convert")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def each(self, do: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results in order; after an error nothing that waits is begun.

        Raises:
            Exception: the first that ``do`` raised.
        """
        futures = [self._pool.submit(do, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
