"""What does `from safetransformers import AutoModel` cost over the same import from transformers?

Starts fresh interpreters in turns (A B A B ...), so that a slow spell of the machine falls on both, and prints
median and interquartile range of each, and the ratio. Target: a ratio of at most 1.05. Each run adds a row to the CSV.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from measuring import add_row, quartiles, verdict

TARGET = 1.05
TIMED = "import time; start = time.perf_counter(); from {} import AutoModel; print(time.perf_counter() - start)"


def import_seconds(package: str) -> float:
    """Seconds that the import takes in a new interpreter, whose own start is not counted."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(package)], capture_output=True, text=True, check=True)
    return float(done.stdout)


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
    print(verdict(ratio, TARGET))
    columns = {"rounds": str(rounds), "ratio": f"{ratio:.4f}", "target": str(TARGET)}
    for package, (first, median, third) in measured.items():
        columns |= {f"{package}_median_s": f"{median:.4f}", f"{package}_iqr_s": f"{third - first:.4f}"}
    add_row("import_time", columns)


if __name__ == "__main__":
    main()
