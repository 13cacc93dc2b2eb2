"""Which batch fits, and which accumulation keeps the effective batch: arithmetic, without torch."""

from __future__ import annotations


def largest_that_fits(batch: int, needed_bytes: int, room_bytes: int) -> int:
    """The most rows that can fit, where ``batch`` rows did not: what a batch needs is taken as linear in its rows.

    ``needed_bytes`` was seen when the call failed, so it is a lower bound and the answer an upper one.

    Example:
        >>> largest_that_fits(64, 20 * 2**30, 12 * 2**30), largest_that_fits(2, 8, 1)
        (38, 1)
    """
    if needed_bytes <= 0:
        return max(1, batch // 2)
    return max(1, min(batch - 1, batch * max(room_bytes, 0) // needed_bytes))


def split_batch(batch: int, accumulation: int, at_most: int | None = None) -> tuple[int, int] | None:
    """A smaller batch and the accumulation that keeps their product: ``None`` where one row is left.

    Args:
        batch: rows a step of one device.
        accumulation: gradient accumulation steps.
        at_most: rows that may fit; the next smaller divisor of ``batch`` where not told.

    Example:
        >>> split_batch(64, 1, at_most=38), split_batch(6, 2), split_batch(1, 8)
        ((32, 2), (3, 4), None)
    """
    if batch <= 1:
        return None
    bound = batch - 1 if at_most is None else max(1, min(at_most, batch - 1))
    smaller = next(rows for rows in range(bound, 0, -1) if batch % rows == 0)
    return smaller, accumulation * (batch // smaller)


def nearest_divisors(product: int, wanted: int) -> tuple[int, ...]:
    """The divisors of ``product`` on both sides of ``wanted``.

    Example:
        >>> nearest_divisors(64, 24), nearest_divisors(8, 100)
        ((16, 32), (8,))
    """
    divisors = [n for n in range(1, product + 1) if product % n == 0]
    below = [n for n in divisors if n <= wanted]
    above = [n for n in divisors if n >= wanted]
    return tuple(dict.fromkeys((*below[-1:], *above[:1])))


def smaller_batch(batch: int, minimum: int, multiple_of: int) -> int | None:
    """Half of a batch, rounded down to a multiple and up to the floor: ``None`` where it is at the floor already.

    Example:
        >>> smaller_batch(48, 8, 8), smaller_batch(24, 8, 8), smaller_batch(8, 8, 8)
        (24, 8, None)
    """
    floor = -(-minimum // multiple_of) * multiple_of
    half = max(floor, batch // 2 // multiple_of * multiple_of)
    return half if half < batch else None
