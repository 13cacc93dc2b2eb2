"""The machine, the versions and the sources that a row is about."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from measuring import cpu_name

from .rows import Machine, Stamp

ROOT: Final = Path(__file__).parents[2]
_MEASURED: Final = ("safetransformers", "benchmarks/costs")
# They say what is measured and how it is shown, not how: to change them makes no row wrong.
_SHOWN: Final = ("page.py", "plots.py", "targets.py")


def stamp(place: str) -> Stamp:
    """What the rows of a run on ``cpu`` or ``cuda`` begin with."""
    versions = {name: version(name) for name in ("torch", "transformers", "safetransformers")}
    device, driver = (cpu_name(), "") if place == "cpu" else (torch.cuda.get_device_name(), _driver())
    machine = Machine(
        device, driver, str(os.cpu_count()), platform.python_version(), **versions, source=_source_digest()
    )
    return Stamp(datetime.now(timezone.utc).strftime("%Y-%m-%d"), _commit(), machine)


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    return f"{driver}, CUDA {torch.version.cuda}"


def _source_digest() -> str:
    digest = hashlib.sha256()
    for folder in _MEASURED:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name not in _SHOWN:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _commit() -> str:
    """The commit that is checked out, with a plus where the sources differ from it; empty without git."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    if not (ROOT / ".git").exists():
        return ""
    is_changed = bool(git("status", "--porcelain", "--", *_MEASURED).stdout.strip())
    return git("rev-parse", "--short", "HEAD").stdout.strip() + "+" * is_changed
