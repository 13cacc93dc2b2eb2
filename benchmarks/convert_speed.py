"""How long a BERT-base `tf_model.h5` takes to convert, beside a plain copy of the file, and how much memory.

Target: at most three times the copy plus the imports, and at most the largest shard plus 300 MB of memory. Each
conversion runs in a process of its own, which reports its imports and the rest apart, and the processor time of the
rest, which other work on the machine does not change; `results/convert_speed.csv` gets a row of each.

`--from-tf PYTHON` times transformers' own path instead, `from_tf=True` and `save_pretrained`, in an interpreter that
has transformers 4, TensorFlow and torch; `results/convert_from_tf.csv` gets its row, with the error that it ends in.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import add_row

_PEAK = """
def peak_mb():  # not getrusage: that one counts the process that this was forked from
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
"""

_CONVERSION = f"""{_PEAK}
import json, sys, time
begin = time.perf_counter()
import torch, h5py
from transformers import BertModel  # what a conversion imports; the target does not count it
from safetransformers import compat
from safetransformers.tf.convert import convert
from safetransformers.tf.match.target import target
from transformers import BertConfig
compat.auto_classes(), compat.model_class_names(), compat.config_class("bert")
target(BertModel, BertConfig())  # transformers 5 builds its table of renamed keys at the first use

before = peak_mb()
start, used = time.perf_counter(), time.process_time()
report = convert(sys.argv[1], sys.argv[2], max_shard_size=sys.argv[3], check=sys.argv[4] == "check")
found = dict(seconds=time.perf_counter() - start, cpu_s=time.process_time() - used, imports_s=start - begin)
print(json.dumps(dict(**found, peak_mb=peak_mb(), before_mb=before, verified=report.verified)))
"""

_FROM_TF = f"""{_PEAK}
import json, sys, time
begin = time.perf_counter()
import tensorflow, torch, transformers
from transformers import BertModel
before, start, error = peak_mb(), time.perf_counter(), ""
try:
    BertModel.from_pretrained(sys.argv[1], from_tf=True).save_pretrained(sys.argv[2])
except Exception as failure:
    error = type(failure).__name__ + ": " + str(failure).splitlines()[0]
