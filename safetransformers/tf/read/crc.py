"""The checksum of TensorFlow's checkpoints: crc32c, masked as in core/lib/hash/crc32c.h."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_MASK_DELTA: Final = 0xA282EAD8


def masked_crc32c(*parts: memoryview | bytes) -> int:
    """The masked checksum of the parts, one after another. Costs about a second for each 5 GB.

    Raises:
        MissingExtraError: without google-crc32c.
    """
    extend = _extend()
    value = 0
    for part in parts:
        value = extend(value, bytes(part))
    return (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _extend() -> Callable[[int, bytes], int]:
    try:
        import google_crc32c
    except ImportError:
        from .h5 import missing_extra

        raise missing_extra("google-crc32c", "a TensorFlow checkpoint") from None
    extend: Callable[[int, bytes], int] = google_crc32c.extend
    return extend
