"""The command line in a process of its own, as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path, text: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command; an empty value unsets a variable."""
    everything = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    given = {name: value for name, value in everything.items() if value}
    command = [sys.executable, "-m", "safetransformers", *arguments]
    stdin = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
    return subprocess.run(
        command, cwd=cwd, env=given, capture_output=True, text=True, check=False, timeout=240, **stdin
    )


def python(code: str, *, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the user's."""
    everything = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env=everything, capture_output=True, text=True, check=False, timeout=240)