found = dict(seconds=time.perf_counter() - start, imports_s=start - begin, peak_mb=peak_mb(), before_mb=before)
theirs = dict(from_tf_of=transformers.__version__, with_torch=torch.__version__, tensorflow=tensorflow.__version__)
print(json.dumps(dict(**found, error=error, theirs=theirs)))
"""


def write_save(folder: Path) -> None:
    """Write a BERT-base as `TFBertModel.save_pretrained` does: the same groups, names and orientation."""
    import h5py
    import numpy as np
    from transformers import BertConfig

    from safetransformers.tf.match.target import Kind, target

    config = BertConfig(architectures=["BertModel"])
    config.save_pretrained(folder)
    from transformers import BertModel

    random = np.random.default_rng(0)
    with h5py.File(folder / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = ["bert"]
        group = file.create_group("bert")
        names = []
        for slot in target(BertModel, config).written():
            levels = slot.key.split(".")
            leaf, is_norm = levels.pop(), "LayerNorm" in slot.key
            if leaf == "weight":
                leaf = "gamma" if is_norm else "kernel" if slot.kind is Kind.DENSE else "embeddings"
            elif is_norm:
                leaf = "beta"
            name = "/".join(["tf_bert_model", "bert", *levels, f"{leaf}:0"]).replace("/layer/", "/layer_._")
            shape = slot.shape[::-1] if leaf == "kernel" else slot.shape
            group.create_dataset(name, data=random.standard_normal(shape, dtype=np.float32))
            names.append(name)
        group.attrs["weight_names"] = names


def timed(command: list[str], out: Path, runs: int) -> list[dict[str, Any]]:
    """What each of several new processes prints of its time and memory, which writes to ``out``."""
    found = []
    for _ in range(runs):
        shutil.rmtree(out, ignore_errors=True)
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(run.stdout.splitlines()[-1]))
    return found


def median(runs: list[dict[str, Any]], name: str) -> float:
    """Of one number of the runs."""
    return statistics.median(float(run[name]) for run in runs)


def above_imports_mb(runs: list[dict[str, Any]]) -> float:
    """The median of the memory that the work took beside what was imported."""
    return statistics.median(float(run["peak_mb"] - run["before_mb"]) for run in runs)


def copy_seconds(source: Path, runs: int) -> float:
    """The median time of a plain copy, which is printed, with that of one that waits for the disk."""
    copies, flushed = [], []
    target = source.with_name("copy.h5")
    for _ in range(runs):
        start = time.perf_counter()
        shutil.copyfile(source, target)
        copies.append(time.perf_counter() - start)
        with target.open("rb") as copied:
            os.fsync(copied.fileno())
        flushed.append(time.perf_counter() - start)
        target.unlink()
    copy, to_disk = statistics.median(copies), statistics.median(flushed)
    print(f"{source.stat().st_size / 1e6:.0f} MB; plain copy {copy:.2f} s, {to_disk:.2f} s with a flush to the disk")
    return copy


def measure_conversion(save: Path, out: Path, copy: float, shard: str, check: bool, runs: int) -> None:
    """Time our conversions, and keep a row."""
    command = [sys.executable, "-c", _CONVERSION, str(save), str(out), shard, "check" if check else "no"]
    found = timed(command, out, runs)
    seconds, imports, cpu = median(found, "seconds"), median(found, "imports_s"), median(found, "cpu_s")
    peak, with_imports = above_imports_mb(found), (seconds + imports) / (copy + imports)
    times = f"{seconds:.2f} s ({cpu:.2f} s of processor), {seconds / copy:.1f} copies"
    times += f"; with the imports of {imports:.1f} s, {with_imports:.1f} times copy and imports"
    print(f"shards of {shard}, check={check}: {times}, {peak:.0f} MB above imports")
    row = {
        "shard": shard,
        "check": str(check),
        "copy_s": f"{copy:.3f}",
        "convert_s": f"{seconds:.3f}",
        "ratio": f"{seconds / copy:.2f}",
        "cpu_s": f"{cpu:.3f}",
        "imports_s": f"{imports:.3f}",
        "ratio_with_imports": f"{with_imports:.2f}",
        "peak_mb_above_imports": f"{peak:.0f}",
        "runs": str(runs),
    }
    add_row("convert_speed", row)


def measure_from_tf(python: str, save: Path, out: Path, copy: float, runs: int) -> None:
    """Time transformers' own path, and keep a row."""
    found = timed([python, "-c", _FROM_TF, str(save), str(out)], out, runs)
    error, seconds, peak = found[-1]["error"], median(found, "seconds"), above_imports_mb(found)
    row = {
        **found[-1]["theirs"],
        "copy_s": f"{copy:.3f}",
        "convert_s": "" if error else f"{seconds:.3f}",
        "ratio": "" if error else f"{seconds / copy:.2f}",
        "imports_s": f"{median(found, 'imports_s'):.3f}",
        "peak_mb_above_imports": f"{peak:.0f}",
        "runs": str(runs),
        "ended_in": error,
    }
    print(f"from_tf=True: {row}")
    add_row("convert_from_tf", row)


def main() -> None:
    """Measure, print, and add rows to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--from-tf", action="append", default=[], metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        save, out = Path(name) / "save", Path(name) / "out"
        save.mkdir()
        write_save(save)
        copy = copy_seconds(save / "tf_model.h5", arguments.runs)
        for python in arguments.from_tf:
            measure_from_tf(python, save, out, copy, arguments.runs)
        if not arguments.from_tf:
            for shard, check in (("5GB", True), ("5GB", False), ("100MB", True)):
                measure_conversion(save, out, copy, shard, check, arguments.runs)


if __name__ == "__main__":
    main()
