"""Type checkers see the names of transformers and our own through safetransformers, with their exact types."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = Path(__file__).parent / "samples"
RIGHT = ["drop_in.py", "own_names.py"]
# Each checker reads torch and transformers once for all samples: two workers would each do it.
pytestmark = pytest.mark.xdist_group("checkers")

Errors = dict[str, dict[int, str]]


def run(checker: str, *options: str) -> str:
    """What the checker prints about all samples; both checkers exit with 1 where they found errors."""
    samples = sorted(map(str, SAMPLES.glob("*.py")))
    command = [sys.executable, "-m", checker, *options, *samples]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def mypy() -> Errors:
    errors: Errors = {}
    printed = run("mypy", "--strict", "--no-error-summary")
    for path, line, text in re.findall(r"^(.+?):(\d+): error: (.+)$", printed, re.MULTILINE):
        errors.setdefault(Path(path).name, {})[int(line)] = text
    return errors


def pyright() -> Errors:
    errors: Errors = {}
    for found in json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable))["generalDiagnostics"]:
        if found["severity"] == "error":
            errors.setdefault(Path(found["file"]).name, {})[found["range"]["start"]["line"] + 1] = found["message"]
    return errors


@pytest.fixture(scope="module", params=[mypy, pyright], ids=lambda checker: checker.__name__)
def errors(request: pytest.FixtureRequest) -> Errors:
    checker: Callable[[], Errors] = request.param
    return checker()


@pytest.mark.parametrize("sample", RIGHT)
def test_correct_use_is_accepted(errors: Errors, sample: str) -> None:
    assert errors.get(sample, {}) == {}


def test_each_wrong_use_is_refused_and_nothing_else(errors: Errors) -> None:
    lines = (SAMPLES / "wrong.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, start=1) if line.endswith("# error")}
    assert set(errors.get("wrong.py", {})) == marked
