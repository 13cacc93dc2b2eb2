"""What all commands have in common: help that ends with an example, JSON, exit codes, no traceback, nothing extra."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from checkpoints import save
from cli_processes import python, run
from hub_caches import Repo, text_model
from models import tiny

# Command: arguments that are right, and arguments that ask for what is not there.
COMMANDS = {
    "audit": (["my-model"], ["nothing"]),
    "convert": (["my-model", "out"], ["nothing", "out"]),
    "demo": ([], None),
    "doctor": (["my-model"], ["nothing"]),
    "explain": (["error.log"], ["nothing"]),
    "prefetch": (["org/model", "--check"], ["not a name", "--check"]),
    "report": (["report.json"], ["nothing"]),
    "suggest": (["my-model"], ["nothing"]),
}
OFFLINE = {"HF_HUB_OFFLINE": "1"}
# These end with 1 on the material below: it is no TensorFlow save.
ENDS = {"convert": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("every")
    save(tiny("bert-classifier"), root / "my-model")
    Repo(root / "hub").commit("one", text_model(), ref="main")
    (root / "error.log").write_text("IndexError: Target 7 is out of bounds.\n")
    counting = "from safetransformers.counts import count; count('padding.inferred')"
    python(counting, cwd=root, SAFETRANSFORMERS_REPORT="report.json")
    return root


def test_the_commands_are_those_that_are_tested_here(folder: Path) -> None:
    words = ["safetransformers", ""]
    env = {"COMP_WORDS": " ".join(words), "COMP_CWORD": "1", "_SAFETRANSFORMERS_COMPLETE": "complete_bash"}
    done = run(cwd=folder, **env)
    assert done.returncode == 0 and sorted(done.stdout.split()) == sorted(COMMANDS)  # so shells complete them


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_ends_with_an_example_that_calls_the_command(command: str, folder: Path) -> None:
    done = run(command, "--help", cwd=folder, COLUMNS="100")
    last = done.stdout.rstrip().splitlines()[-1].strip()
    assert done.returncode == 0 and done.stderr == "" and "--json" in done.stdout
    assert last.startswith("Example: ")
    assert ["safetransformers", command] in [
        words[at : at + 2] for words in [shlex.split(last.replace(";", " ; "))] for at in range(len(words))
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_object_on_stdout_and_the_exit_code_is_that_of_the_text(command: str, folder: Path) -> None:
    right, _ = COMMANDS[command]
    env = {**OFFLINE, "HF_HOME": str(folder)}
    spoken, told = (run(command, *right, *more, cwd=folder, **env) for more in ([], ["--json"]))
    assert isinstance(json.loads(told.stdout), dict)
    assert spoken.returncode == told.returncode == ENDS.get(command, 0), spoken.stderr
    for done in (spoken, told):
        assert "\x1b" not in done.stdout + done.stderr
        assert command == "demo" or "┃" not in done.stdout  # lines that grep can take, not boxes cut to 80 columns
        assert done.stderr == "" or done.returncode, done.stderr


@pytest.mark.parametrize("command", [command for command, (_, wrong) in COMMANDS.items() if wrong])
def test_what_is_not_there_is_told_on_stderr_without_a_traceback(command: str, folder: Path) -> None:
    _, wrong = COMMANDS[command]
    assert wrong is not None
    done = run(command, *wrong, cwd=folder, **OFFLINE, HF_HOME=str(folder))
    assert done.returncode == (1 if command == "convert" else 2), done.stdout
    assert done.stdout == "" and done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_ends_with_2(command: str, folder: Path) -> None:
    done = run(command, "--no-such-option", cwd=folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""
