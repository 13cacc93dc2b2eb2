"""The proof of the padding guard, on one type of each kind; `make conformance` runs it on all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

_BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "padding_conformance.py"
# mask, positions, positions from the ids, relative positions, rolled encoder, no mask at all, mixes tokens, recurrent
_TYPES = "bert,gpt2,roberta,t5,bart,fnet,nystromformer,mamba"


@pytest.mark.slow
def test_no_class_of_any_kind_is_silently_wrong() -> None:
    run = subprocess.run(
        [sys.executable, str(_BENCHMARK), "--types", _TYPES], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    line = r"^(right|left|pad is eos|padded decoder): plain (\d+) right; guarded (\d+) right"
    counted = re.findall(line, run.stdout, re.MULTILINE)
    assert [case for case, _, _ in counted] == ["right", "left", "pad is eos", "padded decoder"]
    assert int(counted[1][1]) == 0 < int(counted[1][2]), "plain is wrong on every left-padded triple, guarded is not"
    assert "padding='exact' not right: 0 of" in run.stdout
    assert "strict() did not raise: 0 of" in run.stdout
    assert "0 silently wrong" in run.stdout and "1 silently wrong" not in run.stdout
