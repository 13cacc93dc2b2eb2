"""What does `from safetransformers import AutoModel` cost over the same import from transformers?

Starts fresh interpreters in turns (A B A B ...), so that a slow spell of the machine falls on both, and prints
median and interquartile range of each, and the ratio. Target: a ratio of at most 1.05. Each run adds a row to the CSV.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

TARGET = 1.05
RESULTS = Path(__file__).parent / "results" / "import_time.csv"
TIMED = "import time; start = time.perf_counter(); from {} import AutoModel; print(time.perf_counter() - start)"


def import_seconds(package: str) -> float:
    """Seconds that the import takes in a new interpreter, whose own start is not counted."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(package)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


def cpu_name() -> str:
    """The processor's name where Linux tells it, otherwise its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def add_row(row: dict[str, str]) -> None:
    """Append to the CSV, with its header where it is new."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    """Measure, print, and add a row to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of interpreters (default 15)")
    rounds = parser.parse_args().rounds

    plain, ours = [], []
    for package in ("transformers", "safetransformers"):
        import_seconds(package)  # fills the file cache and the .pyc files
    for _ in range(rounds):
        plain.append(import_seconds("transformers"))
        ours.append(import_seconds("safetransformers"))

    measured = {"transformers": quartiles(plain), "safetransformers": quartiles(ours)}
    for package, (first, median, third) in measured.items():
        print(f"{package:17} {median:.3f} s median, {third - first:.3f} s interquartile range, {rounds} interpreters")
    ratio = measured["safetransformers"][1] / measured["transformers"][1]
    print(f"ratio {ratio:.3f}, target at most {TARGET}: {'met' if ratio <= TARGET else 'MISSED'}")

    add_row(
        {
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "cpu": cpu_name(),
            "cores": str(os.cpu_count()),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "safetransformers")},
            "rounds": str(rounds),
            "transformers_median_s": f"{measured['transformers'][1]:.4f}",
            "transformers_iqr_s": f"{measured['transformers'][2] - measured['transformers'][0]:.4f}",
            "safetransformers_median_s": f"{measured['safetransformers'][1]:.4f}",
            "safetransformers_iqr_s": f"{measured['safetransformers'][2] - measured['safetransformers'][0]:.4f}",
            "ratio": f"{ratio:.4f}",
            "target": str(TARGET),
        }
    )


if __name__ == "__main__":
    main()
