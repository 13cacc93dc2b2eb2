"""``safetransformers explain`` as a user calls it, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

TRACEBACK = (
    'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    loss = model(ids)\n'
    "IndexError: Target 7 is out of bounds.\n"
)
UNKNOWN = "ValueError: something else\n"


def run(*arguments: str, cwd: Path, text: str | bytes | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "safetransformers", "explain", *arguments]
    sent = text.encode() if isinstance(text, str) else text
    given = {"stdin": subprocess.DEVNULL} if sent is None else {"input": sent}
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, timeout=120, **given)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("how", ["file", "pipe", "dash"])
def test_a_traceback_is_explained_from_a_file_and_from_a_pipe(how: str, tmp_path: Path) -> None:
    (tmp_path / "error.log").write_text(TRACEBACK)
    arguments = {"file": ["error.log"], "pipe": [], "dash": ["-"]}[how]
    done = run(*arguments, cwd=tmp_path, text=None if how == "file" else TRACEBACK)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "[ST-ASSERT-503] the label 7 is not one of the classes of the model"
    assert [line.partition(":")[0] for line in lines[1:]] == ["Why", "Do", "More"]
    assert "\x1b" not in done.stdout


def test_json_has_every_part_and_nothing_else(tmp_path: Path) -> None:
    done = run("--json", cwd=tmp_path, text=TRACEBACK)
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["known"] is True
    assert set(told["explanation"]) == {"code", "what", "why", "do", "family", "link"}
    assert told["explanation"]["family"] == "device"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_an_unknown_text_says_so(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path, text=UNKNOWN)
    assert done.returncode == 1
    if arguments:
        assert json.loads(done.stdout) == {"known": False, "explanation": None}
    else:
        assert done.stdout == "" and "not known" in done.stderr


@pytest.mark.parametrize("code", ["ST-HUB-004", "ST-ASSERT-503"])
def test_a_code_is_explained_though_no_file_has_its_name(code: str, tmp_path: Path) -> None:
    done = run(code, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"[{code}] ")


def test_a_code_that_there_is_not_is_unknown(tmp_path: Path) -> None:
    assert run("ST-HUB-999", cwd=tmp_path).returncode == 1


@pytest.mark.parametrize("wrong", ["no-such-file.log", "folder", "weights.bin"])
def test_what_cannot_be_read_is_a_usage_error_without_a_traceback(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"PK\x03\x04\x00\x00" + bytes(100))
    done = run(wrong, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert wrong in done.stderr and "Traceback" not in done.stderr


def test_a_binary_pipe_is_a_usage_error(tmp_path: Path) -> None:
    done = run(cwd=tmp_path, text=bytes(100))
    assert done.returncode == 2 and "binary" in done.stderr


def test_bytes_that_are_no_utf_8_are_read(tmp_path: Path) -> None:
    (tmp_path / "error.log").write_bytes(b"caf\xe9\n" + TRACEBACK.encode())
    assert run("error.log", cwd=tmp_path).returncode == 0


def test_a_terminal_without_a_file_gets_help_and_does_not_wait(tmp_path: Path) -> None:
    mine, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "safetransformers", "explain"]
        done = subprocess.run(
            command, cwd=tmp_path, stdin=theirs, capture_output=True, text=True, check=False, timeout=60
        )
    finally:
        os.close(mine)
        os.close(theirs)
    assert done.returncode == 2 and "name a file" in done.stderr


def test_what_is_left_of_a_very_long_log_is_its_end(tmp_path: Path) -> None:
    (tmp_path / "error.log").write_text("step 1: loss 0.3\n" * 400_000 + TRACEBACK)
    assert run("error.log", cwd=tmp_path).returncode == 0


def test_help_shows_the_command_and_an_example(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0 and "explain" in done.stdout and "--json" in done.stdout
