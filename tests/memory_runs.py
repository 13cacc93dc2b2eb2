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
needs_a_limit = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux, where ulimit -v bounds what torch gets"
)


def happened(which: str) -> dict[str, Any]:
    """What the cases print, by name."""
    paths = [str(_HERE), str(_HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    for _ in range(3):  # an address space in pieces may refuse what a limit leaves room for
        run = subprocess.run(
            [sys.executable, str(_HERE / "memory_cases.py"), which],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        if run.returncode == 0:
            break
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result
