"""Jobs under torchrun: a training that loses a rank and goes on, and an error that one rank alone has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_jobs import KILLED_AT, SAVED_EVERY, STEPS

import safetransformers as st

pytestmark = pytest.mark.xdist_group("distributed")

HERE = Path(__file__).parent


def torchrun(job: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, [Path(st.__file__).parents[1], HERE, HERE.parent / "benchmarks"]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    return subprocess.run(
        [*command, str(HERE / "distributed_jobs.py"), job, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("training")
    run = torchrun("train", folder, "--max-restarts", "1")
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((folder / "told.json").read_text())


def test_training_without_masks_has_the_losses_of_plain_training_with_them(training: dict[str, Any]) -> None:
    plain, guarded = torch.tensor(training["plain"]), torch.tensor(training["guarded"])
    assert len(plain) == len(guarded) == STEPS
    assert float(((guarded - plain).abs() / plain).max()) < 1e-5
    assert training["inferred"] > 0 and plain[-20:].mean() < plain[:20].mean()


def test_a_job_that_lost_a_rank_goes_on_from_its_checkpoint_with_the_guard_on(training: dict[str, Any]) -> None:
    assert training["resumed_at"] == KILLED_AT // SAVED_EVERY * SAVED_EVERY


def test_a_strict_error_of_one_rank_ends_the_job_in_seconds_and_each_log_says_which_rank_is_why(tmp_path: Path) -> None:
    run = torchrun("strict", tmp_path)
    seconds = time.time() - float((tmp_path / "raised").read_text())
    assert run.returncode != 0 and seconds < 20
    assert "PaddingError: [ST-MASK-001]" in run.stderr
    assert "rank 1 has raised: [ST-MASK-001]" in run.stderr
