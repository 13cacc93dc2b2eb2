"""``safetransformers doctor`` as a user calls it, in a process of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from checkpoints import save
from cli_processes import run
from hub_caches import Repo, text_model
from hub_server import Hub
from models import tiny

DOC = Path(__file__).parents[1] / "docs" / "doctor.md"
TOPICS = ["versions", "accelerator", "environment", "hub", "cache", "model"]
QUIET = {"HF_HUB_OFFLINE": "1", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", "SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny("bert-classifier"), tmp_path_factory.mktemp("doctor") / "my-model")


def test_a_machine_that_is_fine_ends_with_0_and_every_topic_is_told(bert: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        env = {**QUIET, **hub.access.env, "HF_HUB_OFFLINE": "", "HF_ENDPOINT": hub.url}
        done = run("doctor", "my-model", cwd=bert.parent, HF_HOME=str(tmp_path), **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line in TOPICS] == TOPICS
    assert done.stdout.endswith("\nnothing is broken\n") and done.stderr == "" and "\x1b" not in done.stdout


def test_json_has_every_finding_and_nothing_else(bert: Path, tmp_path: Path) -> None:
    done = run("doctor", str(bert), "--run", "--json", cwd=tmp_path, HF_HOME=str(tmp_path), **QUIET)
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["fine"] is True and done.stderr == ""
    assert list(dict.fromkeys(one["topic"] for one in told["findings"])) == TOPICS
    assert all(set(one) == {"topic", "level", "what", "why", "do"} for one in told["findings"])
    assert any("was not asked" in one["what"] for one in told["findings"])
    assert "measured now" in told["findings"][-1]["what"]


def test_a_problem_ends_with_1(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "hub")
    repo.truncate(repo.commit("one", text_model(), ref="main"), "model.safetensors", 50)
    done = run("doctor", cwd=tmp_path, HF_HOME=str(tmp_path), **QUIET)
    assert done.returncode == 1 and "org/model at main is broken" in done.stdout and done.stderr == ""
    assert done.stdout.endswith("\n1 problem\n")
    assert run("doctor", "--cache-dir", "none", cwd=tmp_path, HF_HOME=str(tmp_path), **QUIET).returncode == 0


@pytest.mark.parametrize("arguments", [("none",), ("--run",), ("--no-such-option",)])
def test_a_wrong_command_ends_with_2_and_no_traceback(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run("doctor", *arguments, cwd=tmp_path, HF_HOME=str(tmp_path), **QUIET)
    assert done.returncode == 2 and done.stdout == "" and done.stderr and "Traceback" not in done.stderr


def test_the_secrets_of_the_environment_are_not_printed(tmp_path: Path) -> None:
    proxy = "http://user:hunter2@127.0.0.1:9"
    env = {
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "HF_TOKEN": "hf_hunter2",
        "HF_ENDPOINT": "https://me:hunter2@m.example",
    }
    done = run("doctor", "--timeout", "1", cwd=tmp_path, HF_HOME=str(tmp_path), **QUIET | {"HF_HUB_OFFLINE": ""}, **env)
    assert done.returncode == 1 and "127.0.0.1:9" in done.stdout and "m.example" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_the_output_in_the_documentation_is_a_real_one(bert: Path, tmp_path: Path) -> None:
    """But for what differs from one machine to the next: numbers, and what is installed."""
    shown = DOC.read_text("utf-8").partition("$ safetransformers doctor my-model\n")[2].partition("```")[0]
    repo = Repo(tmp_path / "hub", "org/name")
    repo.truncate(repo.commit("one", text_model(), ref="main"), "model.safetensors", 50)
    model = tiny("gpt2", pad_token_id=None)
    save(model, tmp_path / "my-model")
    done = run("doctor", "my-model", cwd=tmp_path, HF_HOME=str(tmp_path), **QUIET)
    sections = dict(_sections(done.stdout))
    for topic, documented in _sections(shown):
        real = [_without_numbers(line, tmp_path) for line in sections[topic]]
        lines = [_without_numbers(line, tmp_path) for line in documented]
        if topic in ("hub", "environment", "model"):
            assert lines == real, topic
        else:  # versions, disks and builds of torch differ: each documented line is one that is printed
            assert [line for line in lines if topic == "cache" and line not in real] == []


def _sections(text: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line in TOPICS:
            found.append((line, []))
        elif line.startswith("  ") and found:
            found[-1][1].append(line)
    return found


def _without_numbers(line: str, folder: Path) -> str:
    line = line.replace(str(folder), "~/.cache/huggingface")
    return re.sub(r"\d+(\.\d+)?", "0", line)
