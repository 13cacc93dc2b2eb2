"""What a file's format says of its own length and content: read from headers, never unpickled, never trusted.

Each check takes an open file and its size in bytes and raises :class:`BrokenFormatError` where the two disagree.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

SMALL_BYTES = 16 * 1024 * 1024
"""JSON up to this size is parsed; of a longer file only the two ends are looked at."""

HEAD_BYTES = 4096

Check = Callable[[BinaryIO, int], None]

_SAFETENSORS_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_MAY_BE_HTML = (".html", ".htm", ".md", ".jinja", ".rst")
_NEVER_EMPTY = (
    *(".safetensors", ".gguf", ".h5", ".msgpack", ".json", ".model", ".spm", ".tiktoken", ".codes", ".pkl"),
    *_PICKLES,
)
_NEVER_EMPTY_NAMES = frozenset({"vocab.txt", "merges.txt", "dict.txt", "prophetnet.tokenizer"})


class BrokenFormatError(ValueError):
    """A file breaks the rules of its format.

    Attributes:
        problem: one of the words that ``Damage.problem`` lists.
        expected: what the format asks for.
        found: what is there.
    """

    def __init__(self, problem: str, expected: str = "", found: str = "") -> None:
        super().__init__(problem, expected, found)
        self.problem, self.expected, self.found = problem, expected, found


def format_check(name: str) -> Check:
    """The check that a file's name asks for, by its ending; one that accepts everything for an unknown ending."""
    ending = "." + name.rpartition(".")[2].lower()
    if ending in _PICKLES:
        return _check_pickle
    return {".safetensors": _check_safetensors, ".gguf": _check_gguf, ".h5": _check_hdf5, ".json": _check_json}.get(
        ending, _check_nothing
    )


def check_head(name: str, head: bytes, size: int) -> None:
    """What the first bytes alone tell: nothing at all where something must be, or a web page in place of the file."""
    base = name.rpartition("/")[2].lower()
    if size == 0 and (base.endswith(_NEVER_EMPTY) or base in _NEVER_EMPTY_NAMES):
        raise BrokenFormatError("empty", found="0 bytes")
    if base.endswith(_MAY_BE_HTML):
        return
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"<!doctype\s+html|<html[\s>]", start, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>\s*([^<]{1,80})", start, re.IGNORECASE)
        text = "".join(c for c in title[1].decode("utf-8", "replace").strip() if c.isprintable()) if title else ""
        raise BrokenFormatError("an HTML page", found=f'a page titled "{text}"' if text else f"{size} bytes of HTML")


def _check_nothing(file: BinaryIO, size: int) -> None:
    """Formats without a length of their own."""


def _bytes(count: int) -> str:
    return f"{count} bytes"


def _check_length(needed: int, size: int) -> None:
    if size < needed:
        raise BrokenFormatError("truncated", _bytes(needed), _bytes(size))
    if size > needed:
        raise BrokenFormatError("longer than its header says", _bytes(needed), _bytes(size))


def _check_json(file: BinaryIO, size: int) -> None:
    if size > SMALL_BYTES:
        head = file.read(HEAD_BYTES).lstrip()[:1]
        file.seek(size - HEAD_BYTES)
        tail = file.read().rstrip()[-1:]
        if head not in (b"{", b"["):
            raise BrokenFormatError("not JSON", found=f"it starts with {head!r}")
        if tail != {b"{": b"}", b"[": b"]"}[head]:
            raise BrokenFormatError("truncated", "JSON", f"{size} bytes, the end is missing")
        return
    data = file.read()
    try:
        json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BrokenFormatError("not JSON", "UTF-8", f"byte {data[error.start]:#04x} at {error.start}") from None
    except RecursionError:
        raise BrokenFormatError("not JSON", found="nested too deeply") from None
    except ValueError as error:
        text = data.strip()
        if text[:1] in (b"{", b"[") and text[-1:] not in (b"}", b"]"):
            raise BrokenFormatError("truncated", "JSON", f"{size} bytes, the end is missing") from None
        raise BrokenFormatError("not JSON", found=str(error)) from None


