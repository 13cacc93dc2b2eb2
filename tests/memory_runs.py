"""Runs the cases of ``memory_cases.py`` in a process of its own: the limit on memory must not reach the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
# glibc keeps what is freed, more or less of it from run to run. With fixed thresholds a tensor is mapped when it is
# made and unmapped when it is freed, so that the limit leaves the same room in every run (mallopt(3)).
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
needs_a_limit = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux, where ulimit -v bounds what torch gets"
)


def happened(which: str) -> dict[str, Any]:
    """What the cases print, by name."""
    paths = [str(_HERE), str(_HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = subprocess.run(
        [sys.executable, str(_HERE / "memory_cases.py"), which],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **_ALLOCATOR},
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result
