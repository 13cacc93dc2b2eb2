"""The sorted table in which TensorFlow keeps a checkpoint's index: LevelDB's table format.

(github.com/google/leveldb, doc/table_format.md; TensorFlow's copy is core/lib/io/table.) Blocks of keys that share
prefixes, each with a masked crc32c behind it; a block that lists the others; a footer that says where that one is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .crc import masked_crc32c
from .protobuf import WireError, varint

_MAGIC: Final = 0xDB4775248B80FB57
_FOOTER_BYTES: Final = 48
_TRAILER_BYTES: Final = 5  # how the block is compressed, and its checksum
_PLAIN: Final = 0


def entries(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values in the order of the table; every block's checksum is verified first.

    Raises:
        WireError: where the bytes are no such table, are cut, or do not match their checksum.
    """
    if len(data) < _FOOTER_BYTES:
        raise WireError(f"it has {len(data)} bytes, fewer than the footer of a checkpoint's index")
    footer = data[-_FOOTER_BYTES:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise WireError("it does not end as the index of a checkpoint does: it is cut, or another file")
    _, at = varint(footer, 0)  # where the unused block of filters is
    _, at = varint(footer, at)
    offset, at = varint(footer, at)
    size, _ = varint(footer, at)
    for _, handle in _block(data, offset, size):
        start, at = varint(handle, 0)
        length, _ = varint(handle, at)
        yield from _block(data, start, length)


def _block(data: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    end = offset + size + _TRAILER_BYTES
    if end > len(data) - _FOOTER_BYTES:
        raise WireError(f"its block at byte {offset} ends behind the file: it is cut")
    stored = data[offset : end - 4]
    if masked_crc32c(stored) != int.from_bytes(data[end - 4 : end], "little"):
        raise WireError(f"the checksum of its block at byte {offset} is wrong: it is damaged")
    if stored[-1] != _PLAIN:
        raise WireError("its blocks are compressed, which TensorFlow's own writer does not do")
    block = stored[:-1]
    restarts = int.from_bytes(block[-4:], "little") if size >= 4 else -1
    limit = size - 4 - 4 * restarts
    if restarts < 0 or limit < 0:
        raise WireError(f"its block at byte {offset} is too short")
    at, key = 0, b""
    while at < limit:
        shared, at = varint(block, at)
        unshared, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + unshared + length > limit:
            raise WireError(f"an entry of its block at byte {offset} ends behind the block")
        key = key[:shared] + bytes(block[at : at + unshared])
        at += unshared
        yield key, block[at : at + length]
        at += length
