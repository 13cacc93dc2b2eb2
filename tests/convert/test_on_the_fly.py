"""A checkpoint that has TensorFlow weights only loads through our Auto classes, converted once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import saves
import torch
import transformers
from transformers import BertForSequenceClassification

import safetransformers
from safetransformers import AutoModelForSequenceClassification, patched, policy, report, strict
from safetransformers.errors import ConversionError
from safetransformers.tf import on_the_fly

COMMIT = "0123456789" * 4


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Converted copies of a test are its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def model() -> BertForSequenceClassification:
    return saves.model()


@pytest.fixture
def save(tmp_path: Path, model: Any) -> Path:
    return saves.tf_model(tmp_path / "save", model)


def _equal(loaded: Any, model: Any) -> bool:
    return all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_a_folder_with_tensorflow_weights_loads_as_its_torch_model(save: Path, model: Any) -> None:
    loaded, info = AutoModelForSequenceClassification.from_pretrained(save, output_loading_info=True)
    assert _equal(loaded, model) and not any(info.values())


def test_plain_transformers_5_cannot_load_that_folder(save: Path) -> None:
    with pytest.raises((OSError, ImportError)):
        transformers.AutoModelForSequenceClassification.from_pretrained(save)


def test_the_second_load_does_not_convert_again(save: Path) -> None:
    before = report().get("tf.converted", 0)
    AutoModelForSequenceClassification.from_pretrained(save)
    AutoModelForSequenceClassification.from_pretrained(save)
    assert report()["tf.converted"] == before + 1 and len(os.listdir(on_the_fly.root())) == 1


def test_other_weights_in_the_same_folder_are_converted_anew(save: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(save)
    other = saves.model()
    saves.h5(save / "tf_model.h5", saves.variables(other))
    assert _equal(AutoModelForSequenceClassification.from_pretrained(save), other)


def test_nothing_is_written_into_the_users_folder(save: Path) -> None:
    before = sorted(os.listdir(save))
    AutoModelForSequenceClassification.from_pretrained(save)
    assert sorted(os.listdir(save)) == before


def test_from_tf_takes_the_tensorflow_weights_also_beside_torch_weights(save: Path, model: Any) -> None:
    other = saves.model()
    other.save_pretrained(save)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(save, from_tf=True), model)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(save), other)


def test_flax_weights_load_too(tmp_path: Path, model: Any) -> None:
    saves.config(tmp_path / "flax")
    saves.flax(tmp_path / "flax" / "flax_model.msgpack", model)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(tmp_path / "flax"), model)


def test_patched_code_that_names_the_class_loads_it(save: Path, model: Any) -> None:
    with patched():
        assert _equal(transformers.BertForSequenceClassification.from_pretrained(save), model)


def test_a_subfolder_is_looked_into(tmp_path: Path, model: Any) -> None:
    saves.tf_model(tmp_path / "repo" / "inner", model)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(tmp_path / "repo", subfolder="inner"), model)


def test_the_hub_cache_is_as_good_as_a_folder(tmp_path: Path, model: Any) -> None:
    repo = tmp_path / "cache" / "models--org--name"
    saves.tf_model(repo / "snapshots" / COMMIT, model)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    loaded = AutoModelForSequenceClassification.from_pretrained(
        "org/name", cache_dir=tmp_path / "cache", local_files_only=True
    )
    assert _equal(loaded, model)


def test_strict_mode_raises_with_the_command(save: Path) -> None:
    with strict(), pytest.raises(ConversionError, match="safetransformers convert save save-torch") as caught:
        AutoModelForSequenceClassification.from_pretrained(save)
    assert isinstance(caught.value, OSError) and not on_the_fly.root().exists()


def test_without_the_extra_it_is_an_os_error_as_without_weights(save: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(OSError, match=r"pip install 'safetransformers\[tf\]'"):
        AutoModelForSequenceClassification.from_pretrained(save)


def test_switched_off_it_is_plain_transformers(save: Path) -> None:
    with policy(tf_weights="off"), pytest.raises((OSError, ImportError)):
        AutoModelForSequenceClassification.from_pretrained(save)


def test_a_torch_folder_is_left_alone(tmp_path: Path, model: Any) -> None:
    model.save_pretrained(tmp_path / "torch")
    assert _equal(AutoModelForSequenceClassification.from_pretrained(tmp_path / "torch"), model)
    assert not on_the_fly.root().exists()


def test_a_pipeline_runs_on_tensorflow_weights(save: Path) -> None:
    (save / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello")
    (save / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    found = safetransformers.pipeline("text-classification", model=str(save))("hello")
    assert found[0]["label"].startswith("LABEL_")


def test_a_repository_that_has_torch_weights_is_loaded_from_those(tmp_path: Path, model: Any) -> None:
    """The cache may hold TensorFlow's file alone, from a time when TensorFlow loaded it."""
    repo = tmp_path / "cache" / "models--org--name"
    saves.tf_model(repo / "snapshots" / COMMIT, model)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    assert on_the_fly.redirected("org/name", {"cache_dir": tmp_path / "cache"}, has_failed=False) is None
    assert on_the_fly.redirected("org/name", {"cache_dir": tmp_path / "cache"}, has_failed=True) is not None
