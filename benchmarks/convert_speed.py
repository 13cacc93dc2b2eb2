"""How long a BERT-base `tf_model.h5` takes to convert, beside a plain copy of the file, and how much memory.

Target: at most three times the copy plus the imports, and at most the largest shard plus 300 MB of memory. Each
conversion runs in a process of its own, which reports its imports and the rest apart, and the processor time of the
rest, which other work on the machine does not change; `results/convert_speed.csv` gets a row of each.

`--from-tf PYTHON` times transformers' own path, `from_tf=True` and `save_pretrained`, in an interpreter that has
transformers 4, TensorFlow and torch, or shows the error that it ends in.
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

_CONVERSION = """
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

def peak_mb():  # not getrusage: that one counts the process that this was forked from
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

before = peak_mb()
start, used = time.perf_counter(), time.process_time()
report = convert(sys.argv[1], sys.argv[2], max_shard_size=sys.argv[3], check=sys.argv[4] == "check")
found = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - used, "imports_s": start - begin}
print(json.dumps({**found, "peak_mb": peak_mb(), "before_mb": before, "verified": report.verified}))
"""


_FROM_TF = """
import sys, time
from transformers import BertModel
import tensorflow
start = time.perf_counter()
BertModel.from_pretrained(sys.argv[1], from_tf=True).save_pretrained(sys.argv[2])
print(f"{time.perf_counter() - start:.2f} s")
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


def converted(folder: Path, out: Path, shard: str, check: bool) -> dict[str, Any]:
    """The time and memory of one conversion in a new process."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", _CONVERSION, str(folder), str(out), shard, "check" if check else "no"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def from_tf(python: str, folder: Path, out: Path) -> str:
    """The time of transformers' own path without its imports, or the last line of its error."""
    command = [python, "-c", _FROM_TF, str(folder), str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said = run.stderr if run.returncode else run.stdout
    return (said.strip().splitlines() or ["it said nothing"])[-1]


def main() -> None:
    """Measure, print, and add rows to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--from-tf", action="append", default=[], metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "save").mkdir()
        write_save(root / "save")
        source = root / "save" / "tf_model.h5"
        copies, flushed = [], []
        for _ in range(arguments.runs):
            start = time.perf_counter()
            shutil.copyfile(source, root / "copy.h5")
            copies.append(time.perf_counter() - start)
            with (root / "copy.h5").open("rb") as copied:
                os.fsync(copied.fileno())
            flushed.append(time.perf_counter() - start)
            (root / "copy.h5").unlink()
        copy, to_disk = statistics.median(copies), statistics.median(flushed)
        print(
            f"{source.stat().st_size / 1e6:.0f} MB; plain copy {copy:.2f} s, {to_disk:.2f} s with a flush to the disk"
        )
        for python in arguments.from_tf:
            print(f"from_tf=True and save_pretrained: {from_tf(python, root / 'save', root / 'from_tf')}")
        for shard, check in (("5GB", True), ("5GB", False), ("100MB", True)):
            runs = [converted(root / "save", root / "out", shard, check) for _ in range(arguments.runs)]
            seconds = statistics.median(run["seconds"] for run in runs)
            peak = statistics.median(run["peak_mb"] - run["before_mb"] for run in runs)
            cpu = statistics.median(run["cpu_s"] for run in runs)
            imports = statistics.median(run["imports_s"] for run in runs)
            with_imports = (seconds + imports) / (copy + imports)
            times = f"{seconds:.2f} s ({cpu:.2f} s of processor), {seconds / copy:.1f} copies"
            times += f"; with the imports of {imports:.1f} s, {with_imports:.1f} times copy and imports"
            print(f"shards of {shard}, check={check}: {times}, {peak:.0f} MB above imports")
            add_row(
                "convert_speed",
                {
                    "shard": shard,
                    "check": str(check),
                    "copy_s": f"{copy:.3f}",
                    "convert_s": f"{seconds:.3f}",
                    "ratio": f"{seconds / copy:.2f}",
                    "cpu_s": f"{cpu:.3f}",
                    "imports_s": f"{imports:.3f}",
                    "ratio_with_imports": f"{with_imports:.2f}",
                    "peak_mb_above_imports": f"{peak:.0f}",
                    "runs": str(arguments.runs),
                },
            )


if __name__ == "__main__":
    main()
