"""What a user of `convert` gets, and what stays as it was."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import saves
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM, BertForSequenceClassification

from safetransformers import convert, strict
from safetransformers.errors import (
    BrokenSaveError,
    ConversionError,
    ConversionWarning,
    DestinationError,
    MismatchedSaveError,
    UnknownSaveError,
    UnsafeSaveError,
)
from safetransformers.tf.read.keras_archive import KerasArchive
from safetransformers.tf.write import files, pieces, shards, verify


@pytest.fixture
def model() -> BertForSequenceClassification:
    return saves.model()


@pytest.fixture
def save(tmp_path: Path, model: BertForSequenceClassification) -> Path:
    return saves.tf_model(tmp_path / "save", model)


def _is_same(folder: Path, model: BertForSequenceClassification) -> bool:
    written = load_file(folder / "model.safetensors")
    expected = model.state_dict()
    return written.keys() == expected.keys() and all(verify.same_bits(written[key], expected[key]) for key in expected)


def test_the_converted_folder_loads_as_the_same_model(save: Path, model: Any, tmp_path: Path) -> None:
    report = convert(save, tmp_path / "out")
    assert _is_same(tmp_path / "out", model)
    loaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    inputs = torch.arange(8).reshape(1, 8)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(inputs).logits, model(inputs).logits)
    assert (report.model_class, report.format, report.config_from) == (
        "BertForSequenceClassification",
        "h5",
        "config.json",
    )
    assert report.auto_classes == ("AutoModelForSequenceClassification",)
    assert report.tensors == report.verified == len(model.state_dict())
    assert report.parameters == sum(value.numel() for value in model.state_dict().values())


@pytest.mark.parametrize("form", ["whole h5", "flax", "flax by name", "checkpoint", "old bert"])
def test_other_formats_give_the_same_model(form: str, model: Any, tmp_path: Path) -> None:
    folder, source = tmp_path / "save", tmp_path / "save"
    saves.config(folder)
    named = saves.variables(model)
    if form == "whole h5":
        saves.h5(folder / "whole.h5", named, {"class_name": "TFBertForSequenceClassification", "config": {}})
    elif form.startswith("flax"):
        saves.flax(folder / "flax_model.msgpack", model)
        source = folder / "flax_model.msgpack" if form == "flax by name" else folder
    elif form == "checkpoint":
        slots = {f"m/{name}": value for name, value in named.items()}
        saves.checkpoint(folder / "ckpt-7", {**named, **slots, "global_step": np.array(7)})
        source = folder / "ckpt-7"
    else:
        original = {name.split("/", 1)[1].replace("layer_._", "layer_"): value for name, value in named.items()}
        original["output_weights"] = np.ascontiguousarray(original.pop("classifier/kernel").T)
        original["output_bias"] = original.pop("classifier/bias")
        for key in [key for key in original if key.endswith("_embeddings/embeddings")]:
            original[key.removesuffix("/embeddings")] = original.pop(key)
        saves.checkpoint(folder / "bert_model.ckpt", original)
        (folder / "config.json").rename(folder / "bert_config.json")
    convert(source, tmp_path / "out", architecture="BertForSequenceClassification")
    assert _is_same(tmp_path / "out", model)


def test_shards_are_indexed_and_load_as_one_model(save: Path, model: Any, tmp_path: Path) -> None:
    report = convert(save, tmp_path / "out", max_shard_size=4000)
    shards = [name for name in report.files if name.endswith(".safetensors")]
    assert len(shards) > 2 and "model.safetensors.index.json" in report.files
    loaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64"])
def test_another_type_is_what_torch_makes_of_the_weights(name: str, save: Path, model: Any, tmp_path: Path) -> None:
    report = convert(save, tmp_path / "out", dtype=name)
    written, dtype = load_file(tmp_path / "out" / "model.safetensors"), getattr(torch, name)
    assert all(verify.same_bits(value, model.state_dict()[key].to(dtype)) for key, value in written.items())
    assert report.dtype == name == json.loads((tmp_path / "out" / "config.json").read_text())["dtype"]


@pytest.mark.parametrize("name", [None, "bfloat16"])
def test_weights_that_are_written_in_many_pieces_are_the_same_model(
    name: str | None, save: Path, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LARGEST_BYTES", 200)
    report = convert(save, tmp_path / "out", dtype=name)
    written = load_file(tmp_path / "out" / "model.safetensors")
    dtype = getattr(torch, name or "float32")
    assert all(verify.same_bits(value, model.state_dict()[key].to(dtype)) for key, value in written.items())
    assert report.verified == len(written) == len(model.state_dict())


@pytest.mark.parametrize("name", [None, "float16", "bfloat16"])
def test_values_that_are_no_numbers_are_named_and_counted(name: str | None, model: Any, tmp_path: Path) -> None:
    named = saves.variables(model)
    kernel = next(name for name in named if name.endswith("intermediate/dense/kernel"))
    named[kernel][1, 2:4] = np.nan, np.inf
    bias = next(name for name in named if name.endswith("pooler/dense/bias"))
    named[bias][:] = 3e38  # their sum overflows, and each of them is a number; not in float16
    saves.config(tmp_path / "save")
    saves.h5(tmp_path / "save" / "tf_model.h5", named)
    with pytest.warns(ConversionWarning, match="intermediate"):
        report = convert(tmp_path / "save", tmp_path / "out", dtype=name)
    expected = ["bert.encoder.layer.0.intermediate.dense.weight (2 of 320)"]
    assert list(report.not_a_number) == expected + ["bert.pooler.dense.bias (16 of 16)"] * (name == "float16")


def test_the_source_and_its_hash_are_in_every_shard(save: Path, tmp_path: Path) -> None:
    report = convert(save, tmp_path / "out", max_shard_size=4000)
    for name in (name for name in report.files if name.endswith(".safetensors")):
        with safe_open(tmp_path / "out" / name, framework="pt") as shard:
            metadata = shard.metadata()
        assert metadata["format"] == "pt" and metadata["source"] == "save"
        assert json.loads(metadata["source_sha256"]) == report.sha256
    assert str(tmp_path) not in json.dumps(metadata)


def test_tokenizer_and_card_are_carried_over_and_code_and_other_weights_are_not(save: Path, tmp_path: Path) -> None:
    kept = {"vocab.txt": b"[PAD]\r\nword", "README.md": b"# card", "generation_config.json": b"{}"}
    for name, content in {**kept, "evil.py": b"x", "pytorch_model.bin": b"x", "model.pkl": b"x"}.items():
        (save / name).write_bytes(content)
    report = convert(save, tmp_path / "out")
    assert set(report.sidecars) == set(kept)
    assert set(os.listdir(tmp_path / "out")) == {*kept, "config.json", "model.safetensors"}
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in kept.items())


def test_a_second_run_says_that_it_is_done_and_writes_nothing(save: Path, tmp_path: Path) -> None:
    first = convert(save, tmp_path / "out")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    second = convert(save, tmp_path / "out")
    assert second.was_done_before and not first.was_done_before and "before" in str(second)
    assert (second.tensors, second.size_bytes, second.model_class) == (
        first.tensors,
        first.size_bytes,
        first.model_class,
    )
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before


def test_a_destination_that_holds_another_save_is_kept(save: Path, tmp_path: Path) -> None:
    convert(save, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    other = saves.tf_model(tmp_path / "other", saves.model())
    with pytest.raises(DestinationError, match="ST-TF-007") as caught:
        convert(other, tmp_path / "out")
    assert isinstance(caught.value, FileExistsError)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def test_overwrite_replaces_the_weights_and_keeps_the_users_files(save: Path, model: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "notes").mkdir(parents=True)
    (out / "notes" / "keep.txt").write_text("mine")
    (out / "pytorch_model.bin").write_text("old weights")
    convert(save, out, overwrite=True)
    assert (out / "notes" / "keep.txt").read_text() == "mine" and not (out / "pytorch_model.bin").exists()
    assert _is_same(out, model)
    assert sorted(os.listdir(tmp_path)) == ["out", "save"]


def test_a_failure_on_the_way_leaves_nothing(save: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files, "write_json", fail)
    with pytest.raises(OSError, match="no space"):
        convert(save, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["save"]


def test_what_was_written_wrong_is_found_and_removed(
    save: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaging(file: Path, *rest: Any) -> None:
        shards.write(file, *rest)
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)

    monkeypatch.setattr("safetransformers.tf.convert.write", damaging)
    with pytest.raises(ConversionError, match="ST-TF-009"):
        convert(save, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["save"]


@pytest.mark.parametrize("inside", [".", "out"])
def test_the_source_is_never_written(inside: str, save: Path) -> None:
    before = sorted(os.listdir(save))
    with pytest.raises(DestinationError, match="never written"):
        convert(save, save / inside)
    assert sorted(os.listdir(save)) == before


def test_labels_follow_the_head(model: Any, tmp_path: Path) -> None:
    save = saves.tf_model(tmp_path / "save", model)
    saves.config(save, num_labels=2)
    convert(save, tmp_path / "out")
    assert len(json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]) == 3
    assert _is_same(tmp_path / "out", model)


def test_weights_without_a_place_are_named_and_kept_beside_the_model(save: Path, model: Any, tmp_path: Path) -> None:
    extra = np.arange(6, dtype=np.float32).reshape(2, 3)
    saves.h5(save / "tf_model.h5", {**saves.variables(model), "my_head/dense/kernel": extra})
    with pytest.warns(ConversionWarning, match="my_head/dense/kernel"):
        report = convert(save, tmp_path / "out")
    assert report.unused == ("my_head/dense/kernel:0",)
    aside = load_file(tmp_path / "out" / files.ASIDE)
    assert torch.equal(aside["my_head/dense/kernel:0"], torch.from_numpy(extra))
    _, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())


def test_weights_that_torch_ties_and_the_save_has_apart_are_kept_and_named(tmp_path: Path) -> None:
    model, key = BertForMaskedLM(BertConfig(**saves.CONFIG)), "cls.predictions.decoder.weight"
    scope = "tf_bert_for_masked_lm"
    named = {re.sub("^[^/]+", scope, name): value for name, value in saves.variables(model).items()}
    (name,) = [name for name in named if name.endswith("predictions/decoder/kernel")]
    saves.config(tmp_path / "save", architectures=["BertForMaskedLM"])
    saves.h5(tmp_path / "save" / "tf_model.h5", named)
    assert convert(tmp_path / "save", tmp_path / "tied").untied == ()
    saves.h5(tmp_path / "save" / "tf_model.h5", {**named, name: named[name] + 1})
    report = convert(tmp_path / "save", tmp_path / "apart")
    assert report.untied == (key,) and key in report.warnings()[0]
    loaded = BertForMaskedLM.from_pretrained(tmp_path / "apart").get_output_embeddings().weight
    is_kept = torch.equal(loaded, model.get_output_embeddings().weight + 1)
    assert is_kept == (int(transformers.__version__.split(".")[0]) >= 5)  # as the note says


def test_strict_mode_drops_nothing_and_assumes_nothing(save: Path, model: Any, tmp_path: Path) -> None:
    saves.h5(save / "tf_model.h5", {**saves.variables(model), "my_head/dense/kernel": np.ones(2, np.float32)})
    with strict(), pytest.raises(ConversionError, match="my_head"):
        convert(save, tmp_path / "out")
    (save / "config.json").unlink()
    saves.h5(save / "tf_model.h5", saves.variables(model))
    with strict(), pytest.raises(ConversionError, match="num_attention_heads=4"):
        convert(save, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["save"]


def test_a_configuration_can_be_given(save: Path, model: Any, tmp_path: Path) -> None:
    (save / "config.json").rename(tmp_path / "mine.json")
    report = convert(save, tmp_path / "out", config=tmp_path / "mine.json")
    assert report.config_from == "mine.json" and not report.assumed and _is_same(tmp_path / "out", model)


def test_a_weight_of_the_same_size_and_another_shape_is_refused(save: Path, model: Any, tmp_path: Path) -> None:
    named = saves.variables(model)
    name = next(name for name in named if name.endswith("intermediate/dense/kernel"))
    saves.h5(save / "tf_model.h5", {**named, name: named[name].reshape(10, 32)})
    with pytest.raises(MismatchedSaveError, match="intermediate"):
        convert(save, tmp_path / "out")


def test_a_foreign_model_is_refused_by_name(tmp_path: Path) -> None:
    saves.h5(tmp_path / "mlp.h5", {"dense/kernel": np.ones((2, 3), np.float32)})
    with pytest.raises(UnknownSaveError, match="dense/kernel"):
        convert(tmp_path / "mlp.h5", tmp_path / "out")


@pytest.mark.parametrize("kind", ["Lambda", "__lambda__"])
def test_python_code_in_an_archive_is_refused_by_the_name_of_its_layer(kind: str, tmp_path: Path) -> None:
    layers = [{"class_name": kind, "config": {"name": "secret_layer", "function": "x"}}]
    saves.keras_archive(tmp_path / "m.keras", {"class_name": "Functional", "config": {"layers": layers}}, {})
    with pytest.raises(UnsafeSaveError, match="secret_layer"):
        convert(tmp_path / "m.keras", tmp_path / "out")


def test_a_sidecar_that_is_a_link_out_of_the_folder_is_refused(save: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (save / "vocab.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UnsafeSaveError, match="ST-TF-004"):
        convert(save, tmp_path / "out")


def test_flax_that_is_cut_is_broken_and_not_loaded(model: Any, tmp_path: Path) -> None:
    saves.config(tmp_path / "save")
    saves.flax(tmp_path / "save" / "flax_model.msgpack", model)
    data = (tmp_path / "save" / "flax_model.msgpack").read_bytes()
    for size in (0, 1, len(data) // 2, len(data) - 1):
        (tmp_path / "save" / "flax_model.msgpack").write_bytes(data[:size])
        with pytest.raises(BrokenSaveError):
            convert(tmp_path / "save", tmp_path / "out")


@pytest.mark.parametrize("argument", [{"dtype": "int3"}, {"max_shard_size": "many"}, {"max_shard_size": 0}])
def test_a_wrong_argument_is_named(argument: dict[str, Any], save: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="ST-TF-012") as caught:
        convert(save, tmp_path / "out", **argument)
    assert next(iter(argument)) in str(caught.value)


def test_progress_counts_the_bytes_to_the_end(save: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    convert(save, tmp_path / "out", progress=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps) and steps[-1][0] == steps[-1][1] > 0


@pytest.mark.parametrize("kind", ["soft", "external"])
def test_a_link_inside_an_h5_file_is_refused_and_not_followed(kind: str, save: Path, tmp_path: Path) -> None:
    saves.h5(tmp_path / "other.h5", {"secret/kernel": np.ones((2, 3), np.float32)})
    with h5py.File(save / "tf_model.h5", "a") as opened:
        group = next(iter(opened.values()))
        group["link"] = h5py.SoftLink("/") if kind == "soft" else h5py.ExternalLink("../other.h5", "/secret")
    with pytest.raises(UnsafeSaveError, match="ST-TF-004"):
        convert(save, tmp_path / "out")


def test_the_optimizer_of_a_training_run_is_left_out(tmp_path: Path) -> None:
    layer = {"layers/dense/vars/0": np.ones((2, 3), np.float32)}
    slots = {f"optimizer/vars/{number}": np.ones((2, 3), np.float32) for number in range(3)}
    saves.keras_archive(tmp_path / "m.keras", {"class_name": "Functional"}, {**layer, **slots})
    with KerasArchive(tmp_path / "m.keras") as opened:
        assert [tensor.name for tensor in opened.tensors()] == list(layer)
