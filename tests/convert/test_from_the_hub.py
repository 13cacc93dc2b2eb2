"""A repository that has TensorFlow or Flax weights only loads from the hub: fetched, converted once, then cached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import saves
import torch
from hub_server import Hub
from transformers import BertForSequenceClassification

from safetransformers import AutoModelForSequenceClassification, policy, strict
from safetransformers.errors import ConversionError
from safetransformers.tf import on_the_fly

REPO = "org/name"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without repositories, and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    with Hub() as running, running.applied(tmp_path / "cache"):
        yield running


@pytest.fixture
def model() -> BertForSequenceClassification:
    return saves.model()


def _equal(loaded: Any, model: Any) -> bool:
    return all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def _shards(folder: Path, model: Any, name: str) -> None:
    """Split a save's weights over two files with an index."""
    saves.config(folder)
    named = list(saves.variables(model).items())
    ending = Path(name).suffix
    stem, files = name.removesuffix(ending), {}
    for number, part in enumerate((named[::2], named[1::2]), start=1):
        file = f"{stem}-{number:05d}-of-00002{ending}"
        write = saves.flax_tree if ending == ".msgpack" else saves.h5
        write(folder / file, dict(part))
        files |= {key: file for key, _ in part}
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def _of_format(folder: Path, model: Any, form: str) -> Path:
    if form == "tf_model.h5":
        saves.tf_model(folder, model)
    elif form == "flax_model.msgpack":
        saves.config(folder)
        saves.flax(folder / form, model)
    else:
        _shards(folder, model, form.removesuffix(" in shards"))
    return folder


FORMS = ("tf_model.h5", "tf_model.h5 in shards", "flax_model.msgpack", "flax_model.msgpack in shards")


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_loads_whatever_its_weights_lie_in(form: str, tmp_path: Path, model: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
        folder = _of_format(tmp_path / "save", model, form)
        loaded, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert _equal(loaded, model) and not any(info.values())


@pytest.mark.parametrize("form", FORMS)
def test_a_repository_that_was_never_fetched_loads(form: str, tmp_path: Path, hub: Hub, model: Any) -> None:
    hub.add(REPO, _of_format(tmp_path / "repo", model, form))
    assert _equal(AutoModelForSequenceClassification.from_pretrained(REPO), model)


def test_the_second_load_fetches_no_weights_again(tmp_path: Path, hub: Hub, model: Any) -> None:
    hub.add(REPO, _of_format(tmp_path / "repo", model, "tf_model.h5"))
    AutoModelForSequenceClassification.from_pretrained(REPO)
    hub.clear()
    assert _equal(AutoModelForSequenceClassification.from_pretrained(REPO), model)
    assert not [one for one in hub.requests if one.method == "GET" and "tf_model" in one.path]


@pytest.mark.parametrize(
    ("argument", "form"),
    [("from_tf", FORMS[0]), ("from_tf", FORMS[1]), ("from_flax", FORMS[2]), ("from_flax", FORMS[3])],
)
def test_who_asks_for_a_framework_gets_its_weights_and_not_torchs(
    argument: str, form: str, tmp_path: Path, hub: Hub, model: Any
) -> None:
    folder = _of_format(tmp_path / "repo", model, form)
    saves.model().save_pretrained(folder)
    hub.add(REPO, folder)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(REPO, **{argument: True}), model)


def test_flax_is_meant_by_from_flax_though_tensorflow_lies_beside_it(tmp_path: Path, hub: Hub, model: Any) -> None:
    folder = _of_format(tmp_path / "repo", saves.model(), "tf_model.h5")
    hub.add(REPO, _of_format(folder, model, "flax_model.msgpack"))
    AutoModelForSequenceClassification.from_pretrained(REPO, from_tf=True)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(REPO, from_flax=True), model)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(folder, from_flax=True), model)


def test_torch_weights_are_taken_where_nobody_asks(tmp_path: Path, hub: Hub, model: Any) -> None:
    folder = _of_format(tmp_path / "repo", saves.model(), "tf_model.h5")
    model.save_pretrained(folder)
    hub.add(REPO, folder)
    assert _equal(AutoModelForSequenceClassification.from_pretrained(REPO), model)
    assert not [one for one in hub.requests if "tf_model" in one.path and one.method == "GET"]


def test_a_repository_without_any_weights_fails_as_with_plain_transformers(tmp_path: Path, hub: Hub) -> None:
    saves.config(tmp_path / "repo")
    hub.add(REPO, tmp_path / "repo")
    with pytest.raises((OSError, AttributeError)) as caught:
        AutoModelForSequenceClassification.from_pretrained(REPO)
    assert not isinstance(caught.value, ConversionError) and not on_the_fly.root().exists()


def test_strict_mode_fetches_and_names_the_command(tmp_path: Path, hub: Hub, model: Any) -> None:
    commit = hub.add(REPO, _of_format(tmp_path / "repo", model, "tf_model.h5"))
    with strict(), policy(weights="any"), pytest.raises(ConversionError, match="safetransformers convert"):
        AutoModelForSequenceClassification.from_pretrained(REPO, revision=commit)
    assert not on_the_fly.root().exists()
