"""How long a BERT-base `tf_model.h5` takes to convert, beside a plain copy of the file, and how much memory.

Target: at most three times the copy, and at most the largest shard plus 300 MB of memory. Each conversion runs in a
process of its own, which reports its time without the imports; `results/convert_speed.csv` gets a row of each.
"""

from __future__ import annotations

import argparse
import json
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
import torch, h5py
from transformers import BertModel  # what a conversion imports; the target does not count it
from safetransformers import compat
from safetransformers.tf.convert import convert
compat.auto_classes(), compat.model_class_names(), compat.config_class("bert")

def peak_mb():  # not getrusage: that one counts the process that this was forked from
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

before = peak_mb()
start = time.perf_counter()
report = convert(sys.argv[1], sys.argv[2], max_shard_size=sys.argv[3], check=sys.argv[4] == "check")
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before, "verified": report.verified}))
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


def main() -> None:
    """Measure, print, and add rows to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "save").mkdir()
        write_save(root / "save")
        source = root / "save" / "tf_model.h5"
        copies = []
        for _ in range(arguments.runs):
            start = time.perf_counter()
            shutil.copyfile(source, root / "copy.h5")
            copies.append(time.perf_counter() - start)
            (root / "copy.h5").unlink()
        copy = statistics.median(copies)
        print(f"{source.stat().st_size / 1e6:.0f} MB; plain copy {copy:.2f} s")
        for shard, check in (("5GB", True), ("5GB", False), ("100MB", True)):
            runs = [converted(root / "save", root / "out", shard, check) for _ in range(arguments.runs)]
            seconds = statistics.median(run["seconds"] for run in runs)
            peak = statistics.median(run["peak_mb"] - run["before_mb"] for run in runs)
            times = f"{seconds:.2f} s, {seconds / copy:.1f} copies"
            print(f"shards of {shard}, check={check}: {times}, {peak:.0f} MB above imports")
            add_row(
                "convert_speed",
                {
                    "shard": shard,
                    "check": str(check),
                    "copy_s": f"{copy:.3f}",
                    "convert_s": f"{seconds:.3f}",
                    "ratio": f"{seconds / copy:.2f}",
                    "peak_mb_above_imports": f"{peak:.0f}",
                    "runs": str(arguments.runs),
                },
            )


if __name__ == "__main__":
    main()
