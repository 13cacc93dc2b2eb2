"""The command line as a new user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "safetransformers", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_demo_shows_real_weights_wrong_when_plain_and_right_when_guarded(tmp_path: Path) -> None:
    run = _run("demo", "--json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    shown = json.loads(run.stdout)
    assert shown["plain"]["max_difference"] > 0.5 and shown["plain"]["cosine"] < 0.9
    for guarded in ("guarded", "patched"):
        assert shown[guarded]["max_difference"] < 1e-5
    assert shown["strict"]["error"] == "PaddingError" and "[ST-MASK-001]" in shown["strict"]["text"]


def test_the_demo_prints_a_table_and_the_strict_error(tmp_path: Path) -> None:
    run = _run("demo", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "max difference" in run.stdout and "[ST-MASK-001]" in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help")])
def test_help_says_what_there_is(arguments: tuple[str, ...], tmp_path: Path) -> None:
    run = _run(*arguments, cwd=tmp_path)
    assert run.returncode == 0 and "demo" in run.stdout


def test_a_wrong_option_is_a_usage_error(tmp_path: Path) -> None:
    run = _run("demo", "--no-such-option", cwd=tmp_path)
    assert run.returncode == 2 and "Traceback" not in run.stderr
