"""SAFETRANSFORMERS_REPORT writes what the guards did, and ``safetransformers report`` says it in words."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cli_processes import ROOT, python, run

import safetransformers as st
from safetransformers import policies
from safetransformers.hub.faults import WORDS as FAULTS
from safetransformers.reporting.files import NoReportError, Place, read, write
from safetransformers.reporting.words import WORDS, words_of

UNKNOWN = words_of("no.such_kind")
TWICE = "from safetransformers.counts import count; count('padding.inferred'); count('padding.inferred')"


def counted_kinds() -> set[str]:
    """Every kind that the package counts, read from its source."""
    fields = ("padding", "device_checks")  # what guarding() is called with, see the test below
    found: set[str] = set()
    for file in Path(st.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "count"):
                continue
            text = ast.unparse(node.args[0])
            if isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
            elif text.endswith(".failed'"):
                found |= {f"{field}.failed" for field in fields}
            else:
                assert text.startswith("f'hub.fault."), text
                found |= {f"hub.fault.{kind}" for kind in FAULTS}
    return found


def test_every_kind_that_is_counted_has_words_and_no_other_has() -> None:
    kinds = counted_kinds()
    assert len(kinds) > 40 and set(WORDS) == {kind for kind in kinds if not kind.startswith("hub.fault.")}
    for kind in kinds:
        assert words_of(kind) != UNKNOWN and "{" not in words_of(kind), kind


def test_every_field_whose_guard_can_fail_is_one_of_the_policy() -> None:
    hook = (Path(st.__file__).parent / "padding" / "hook.py").read_text("utf-8")
    named = {word.partition('"')[0] for word in hook.split('field="')[1:]} | {"padding"}
    assert named == {"padding", "device_checks"} and named <= set(policies.CHOICES)


def test_a_process_writes_its_counts_when_it_ends(tmp_path: Path) -> None:
    done = python(TWICE, cwd=tmp_path, SAFETRANSFORMERS_REPORT="report.json")
    assert done.returncode == 0 and done.stderr == "" and done.stdout == ""
    shown = run("report", "report.json", cwd=tmp_path)
    assert shown.returncode == 0 and shown.stderr == ""
    assert shown.stdout.splitlines() == [
        "what the guards did in 1 process",
        f"       2  {WORDS['padding.inferred']}  [padding.inferred]",
    ]
    assert json.loads(run("report", "report.json", "--json", cwd=tmp_path).stdout) == {
        "processes": 1,
        "counts": {"padding.inferred": 2},
        "unread": [],
    }


def test_a_process_that_counts_nothing_writes_nothing(tmp_path: Path) -> None:
    done = python("import safetransformers as st; st.report()", cwd=tmp_path, SAFETRANSFORMERS_REPORT="report.json")
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_a_process_that_fails_and_has_changed_its_folder_writes_too(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = python(f"{TWICE}; import os; os.chdir('elsewhere'); 1/0", cwd=tmp_path, SAFETRANSFORMERS_REPORT="r.json")
    assert done.returncode == 1 and read(tmp_path / "r.json").counts == {"padding.inferred": 2}


def test_without_the_variable_nothing_that_writes_is_imported(tmp_path: Path) -> None:
    code = (
        f"{TWICE}; import sys; print([m for m in ('filelock', 'safetransformers.reporting.files') if m in sys.modules])"
    )
    assert python(code, cwd=tmp_path).stdout.strip() == "[]"


@pytest.mark.parametrize("target", ["report.json", "reports/"])
def test_processes_that_end_at_once_lose_no_count(target: str, tmp_path: Path) -> None:
    env = {**os.environ, "SAFETRANSFORMERS_REPORT": target, "PYTHONPATH": str(ROOT)}
    waiting = f"import sys; sys.stdin.read(); {TWICE}"
    command = [sys.executable, "-c", waiting]
    processes = [subprocess.Popen(command, cwd=tmp_path, env=env, stdin=subprocess.PIPE) for _ in range(6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(timeout=60) for process in processes] == [0] * 6
    total = read(tmp_path / target)
    assert total.processes == 6 and total.counts == {"padding.inferred": 12} and not total.unread
    if target.endswith("/"):
        assert len(list((tmp_path / target).iterdir())) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_counts_what_it_did_itself(tmp_path: Path) -> None:
    code = f"{TWICE}\nimport os, sys\nif os.fork():\n    os.wait()\nelse:\n    count('padding.exact')"
    assert python(code, cwd=tmp_path, SAFETRANSFORMERS_REPORT="all/").returncode == 0
    assert read(tmp_path / "all").counts == {"padding.inferred": 2, "padding.exact": 1}


def test_a_file_that_is_no_report_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("my thesis")
    done = python(TWICE, cwd=tmp_path, SAFETRANSFORMERS_REPORT="mine.txt")
    assert done.returncode == 0 and (tmp_path / "mine.txt").read_text() == "my thesis"
    assert "mine.txt is not JSON" in done.stderr and str(tmp_path) not in done.stderr


def test_a_place_that_cannot_be_written_is_said_and_nothing_else_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = python(TWICE, cwd=tmp_path, SAFETRANSFORMERS_REPORT="file/report.json")
    assert done.returncode == 0 and "the counts were not written" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_with_something_else_in_it_is_summed_and_the_rest_named(tmp_path: Path) -> None:
    write({"padding.exact": 3}, Place(tmp_path, is_folder=True))
    write({"padding.exact": 1, "of.the_future": 1}, Place(tmp_path, is_folder=True))
    (tmp_path / "other.json").write_text('{"counts": {}}')
    done = run("report", ".", cwd=tmp_path)
    assert done.returncode == 1 and "other.json is no report of safetransformers" in done.stderr
    assert "in 2 processes" in done.stdout and "       4  calls whose rows" in done.stdout and UNKNOWN in done.stdout


@pytest.mark.parametrize("content", [None, "", "[]", '{"format": "safetransformers report 1", "counts": {"a": "b"}}'])
def test_what_is_no_report_ends_with_2(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(NoReportError):
            read(tmp_path / "r.json")
    done = run("report", "r.json", "--json", cwd=tmp_path)
    assert done.returncode == 2 and json.loads(done.stdout)["processes"] == 0 and "Traceback" not in done.stderr


def test_an_empty_folder_ends_with_2(tmp_path: Path) -> None:
    assert run("report", ".", cwd=tmp_path).returncode == 2


def test_what_report_gives_is_read_only_and_like_a_dictionary() -> None:
    counts = st.report()
    assert counts == dict(counts) and Counter(counts) == counts
    with pytest.raises(TypeError):
        counts["padding.inferred"] = 1  # type: ignore[index]
