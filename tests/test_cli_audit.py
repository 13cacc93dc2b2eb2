"""``safetransformers audit`` tells from a terminal what audit_padding tells in Python, and what mends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
import typer
from checkpoints import save
from cli_processes import run
from hub_caches import Repo
from models import PAD, tiny
from typer.testing import CliRunner, Result

import safetransformers as st
from safetransformers.cli.audit import audit as command


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audited")
    save(tiny("bert-classifier"), root / "bert")
    tiny("gpt2", pad_token_id=None).save_pretrained(root / "padless")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32}
    transformers.FNetModel(transformers.FNetConfig(vocab_size=64, pad_token_id=PAD, **sizes)).save_pretrained(
        root / "fnet"
    )
    return root


def called(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_finds_what_the_function_finds(folders: Path) -> None:
    result = called(str(folders / "bert"), "--json")
    told = json.loads(result.stdout)
    model = st.AutoModelForSequenceClassification.from_pretrained(folders / "bert")
    assert told == st.audit_padding(model).as_dict() and told["mended_by"] == "infer"
    assert result.exit_code == 0 and result.stderr == ""


def test_a_model_that_no_mask_mends_ends_with_1_and_names_the_policy_that_does(folders: Path) -> None:
    done = run("audit", "fnet", cwd=folders)
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith('padding="exact" mends it')
    assert "\x1b" not in done.stdout
    with st.policy(padding="exact"):  # which is so
        model = st.AutoModel.from_pretrained(folders / "fnet")
    assert st.audit_padding(model).mended_by == "exact"


def test_a_cached_repository_is_audited_without_a_request(folders: Path, tmp_path: Path) -> None:
    repo = Repo(tmp_path, "org/bert")
    repo.commit("one", {file.name: file.read_bytes() for file in (folders / "bert").iterdir()}, ref="main")
    done = run("audit", "org/bert", cwd=tmp_path, HF_HUB_CACHE=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0 and done.stdout.startswith("BertForSequenceClassification"), done.stderr


def test_a_model_without_a_pad_token_is_audited_with_the_one_that_the_error_names(folders: Path) -> None:
    result = called(str(folders / "padless"))
    assert result.exit_code == 2 and result.stdout == "" and "--pad-token-id 1" in result.stderr
    result = called(str(folders / "padless"), "--pad-token-id", "1", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["is_invariant"] is True


def test_another_class_is_audited_where_it_is_named(folders: Path) -> None:
    result = called(str(folders / "bert"), "--as", "AutoModel", "--json")
    assert json.loads(result.stdout)["model"] == "BertModel"


@pytest.mark.parametrize("arguments", [("no-such-model",), ("bert", "--as", "AutoModelForNothing")])
def test_what_is_not_there_ends_with_2_and_no_traceback(arguments: tuple[str, ...], folders: Path) -> None:
    result = called(str(folders / arguments[0]), *arguments[1:], "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 2 and told["is_invariant"] is None and told["error"]["what"]
    assert "Traceback" not in result.stderr and str(folders) not in result.stderr


def test_weights_that_are_cut_off_end_with_2_and_no_traceback(folders: Path, tmp_path: Path) -> None:
    save(tiny("bert"), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    done = run("audit", "cut", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == "" and done.stderr
