"""The words by which memory that has run out is known: of torch's allocators, the libraries below it, and Python.

Pure text, without torch: the rules of ``explanations`` are made of the same patterns.
"""

from __future__ import annotations

import re
from typing import Final

# One pattern an allocator, matched at the start of the message; the groups are what it says besides.
ACCELERATOR: Final = r"(?P<device>CUDA|HIP|XPU) out of memory\. Tried to allocate (?P<asked>[\d.]+ \w+)"
DRIVER: Final = r"(?:CUDA|HIP) error: out of memory"
MPS: Final = (
    r"MPS backend out of memory \(MPS allocated: (?P<held>[\d.]+ \w+), other allocations: (?P<others>[\d.]+ \w+), "
    r"max allowed: (?P<limit>[\d.]+ \w+)\)\. Tried to allocate (?P<asked>[\d.]+ \w+)"
)
CPU: Final = (
    r"(?:\[enforce fail at [^\]\n]{1,300}:\d+\] [^.]{0,40}\. )?DefaultCPUAllocator: (?:can't allocate memory|not "
    r"enough memory): you tried to allocate (?P<asked>\d{1,20}) bytes"
)
NUMPY: Final = (
    r"Unable to allocate (?P<asked>[\d.]+ \w+) for an array with shape (?P<shape>\([\d, ]*\)) and data type "
    r"(?P<dtype>\S+)"
)
CUBLAS_FULL: Final = r"CUDA error: CUBLAS_STATUS_ALLOC_FAILED"
CUDNN_FULL: Final = r"cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
# Each algorithm was tried and none got its workspace, or so it is most often (cudnn/Conv_v7.cpp and Conv_v8.cpp).
CUDNN_WORKSPACE: Final = (
    r"Unable to find a valid cuDNN algorithm to run convolution"
    r"|(?:GET|FIND) was unable to find an engine to execute this computation"
)
ONEDNN: Final = r"could not create a primitive$"  # seen under ulimit -v; oneDNN gives no reason
# XPU's driver, as SYCL passes it on; a line above may say what failed for it.
LEVEL_ZERO: Final = (
    r"(?:[\w ]{1,100}\.\n)?(?:level_zero backend failed with error: |Native API failed\. Native API returns: )\d+ "
    r"[(\[](?P<status>UR_RESULT_ERROR_OUT_OF_(?:DEVICE|HOST)_MEMORY)"
)
GAUDI: Final = (
    r"(?:\[Rank:\d+\] )?FATAL ERROR :: MODULE:(?:PT_DEVMEM Allocation failed for|SYNHELPER workspace Allocation of) "
    r"size ?::(?P<asked>\d{1,20})"
)

# Which kind of memory each of them is about, as torch.device names it.
_KINDS: Final = (
    (ACCELERATOR, ""),
    (DRIVER, "cuda"),
    (CUBLAS_FULL, "cuda"),
    (CUDNN_FULL, "cuda"),
    (CUDNN_WORKSPACE, "cuda"),
    (ONEDNN, "cpu"),
    (LEVEL_ZERO, "xpu"),
    (GAUDI, "hpu"),
    (MPS, "mps"),
    (CPU, "cpu"),
    (NUMPY, "cpu"),
)
_PATTERNS: Final = tuple((re.compile(pattern), kind) for pattern, kind in _KINDS)
_TYPES: Final = {"OutOfMemoryError": "cuda", "MemoryError": "cpu"}  # torch's own, and Python's
_UNSURE: Final = re.compile(f"{CUDNN_WORKSPACE}|{ONEDNN}")  # said of other causes too
_SCALE: Final = {"bytes": 0, "KiB": 1, "KB": 1, "MiB": 2, "MB": 2, "GiB": 3, "GB": 3, "TiB": 4, "PiB": 5}


def kind_of(error: BaseException) -> str | None:
    """The kind of device whose memory has run out, as ``torch.device.type`` names it; ``None`` for another failure.

    A type alone is enough for ``torch.OutOfMemoryError`` and ``MemoryError``; else it is a ``RuntimeError`` with one of
    the texts above. XPU's and HIP's allocators raise ``torch.OutOfMemoryError`` too, and HIP's devices go by ``cuda``.

    Example:
        >>> kind_of(RuntimeError("CUDA error: out of memory")), kind_of(MemoryError()), kind_of(ValueError("no"))
        ('cuda', 'cpu', None)
    """
    if isinstance(error, (RuntimeError, MemoryError)):
        text = str(error)
        for pattern, kind in _PATTERNS:
            if found := pattern.match(text):
                return kind or found["device"].lower().replace("hip", "cuda")
        return next((_TYPES[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in _TYPES), None)
    return None


def is_sure(error: BaseException) -> bool:
    """Whether the words of an error that ``kind_of`` knows are said of memory alone."""
    return _UNSURE.match(str(error)) is None


def asked_bytes(text: str) -> int | None:
    """How much was asked for, where the text says so.

    Example:
        >>> asked_bytes("CUDA out of memory. Tried to allocate 2.00 GiB."), asked_bytes("CUDA error: out of memory")
        (2147483648, None)
    """
    for pattern, _ in _PATTERNS:
        if (found := pattern.match(text)) and (asked := found.groupdict().get("asked")):
            number, _, unit = asked.partition(" ")
            return int(float(number) * 1024 ** _SCALE.get(unit, 0))
    return None


def size(n_bytes: float) -> str:
    """A number of bytes in words, in the unit that leaves at most four digits.

    Example:
        >>> size(512), size(3 * 2**29), size(2**42)
        ('512 bytes', '1.5 GiB', '4.0 TiB')
    """
    if n_bytes < 1024:
        return f"{n_bytes:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        n_bytes /= 1024
        if n_bytes < 1024:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:.1f} PiB"
