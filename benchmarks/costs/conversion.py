"""Conversion is measured by `benchmarks/convert_speed.py`, which keeps its own rows; the page shows its last run."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .jobs import Job, Reading, Run
from .rows import Case

SECTION: Final = "conversion"
_BENCHMARK: Final = Path(__file__).parents[1] / "convert_speed.py"
_RESULTS: Final = _BENCHMARK.parent / "results"
CSV: Final = _RESULTS / "convert_speed.csv"
FROM_TF: Final = _RESULTS / "convert_from_tf.csv"
"""Of transformers' own path, which needs TensorFlow and so runs by hand: `make bench-from-tf`."""


def jobs(run: Run) -> Iterator[Job]:
    """One job, whose row says that the other file has the numbers of these sources."""
    if not run.is_quick:
        yield Job(Case(SECTION, "convert_speed.py"), _measured)


def _measured() -> list[Reading]:
    subprocess.run([sys.executable, str(_BENCHMARK)], check=True)
    return [Reading("rows", "", {"added": [float(len(last_run(CSV)))]}, f"in {CSV.name}")]


def last_run(path: Path) -> list[dict[str, str]]:
    """The rows of the newest date with the newest versions; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    about = ("date", "cpu", "torch", "transformers", "safetransformers")
    return [row for row in rows if all(row.get(name) == rows[-1].get(name) for name in about)]
