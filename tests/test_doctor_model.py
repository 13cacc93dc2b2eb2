"""The doctor on a checkpoint: its classes, its weights, its pad token, and whether padding changes its numbers."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import transformers
from checkpoints import save, save_pickle, save_remote_code
from checkpoints import tokenizer as a_tokenizer
from families import saved
from hub_caches import Repo
from models import PAD, tiny

import safetransformers as st
from safetransformers.doctor import model as doctor
from safetransformers.doctor.finding import Finding, is_fine
from safetransformers.doctor.model import Tokens, of_pad_token
from safetransformers.errors import CheckpointError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"the doctor asked {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def told(source: Path | str, **kwargs: Any) -> list[Finding]:
    found = list(doctor.findings(doctor.look(str(source), **kwargs)))
    assert all(one.why and one.do for one in found if one.level != "ok")
    return found


def facts_of(found: list[Finding], level: str) -> list[str]:
    return [one.what for one in found if one.level == level]


def test_a_good_checkpoint_is_fine_and_its_first_line_loads_it(tmp_path: Path) -> None:
    folder = save(tiny("bert-classifier"), tmp_path / "bert")
    found = told(folder)
    assert all(one.level == "ok" for one in found)
    assert "weights: safetensors" in facts_of(found, "ok") and "its class was measured" in found[-1].what
    line = next(one.what for one in found if "from_pretrained" in one.what).partition("  #")[0]
    auto = line.partition(".")[0]
    loaded = eval(line, {auto: getattr(transformers, auto), "path": folder})
    assert type(loaded).__name__ == "BertForSequenceClassification"


def test_a_cached_repository_is_looked_at(tmp_path: Path) -> None:
    folder = save(tiny("bert"), tmp_path / "bert")
    repo = Repo(tmp_path / "hub", "org/bert")
    repo.commit("one", {file.name: file.read_bytes() for file in folder.iterdir()}, ref="main")
    assert all(one.level == "ok" for one in told("org/bert", cache_dir=repo.cache))


@pytest.mark.parametrize("shards", [1, 2])
def test_pickle_weights_are_a_note_whose_line_makes_safetensors(shards: int, tmp_path: Path) -> None:
    folder = (
        save_pickle(tiny("bert"), tmp_path / "pickled", shards=shards)
        if (tmp_path / "pickled").mkdir() is None
        else None
    )
    (finding,) = [one for one in told(folder or "") if one.what.startswith("weights")]
    assert finding.level == "note" and "pickle" in finding.what
    code = finding.do.partition(", where")[0].replace("FOLDER", repr(str(tmp_path / "safe")))
    eval(code, {"AutoModel": transformers.AutoModel})
    assert "weights: safetensors" in facts_of(told(tmp_path / "safe"), "ok")


@pytest.mark.parametrize(
    ("file", "level", "word"),
    [
        ("tf_model.h5", "problem", "TensorFlow only"),
        ("flax_model.msgpack", "problem", "Flax only"),
        ("some.gguf", "note", "GGUF"),
        (None, "problem", "none"),
    ],
)
def test_weights_in_another_format_or_none_are_told(file: str | None, level: str, word: str, tmp_path: Path) -> None:
    tiny("bert").config.save_pretrained(tmp_path)
    if file:
        (tmp_path / file).write_bytes(b"x" * 64)
    (finding,) = [one for one in told(tmp_path) if one.what.startswith("weights")]
    assert finding.level == level and word in finding.what
    if level == "problem" and file:
        assert finding.do.startswith("safetransformers convert ")


def test_a_checkpoint_with_a_shard_missing_is_a_problem(tmp_path: Path) -> None:
    save(tiny("bert"), tmp_path, max_shard_size="20KB")
    next(tmp_path.glob("model-00002-*")).unlink()
    assert any("model-00002" in what for what in facts_of(told(tmp_path), "problem"))


def test_code_of_its_own_is_a_note_and_does_not_run(tmp_path: Path) -> None:
    folder = save_remote_code(tmp_path)
    (folder / "modeling_remote.py").write_text("raise SystemExit('it ran')")
    assert any("code of its own for AutoConfig, AutoModel" in what for what in facts_of(told(folder, run=True), "note"))


def test_a_model_that_reads_no_text_has_no_pad_token_to_speak_of(tmp_path: Path) -> None:
    found = told(saved("vit", tmp_path))
    assert is_fine(found) and not any("pad" in one.what for one in found)


# The pad token


@pytest.mark.parametrize(
    ("tokens", "level", "word"),
    [
        (Tokens(0, 0, (1,), 64, has_tokenizer=True), "ok", "pad token 0"),
        (Tokens(0, None, (1,), 64), "ok", "pad token 0"),
        (Tokens(1, 1, (1,), 64, has_tokenizer=True), "note", "it is the eos token too"),
        (Tokens(None, None, (1,), 64, has_tokenizer=True), "note", "there is no pad token"),
        (Tokens(None, 0, (1,), 64, has_tokenizer=True), "problem", "the configuration has no pad token"),
        (Tokens(0, None, (1,), 64, has_tokenizer=True), "note", "none in the tokenizer"),
        (Tokens(0, 2, (1,), 64, has_tokenizer=True), "problem", "2 in the tokenizer"),
        (Tokens(64, 64, (1,), 64, has_tokenizer=True), "problem", "beyond the vocabulary"),
        (Tokens(-1, -1, (1,), 64, has_tokenizer=True), "problem", "beyond the vocabulary"),
    ],
)
def test_the_pad_token_is_judged(tokens: Tokens, level: str, word: str) -> None:
    finding = of_pad_token(tokens)
    assert finding.level == level and word in str(finding) and (level == "ok" or (finding.why and finding.do))


def test_a_pad_token_that_only_the_tokenizer_has_is_found_in_the_files_and_the_line_mends_it(tmp_path: Path) -> None:
    save(tiny("gpt2", pad_token_id=None), tmp_path)
    (finding,) = [one for one in told(tmp_path) if one.level == "problem"]
    assert finding.what == "the tokenizer pads with 0, and the configuration has no pad token"
    model, tokenizer = st.AutoModelForCausalLM.from_pretrained(tmp_path), a_tokenizer()
    exec(finding.do, {"model": model, "tokenizer": tokenizer})
    save(model, tmp_path)
    assert facts_of(told(tmp_path), "problem") == []


def test_a_tokenizer_and_a_configuration_that_differ_are_found_in_the_files(tmp_path: Path) -> None:
    save(tiny("bert", pad_token_id=3), tmp_path)
    assert "pad token 3 in the configuration, 0 in the tokenizer" in facts_of(told(tmp_path), "problem")


def test_a_tokenizer_that_does_not_load_is_a_problem_with_the_reason(tmp_path: Path) -> None:
    save(tiny("bert"), tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Unheard"}}')
    (finding,) = [one for one in told(tmp_path) if one.level == "problem"]
    assert finding.what == "the tokenizer does not load" and finding.why and finding.do


# Padding


def fnet(folder: Path) -> Path:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32}
    transformers.FNetModel(transformers.FNetConfig(vocab_size=64, pad_token_id=PAD, **sizes)).save_pretrained(folder)
    return folder


def test_a_class_that_no_mask_mends_is_a_note_and_where_it_was_run_a_problem(tmp_path: Path) -> None:
    fnet(tmp_path)
    known, ran = told(tmp_path)[-1], told(tmp_path, run=True)[-1]
    assert known.level == "note" and ran.level == "problem" and known.what == ran.what
    assert known.do == ran.do == 'safetransformers.configure(padding="exact")'


def test_a_run_says_that_it_was_measured(tmp_path: Path) -> None:
    save(tiny("gpt2", pad_token_id=None), tmp_path)  # the tokenizer's pad token is taken
    found = told(tmp_path, run=True)
    assert found[-1].level == "ok" and "measured now" in found[-1].what


def test_a_model_that_cannot_be_run_is_a_note_with_the_reason(tmp_path: Path) -> None:
    save(tiny("bert"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    found = told(tmp_path, run=True)
    assert "not measured" in found[-1].what and found[-1].level == "note"
    assert any("not whole: model.safetensors" in what for what in facts_of(found, "problem"))


def test_nothing_is_no_checkpoint(tmp_path: Path) -> None:
    for source in ("bert", "org/none", str(tmp_path)):
        with pytest.raises(CheckpointError):
            doctor.look(source, cache_dir=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps([]))
    with pytest.raises(CheckpointError):
        doctor.look(str(tmp_path))
