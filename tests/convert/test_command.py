"""`safetransformers convert` as a user meets it in a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import saves
import torch
from safetensors.torch import load_file


def _run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "safetransformers", "convert", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def save(tmp_path: Path) -> Path:
    return saves.tf_model(tmp_path / "save", saves.model())


def test_it_converts_and_says_how_to_load_the_result(save: Path, tmp_path: Path) -> None:
    run = _run("save", "out", cwd=tmp_path)
    assert run.returncode == 0 and run.stderr == "", run.stderr  # nothing is drawn into a pipe
    assert "AutoModelForSequenceClassification.from_pretrained('out')" in run.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_json_is_one_object_with_the_whole_report(save: Path, tmp_path: Path) -> None:
    run = _run("save", "out", "--json", "--dtype", "float16", cwd=tmp_path)
    shown = json.loads(run.stdout)
    assert run.returncode == 0 and shown["converted"] and shown["verified"] == shown["tensors"] == 41
    assert shown["dtype"] == "float16" and set(shown["sha256"]) == {"tf_model.h5"}


def test_a_save_that_cannot_be_is_exit_code_1_with_the_reason_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = _run("empty", "out", "--json", cwd=tmp_path)
    assert run.returncode == 1 and "[ST-TF-001]" in run.stderr and "Traceback" not in run.stderr
    assert json.loads(run.stdout)["error"]["code"] == "ST-TF-001"


def test_a_wrong_option_is_exit_code_2(save: Path, tmp_path: Path) -> None:
    assert _run("save", "out", "--dtype", "int3", cwd=tmp_path).returncode == 2
    assert _run("save", cwd=tmp_path).returncode == 2


def test_a_second_run_says_that_it_was_done(save: Path, tmp_path: Path) -> None:
    _run("save", "out", cwd=tmp_path)
    run = _run("save", "out", cwd=tmp_path)
    assert run.returncode == 0 and "converted before" in run.stdout


def test_several_saves_are_converted_by_several_processes_and_a_second_run_converts_what_is_missing(
    save: Path, tmp_path: Path
) -> None:
    saves.tf_model(tmp_path / "other", saves.model())
    (tmp_path / "empty").mkdir()
    run = _run("save", "empty", "other", "out", "--jobs", "2", "--dtype", "float16", "--json", cwd=tmp_path)
    told = {entry["source"]: entry for entry in json.loads(run.stdout)}
    assert run.returncode == 1 and "[ST-TF-001]" in run.stderr and "Traceback" not in run.stderr
    assert [name for name in told if told[name]["converted"]] == [name for name in told if name != "empty"]
    weights = load_file(tmp_path / "out" / "save" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    (tmp_path / "out" / "other" / "model.safetensors").unlink()
    (tmp_path / "out" / "other" / "config.json").unlink()
    (tmp_path / "out" / "other").rmdir()
    again = _run("save", "other", "out", "--dtype", "float16", cwd=tmp_path)
    assert again.returncode == 0 and "converted before: save" in again.stdout and "converted: other" in again.stdout


def test_two_saves_of_one_name_are_refused_before_anything_is_written(save: Path, tmp_path: Path) -> None:
    saves.tf_model(tmp_path / "elsewhere" / "save", saves.model())
    run = _run("save", "elsewhere/save", "out", cwd=tmp_path)
    assert run.returncode == 2 and "[ST-TF-007]" in run.stderr and not (tmp_path / "out").exists()


def test_a_destination_that_exists_is_kept_until_it_is_to_be_overwritten(save: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    kept = _run("save", "out", cwd=tmp_path)
    assert kept.returncode == 1 and "--overwrite" in kept.stderr and not (tmp_path / "out" / "config.json").exists()
    run = _run("save", "out", "--overwrite", "--no-forward", cwd=tmp_path)
    assert run.returncode == 0 and "one forward" not in run.stdout and (tmp_path / "out" / "notes.txt").exists()


def test_a_terminal_shows_the_bytes(save: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "safetransformers", "convert", "save", "out", "--no-forward"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as run:
        os.close(theirs)
        shown = b"".join(_until_closed(ours))
    assert run.returncode == 0 and b" kB" in shown and b"\x1b[2K" in shown  # drawn, and taken away at the end


def _until_closed(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side is closed
            data = b""
        if not data:
            os.close(terminal)
            return
        yield data
