"""Does torch's build fit the GPU and its driver, and how much of its memory is free?"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .finding import Finding

TOPIC: Final = "accelerator"
_DRIVER_FILE: Final = Path("/proc/driver/nvidia/version")
_LIBRARIES: Final = ("libcuda.so.1", "nvcuda.dll")
_LITTLE_FREE: Final = 0.1
_PAGE: Final = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class Device:
    """One GPU that torch can use.

    Attributes:
        name: of the GPU.
        capability: its compute capability, such as ``(9, 0)``; ``None`` where it has none.
        free_bytes: of its memory.
        total_bytes: of its memory.
    """

    name: str
    capability: tuple[int, int] | None
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Facts:
    """What torch and the driver say.

    Attributes:
        torch: its version; empty where it cannot be imported.
        cuda: the CUDA that it is built for, such as ``"12.8"``; empty for another build.
        rocm: the same of ROCm.
        has_mps: whether Apple's GPU can be used.
        driver: version of the NVIDIA driver; empty where there is none or it cannot be told.
        driver_cuda: the newest CUDA that the driver runs, such as ``(12, 8)``; ``None`` where it cannot be told.
        devices: the GPUs that torch can use.
        arches: what torch's kernels are built for, such as ``("sm_80", "compute_90")``.
        visible: ``CUDA_VISIBLE_DEVICES``; ``None`` where it is not set.
        failure: what torch says where it cannot be imported, or cannot start CUDA.
    """

    torch: str
    cuda: str = ""
    rocm: str = ""
    has_mps: bool = False
    driver: str = ""
    driver_cuda: tuple[int, int] | None = None
    devices: tuple[Device, ...] = ()
    arches: tuple[str, ...] = ()
    visible: str | None = None
    failure: str = ""


def look() -> Facts:
    """Ask torch and the driver. Where there is a GPU, its context is made in this process: some hundred megabytes."""
    driver, driver_cuda, visible = _driver(), _driver_cuda(), os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library beside it is missing
        return Facts("", driver=driver, driver_cuda=driver_cuda, failure=_first_line(error))
    failure = ""
    devices: tuple[Device, ...] = ()
    arches: tuple[str, ...] = ()
    if torch.cuda.is_available():
        try:
            devices = tuple(_device(index) for index in range(torch.cuda.device_count()))
            arches = tuple(torch.cuda.get_arch_list())
        except RuntimeError as error:
            failure = _first_line(error)
    elif torch.version.cuda is not None and driver:
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]  # torch has no annotations here
        except (RuntimeError, AssertionError) as error:
            failure = _first_line(error)
    return Facts(
        torch.__version__,
        torch.version.cuda or "",
        torch.version.hip or "",
        torch.backends.mps.is_available(),
        driver,
        driver_cuda,
        devices,
        arches,
        visible,
        failure,
    )


def findings(facts: Facts, platform: str = sys.platform) -> Iterator[Finding]:
    """What there is to say about them."""
    if not facts.torch:
        do = "pip install --force-reinstall torch"
        yield Finding(TOPIC, "problem", "torch cannot be imported", facts.failure, do)
        return
    built = f"torch {facts.torch}, built for " + (
        f"CUDA {facts.cuda}"
        if facts.cuda
        else f"ROCm {facts.rocm}"
        if facts.rocm
        else "no GPU but Apple's"
        if facts.has_mps
        else "the CPU"
    )
    if facts.devices:
        driver = f"; NVIDIA driver {facts.driver}" if facts.driver and facts.cuda else ""
        yield Finding(TOPIC, "ok", f"{built}{driver}")
        for index, device in enumerate(facts.devices):
            yield from _of_device(index, device, facts)
        return
    if facts.failure:
        do = 'python -c "import torch; torch.cuda.init()" shows it whole; often a restart of the machine helps'
        if facts.driver_cuda is not None and facts.cuda and facts.driver_cuda < _major(facts.cuda):
            yield _old_driver(built, facts)
        else:
            yield Finding(TOPIC, "problem", f"{built}, cannot start CUDA", facts.failure, do)
        return
    yield _without_device(built, facts, platform)


def _without_device(built: str, facts: Facts, platform: str) -> Finding:
    driver = f"an NVIDIA driver ({facts.driver})"
    if not facts.cuda and not facts.rocm:
        if not facts.driver or facts.has_mps:
            return Finding(TOPIC, "ok", built)
        do = "pip install --force-reinstall torch" if platform == "linux" else f"choose a build with CUDA: {_PAGE}"
        return Finding(TOPIC, "problem", built, f"there is {driver}, and this build cannot use its GPU", do)
    if facts.visible is not None and not facts.visible.strip("-1 "):
        why = f"CUDA_VISIBLE_DEVICES={facts.visible!r} hides every GPU from this process"
        return Finding(TOPIC, "note", f"{built}, sees no GPU", why, "unset CUDA_VISIBLE_DEVICES")
    if facts.cuda and facts.driver_cuda is not None and facts.driver_cuda < _major(facts.cuda):
        return _old_driver(built, facts)
    if facts.cuda and (facts.driver or facts.driver_cuda):
        why = f"there is {driver}, and torch finds no GPU: it is not passed into this container, or it has failed"
        return Finding(
            TOPIC, "problem", f"{built}, sees no GPU", why, "docker run --gpus all ...; or restart the machine"
        )
    why = "there is no GPU driver: everything runs on the CPU"
    return Finding(TOPIC, "note", built, why, "nothing, where no GPU is meant to be here; else install its driver")


def _old_driver(built: str, facts: Facts) -> Finding:
    assert facts.driver_cuda is not None
    runs = ".".join(map(str, facts.driver_cuda))
    why = (
        f"NVIDIA driver {facts.driver or '(version unknown)'} runs CUDA up to {runs}, and this torch needs {facts.cuda}"
    )
    do = f"update the driver, or choose a build of torch for CUDA {runs} or older: {_PAGE}"
    return Finding(TOPIC, "problem", built, why, do)


def _of_device(index: int, device: Device, facts: Facts) -> Iterator[Finding]:
    what = f"GPU {index}: {device.name}, {device.free_bytes / 2**30:.1f} of {device.total_bytes / 2**30:.1f} GiB free"
    if device.capability is not None and facts.arches and not runs_on(device.capability, facts.arches):
        needs = "sm_{}{}".format(*device.capability)
        why = f"torch has no kernels for it: it is {needs}, and they are for {', '.join(facts.arches)}"
        yield Finding(TOPIC, "problem", what, why, f"choose a build of torch for it: {_PAGE}")
    elif device.free_bytes < _LITTLE_FREE * device.total_bytes:
        why = "another process holds the rest, a notebook that was left open among them"
        yield Finding(TOPIC, "note", what, why, "nvidia-smi names the processes")
    else:
        yield Finding(TOPIC, "ok", what)


def runs_on(capability: tuple[int, int], arches: tuple[str, ...]) -> bool:
    """Whether kernels built for ``arches`` run on a GPU (CUDA C++ Programming Guide, application compatibility).

    ``sm_`` code runs on the same major version and a later minor one; ``compute_`` code is compiled for later GPUs.

    Example:
        >>> runs_on((8, 6), ("sm_80",)), runs_on((9, 0), ("sm_80",)), runs_on((9, 0), ("compute_80",))
        (True, False, True)
    """
    for arch in arches:
        if (found := re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", arch)) is None:
            continue
        built = int(found[2]), int(found[3])
        if built <= capability and (found[1] == "compute" or built[0] == capability[0]):
            return True
    return False


def _major(cuda: str) -> tuple[int, int]:
    """What a driver must at least run: since CUDA 11 the first release of the same major version is enough."""
    return int(cuda.split(".")[0]), 0


def _device(index: int) -> Device:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    capability = torch.cuda.get_device_capability(index) if torch.version.hip is None else None
    return Device(torch.cuda.get_device_name(index), capability, free, total)


def _driver() -> str:
    """The version of the NVIDIA driver, as the kernel module says; that of Linux only."""
    try:
        found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", _DRIVER_FILE.read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""


def _driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver runs, asked from its own library."""
    for name in _LIBRARIES:
        try:
            library, number = ctypes.CDLL(name), ctypes.c_int(0)
            if library.cuDriverGetVersion(ctypes.byref(number)) == 0 and number.value:
                return number.value // 1000, number.value % 1000 // 10
        except (OSError, AttributeError):
            continue
    return None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
