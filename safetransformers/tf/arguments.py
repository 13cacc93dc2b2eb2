"""What the arguments of ``convert`` mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ConversionError

if TYPE_CHECKING:
    import torch

OF_ARGUMENTS: Final = frozenset({"ST-TF-012"})
"""Codes of errors that are the caller's command, and not the save."""

_UNITS: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DTYPES: Final = ("float32", "float16", "bfloat16", "float64")


def torch_dtype(name: str | None) -> torch.dtype | None:
    """The type to write, by name; ``None`` keeps the save's.

    Raises:
        ConversionError: for another name.
    """
    import torch

    if name is None:
        return None
    if name not in _DTYPES:
        raise ConversionError("ST-TF-012", f"dtype={name!r} is not one of {', '.join(_DTYPES)}", do="dtype='float32'")
    found: torch.dtype = getattr(torch, name)
    return found


def shard_bytes(size: int | str) -> int:
    """A size in bytes.

    Raises:
        ConversionError: where it is none.

    Example:
        >>> shard_bytes("5GB"), shard_bytes(1000)
        (5000000000, 1000)
    """
    if isinstance(size, int) and size > 0:
        return size
    text = str(size).strip().upper()
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if text.endswith(unit)), "")
    number = text.removesuffix(unit).strip()
    if unit and number.replace(".", "", 1).isdigit() and float(number) > 0:
        return int(float(number) * _UNITS[unit])
    raise ConversionError("ST-TF-012", f"max_shard_size={size!r} is no size", do="max_shard_size='5GB'")
