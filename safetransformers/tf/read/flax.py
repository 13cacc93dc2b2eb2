"""``flax_model.msgpack``: a tree of arrays in MessagePack, read without flax or jax."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from .h5 import missing_extra
from .refusals import broken
from .tensors import ITEM_BYTES, Array, Tensor

_NDARRAY: Final = 1  # flax/serialization.py 0.8: ExtType 1 is an array, 2 a complex number, 3 a numpy scalar
_CHUNKED: Final = "__msgpack_chunked_array__"


def tensors(file: Path) -> list[Tensor]:
    """The weights of a file. The whole file is read, as MessagePack has no index; arrays are views of it.

    Raises:
        BrokenSaveError: where it is cut, or no tree of arrays.
        MissingExtraError: without msgpack.
    """
    try:
        import msgpack
    except ImportError:
        raise missing_extra("msgpack", "a Flax file") from None
    data = file.read_bytes()
    if not data:
        raise broken(file, "it has zero bytes")
    try:
        tree = msgpack.unpackb(data, raw=False, strict_map_key=False, ext_hook=msgpack.ExtType)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise broken(file, f"it is no MessagePack: {error or type(error).__name__}") from None
    if not isinstance(tree, dict):
        raise broken(file, "it holds no tree of weights")
    found = list(_leaves(file, tree, ()))
    if not found:
        raise broken(file, "it holds no weights")
    return found


def _leaves(file: Path, tree: dict[Any, Any], path: tuple[str, ...]) -> Iterator[Tensor]:
    for key, value in tree.items():
        inner = (*path, str(key))
        if isinstance(value, dict) and _CHUNKED in value:
            yield _chunked(file, value, inner)
        elif isinstance(value, dict):
            yield from _leaves(file, value, inner)
        else:
            shape, dtype, content = _array(file, value, inner)
            yield _tensor(inner, shape, dtype, content)


def _array(file: Path, value: Any, path: tuple[str, ...]) -> tuple[tuple[int, ...], str, bytes]:
    import msgpack

    shown = "/".join(path)
    if not isinstance(value, msgpack.ExtType) or value.code != _NDARRAY:
        raise broken(file, f"{shown} is no array")
    try:
        shape, dtype, content = msgpack.unpackb(value.data, raw=True)
        name = dtype.decode()
        extents = tuple(int(extent) for extent in shape)
    except (ValueError, TypeError, AttributeError, msgpack.exceptions.UnpackException):
        raise broken(file, f"the array {shown} is damaged") from None
    if name not in ITEM_BYTES:
        raise broken(file, f"the weight {shown} is of type {name}, not of numbers")
    if len(content) != math.prod(extents) * ITEM_BYTES[name]:
        raise broken(file, f"the weight {shown} has {len(content)} bytes for the shape {list(extents)}")
    return extents, name, content


def _chunked(file: Path, value: dict[str, Any], path: tuple[str, ...]) -> Tensor:
    """An array of more than 2 GiB, which flax splits."""
    shape = value.get("shape")
    chunks = value.get("chunks")
    if not isinstance(shape, dict | list | tuple) or not isinstance(chunks, dict | list | tuple):
        raise broken(file, f"the array {'/'.join(path)} is damaged")
    extents = tuple(int(extent) for extent in (shape.values() if isinstance(shape, dict) else shape))
    parts = [_array(file, one, path) for one in (chunks.values() if isinstance(chunks, dict) else chunks)]
    return _tensor(path, extents, parts[0][1], b"".join(part[2] for part in parts))


def _tensor(path: tuple[str, ...], shape: tuple[int, ...], dtype: str, content: bytes) -> Tensor:
    stored = "uint16" if dtype == "bfloat16" else dtype

    def read() -> Array:
        return np.frombuffer(content, dtype=stored).reshape(shape)

    levels = path[1:] if path[0] in {"params", "batch_stats"} else path
    split = tuple(part for level in levels for part in level.split("/"))
    return Tensor("/".join(path), split, shape, dtype, read)
