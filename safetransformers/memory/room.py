"""How much memory there is and who holds it: from counters of the allocators and of the system.

Nothing is allocated on the device, and nothing waits for it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from .texts import size


@dataclass(frozen=True)
class Room:
    """The memory of one device, in bytes.

    Attributes:
        total: that this process may have; ``None`` where it is not known.
        held: by this process: allocated to tensors, or resident on the host.
        unused: reserved by torch and in no tensor.
        others: held by other processes, and by the driver for this one.
        limit: what sets ``total``, in words.
    """

    total: int | None
    held: int
    unused: int = 0
    others: int = 0
    limit: str = ""

    @property
    def is_fragmented(self) -> bool:
        """Whether so much is reserved and unused that pieces of it are probably too small."""
        return self.total is not None and self.unused > self.total // 10

    def __str__(self) -> str:
        of = f" of {size(self.total)}" if self.total is not None else ""
        rest = f" ({self.limit})" if self.limit else ""
        told = [f"{size(self.held)} held{of}{rest}"]
        if self.unused:
            told.append(f"{size(self.unused)} reserved by torch and unused")
        if self.others:
            told.append(f"{size(self.others)} held by other processes and the driver")
        return ", ".join(told)


def room_of(device: torch.device) -> Room:
    """The memory of the device that has run out."""
    if device.type in ("cuda", "xpu"):
        return _of_accelerator(device)
    if device.type == "mps":
        return Room(torch.mps.recommended_max_memory(), torch.mps.current_allocated_memory())
    return _of_host()


def _of_accelerator(device: torch.device) -> Room:
    backend = getattr(torch, device.type)
    if not backend.is_available():  # the error is of another process, or of a test
        return Room(None, 0)
    allocated, reserved = backend.memory_allocated(device), backend.memory_reserved(device)
    if not hasattr(backend, "mem_get_info"):  # torch.xpu before 2.6
        return Room(None, allocated, reserved - allocated)
    free, total = backend.mem_get_info(device)
    others = max(0, total - free - reserved)
    return Room(total - others, allocated, reserved - allocated, others)


def _of_host() -> Room:
    """The tightest of the machine's memory, the batch system's or container's limit, and ``ulimit -v``."""
    found = [limit for limit in (_address_space(), _control_group(), _machine()) if limit is not None]
    if not found:
        return Room(None, 0)
    return min(found, key=lambda room: (room.total or 0) - room.held)


def _address_space() -> Room | None:
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    statm = _read("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm:
        return None
    return Room(limit, int(statm.split()[0]) * os.sysconf("SC_PAGE_SIZE"), limit="ulimit -v")


def _control_group() -> Room | None:
    """Version 2 and 1 of Linux' control groups, which Docker, Slurm and systemd use."""
    for folder, limit_name, held_name in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, held = _read(folder / limit_name), _read(folder / held_name)
        if limit.isdigit() and held.isdigit() and int(limit) < 2**60:  # version 1 says "no limit" by a huge number
            return Room(int(limit), int(held), limit="the container's limit")
    return None


def _machine() -> Room | None:
    lines = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    if "MemTotal" not in lines or "MemAvailable" not in lines:
        return None
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return Room(total, total - available, limit="this machine's memory")


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:  # another system, or a container that hides it
        return ""
