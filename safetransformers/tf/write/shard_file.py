"""One file of safetensors, written in pieces at their places, and read back the same way.

The library's own writer wants all tensors of a file at once and copies them again, which is two shards of memory. The
format is eight bytes of length, a header of JSON, and the values (github.com/huggingface/safetensors, README).
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..read.tensors import ITEM_BYTES

Layout = Sequence[tuple[str, str, tuple[int, ...]]]
"""Key, type and shape of each tensor of a file, in the order in which they lie in it."""

Header = Mapping[str, tuple[str, tuple[int, ...], int]]
"""Type, shape and place of each tensor of a file that was written."""

_ALIGNMENT: Final = 8
_LENGTH_BYTES: Final = 8
_CODES: Final = {
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}
_NO_RESERVE: Final = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}  # file systems that keep no space free beforehand


def create(file: Path, layout: Layout, metadata: Mapping[str, str]) -> dict[str, int]:
    """Write the header of a file and reserve the space of its values; returns where each begins.

    Reserving makes the writes that follow three times as fast, and a full disk is an error before any work.

    Args:
        file: to write.
        layout: of its tensors.
        metadata: texts for the header.

    Raises:
        OSError: where the disk is full.
    """
    header = _header(layout, metadata)
    places, end = {}, _LENGTH_BYTES + len(header)
    for key, dtype, shape in layout:
        places[key] = end
        end += math.prod(shape) * ITEM_BYTES[dtype]
    with file.open("wb") as opened:
        opened.write(len(header).to_bytes(_LENGTH_BYTES, "little"))
        opened.write(header)
        opened.truncate(end)
        opened.flush()
        _reserve(opened.fileno(), end)
    return places


def put_metadata(file: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
    """Put other texts of the same length into a header, such as digests that were not known when it was written."""
    header = _header(layout, metadata)
    with file.open("r+b") as opened:
        assert int.from_bytes(opened.read(_LENGTH_BYTES), "little") == len(header)
        opened.write(header)


def read_header(file: Path) -> Header:
    """What the header of a file says of its tensors.

    The library opens the file first: it refuses a header that is not whole, has holes, or does not fit the file.

    Raises:
        safetensors.SafetensorError: as said.
    """
    from safetensors import safe_open

    names = {code: name for name, code in _CODES.items()}
    with safe_open(file, framework="numpy") as opened, file.open("rb") as raw:
        length = int.from_bytes(raw.read(_LENGTH_BYTES), "little")
        header = json.loads(raw.read(length))
        return {
            key: (
                names[header[key]["dtype"]],
                tuple(header[key]["shape"]),
                _LENGTH_BYTES + length + header[key]["data_offsets"][0],
            )
            for key in opened.keys()  # noqa: SIM118 - not a mapping
        }


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for key, dtype, shape in layout:
        start, end = end, end + math.prod(shape) * ITEM_BYTES[dtype]
        header[key] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def _reserve(descriptor: int, size_bytes: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in _NO_RESERVE:
            raise
