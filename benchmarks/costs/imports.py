"""What `from safetransformers import AutoModel` costs over the same import from transformers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from .jobs import Job, Reading, Run
from .machine import ROOT
from .rows import PLAIN, Case

SECTION: Final = "import"
_STATEMENTS: Final = {
    PLAIN: "from transformers import AutoModel",
    "guarded": "from safetransformers import AutoModel",
    "import safetransformers": "import safetransformers",
}
_TIMED: Final = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
_ROUNDS: Final = 7


def jobs(run: Run) -> Iterator[Job]:
    """The import of an Auto class, each time in a new interpreter."""
    if not run.is_quick:
        yield Job(Case(SECTION, "AutoModel"), _measured)


def _measured() -> list[Reading]:
    times: dict[str, list[float]] = {name: [] for name in _STATEMENTS}
    for name in _STATEMENTS:
        _seconds(name)  # fills the file cache and the .pyc files
    for count in range(_ROUNDS):
        for name in reversed(_STATEMENTS) if count % 2 else _STATEMENTS:
            times[name].append(_seconds(name))
    return [Reading("time", "s", times)]


def _seconds(name: str) -> float:
    """Seconds that the import takes in a new interpreter, whose own start is not counted."""
    command = [sys.executable, "-c", _TIMED.format(_STATEMENTS[name])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
