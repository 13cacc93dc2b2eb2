"""What the benchmarks share: the machine that they ran on, and rows of a CSV."""

from __future__ import annotations

import csv
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def cpu_name() -> str:
    """The processor's name where Linux tells it, otherwise its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def add_row(benchmark: str, row: dict[str, str]) -> None:
    """Append a row to the benchmark's CSV, after the date, the machine and the versions."""
    about = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "safetransformers")},
    }
    path = RESULTS / f"{benchmark}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*about, *row], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(about | row)
