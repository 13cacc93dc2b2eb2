"""The protocol buffer wire format, as far as TensorFlow's saves need it.

A parser of our own rather than the ``protobuf`` package: that one needs classes compiled from TensorFlow's schemas,
which only TensorFlow ships. The wire format is small and frozen (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

Value = int | memoryview

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_WIDTH: Final = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT: Final = 10  # bytes that 64 bits take


class WireError(ValueError):
    """The bytes are no protocol buffer message."""


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned integer at an offset, and the offset behind it.

    Raises:
        WireError: where the bytes end before it does, or it is longer than 64 bits.
    """
    value = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise WireError(f"no integer ends within the {len(data)} bytes after offset {at}")


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field, in the order of the bytes; nested messages and strings as views.

    Raises:
        WireError: where the bytes are no message.
    """
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("a field has the number 0")
        if kind == _VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = varint(data, at)
        elif kind in _WIDTH:
            size = _WIDTH[kind]
        else:
            raise WireError(f"field {number} is of the unknown wire type {kind}")
        if size > len(data) - at:
            raise WireError(f"field {number} ends behind the message")
        part = data[at : at + size]
        at += size
        yield number, part if kind == _BYTES else int.from_bytes(part, "little")


def signed(value: int) -> int:
    """A varint as the ``int64`` that it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: Value) -> str:
    """A string field.

    Raises:
        WireError: where it is none, or not UTF-8.
    """
    if isinstance(value, int):
        raise WireError("a number stands where a string belongs")
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError("a string is not UTF-8") from error


def message(value: Value) -> memoryview:
    """A field that is a message.

    Raises:
        WireError: where it is a number.
    """
    if isinstance(value, int):
        raise WireError("a number stands where a message belongs")
    return value


def number(value: Value) -> int:
    """A field that is a number.

    Raises:
        WireError: where it is not.
    """
    if not isinstance(value, int):
        raise WireError("bytes stand where a number belongs")
    return value