def _check_safetensors(file: BinaryIO, size: int) -> None:
    """8 bytes of header length, the header as JSON, then the tensors without a gap (the safetensors format)."""
    if size < 8:
        raise BrokenFormatError("truncated", "at least 8 bytes", _bytes(size))
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _SAFETENSORS_MAX_HEADER_BYTES:
        raise BrokenFormatError("not its format", "a safetensors header", f"a header length of {length}")
    if 8 + length > size:
        raise BrokenFormatError("truncated", f"a header of {length} bytes", _bytes(size))
    try:
        header = json.loads(file.read(length))
        spans = sorted(_span(entry) for key, entry in header.items() if key != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BrokenFormatError("not its format", "a safetensors header", "a header that is not one") from None
    end = 0
    for start, stop in spans:
        if start != end or stop < start:
            raise BrokenFormatError("not its format", f"a tensor at byte {end}", f"one at {start} to {stop}")
        end = stop
    _check_length(8 + length + end, size)


def _span(entry: dict[str, Any]) -> tuple[int, int]:
    start, stop = entry["data_offsets"]
    if not (type(start) is int and type(stop) is int):
        raise TypeError(entry)
    return start, stop


def _check_pickle(file: BinaryIO, size: int) -> None:
    """A zip's list of members stands at its very end, so a cut file has none; a pickle of before 2020 tells nothing."""
    if file.read(4) != b"PK\x03\x04":
        return
    try:
        with zipfile.ZipFile(file) as archive:
            starts = [member.header_offset for member in archive.infolist()]
            ends = [member.header_offset + member.compress_size for member in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, struct.error, IndexError) as error:
        raise BrokenFormatError("truncated", "a zip with its list of members", f"{size} bytes, {error}") from None
    if min(starts, default=0) < 0 or max(ends, default=0) > size:  # the list is whole, what it lists is not
        raise BrokenFormatError("truncated", f"more than {size} bytes", _bytes(size))


def _check_hdf5(file: BinaryIO, size: int) -> None:
    """The signature and the end-of-file address in the superblock (HDF5 file format, versions 0 to 3)."""
    block = file.read(128)
    if not block.startswith(b"\x89HDF\r\n\x1a\n"):
        raise BrokenFormatError("not its format", "the HDF5 signature", repr(block[:8]))
    if size < 48:
        raise BrokenFormatError("truncated", "an HDF5 superblock", _bytes(size))
    version = block[8]
    width, first = (block[13], 24 if version == 0 else 28) if version < 2 else (block[9], 12)
    if version > 3 or width not in (4, 8):
        return
    needed = int.from_bytes(block[first + 2 * width : first + 3 * width], "little")
    if size < needed:  # a file may be longer: HDF5 pads
        raise BrokenFormatError("truncated", _bytes(needed), _bytes(size))


# (values in a block, bytes of a block) of each GGML tensor type, by its number in the GGUF format
# fmt: off
_GGML_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}
# fmt: on
_GGUF_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_STRING, _GGUF_ARRAY = 8, 9


def _check_gguf(file: BinaryIO, size: int) -> None:
    """Walks the metadata and the list of tensors to the byte where the last tensor ends (the GGUF format, 2 and 3)."""
    magic, version = file.read(4), file.read(4)
    if magic != b"GGUF":
        raise BrokenFormatError("not its format", "the GGUF magic", repr(magic))
    if int.from_bytes(version, "little") not in (2, 3):  # big-endian or of 2023: read by few, judged by none here
        return
    needed = _GgufHeader(file, size).needed()
    if size < needed:
        raise BrokenFormatError("truncated", f"at least {needed} bytes", _bytes(size))


class _GgufHeader:
    """A reader of the header that compares every length with what is left of the file before it uses it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.at = file, size, 8

    def number(self, width: int) -> int:
        self.room(width)
        return int.from_bytes(self.file.read(width), "little")

    def text(self) -> bytes:
        length = self.number(8)
        self.room(length)
        return self.file.read(length)

    def room(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            raise BrokenFormatError("truncated", f"a GGUF header of at least {self.at} bytes", _bytes(self.size))

    def skip_value(self, kind: int) -> None:
        if kind == _GGUF_STRING:
            self.text()
        elif kind == _GGUF_ARRAY:
            kind, count = self.number(4), self.number(8)
            if kind in _GGUF_VALUE_BYTES:
                self.room(count * _GGUF_VALUE_BYTES[kind])
                self.file.seek(self.at)
            elif kind == _GGUF_STRING:  # ends by itself: each string takes 8 bytes of the file
                for _ in range(count):
                    self.text()
            else:
                raise BrokenFormatError("not its format", "a GGUF array", f"elements of type {kind}")
        elif kind in _GGUF_VALUE_BYTES:
            self.number(_GGUF_VALUE_BYTES[kind])
        else:
            raise BrokenFormatError("not its format", "GGUF metadata", f"a value of type {kind}")

    def needed(self) -> int:
        """The smallest size that the file can have, in bytes."""
        tensors, values, alignment, end = self.number(8), self.number(8), 32, 0
        for _ in range(values):
            key, kind = self.text(), self.number(4)
            if key == b"general.alignment" and kind == 4:
                alignment = self.number(4) or 32
            else:
                self.skip_value(kind)
        for _ in range(tensors):
            self.text()
            dimensions = self.number(4)
            if dimensions > 8:
                raise BrokenFormatError("not its format", "a GGUF tensor", f"one of {dimensions} dimensions")
            count = math.prod(self.number(8) for _ in range(dimensions))
            per_block, block_bytes = _GGML_BLOCKS.get(self.number(4), (1, 0))  # a type of tomorrow: where it starts
            end = max(end, self.number(8) + count // per_block * block_bytes)
        return -(-self.at // alignment) * alignment + end if tensors else self.at
