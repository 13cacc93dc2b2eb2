"""A Dense head on a wrapped model becomes that of a torch class with the same numbers, and else stays beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saves
import torch
import transformers
from safetensors.torch import load_file

from safetransformers import convert
from safetransformers.errors import ConversionWarning
from safetransformers.tf.match.wrapped_head import HEADS, Head
from safetransformers.tf.write import files

ROOT = Path(os.environ.get("TF_SAVES_BUILT") or Path(__file__).parents[2] / "build" / "tf-saves") / "heads"
BUILT = sorted(file.parent.name for file in ROOT.glob("*/expected.npz"))
IDS = torch.arange(3, 19).reshape(2, 8)
ALL = {"start": None, "stop": None, "step": None}
SMALL = {
    **{name: value for name, value in saves.CONFIG.items() if name not in {"architectures", "num_labels"}},
    "num_labels": 3,
    "dim": 16,  # DistilBERT
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 20,
    "embedding_size": 16,  # ALBERT, ELECTRA and MobileBERT
    "true_hidden_size": 16,
    "intra_bottleneck_size": 16,
    "image_size": 8,  # ViT
    "patch_size": 4,
}


@pytest.mark.parametrize(("head", "model_type"), [(head, name) for head in HEADS for name in head.model_types])
def test_the_torch_class_computes_what_the_head_does_on_top_of_the_encoder(head: Head, model_type: str) -> None:
    config = transformers.AutoConfig.for_model(model_type, **SMALL)
    base_class = transformers.AutoModel._model_mapping[type(config)]
    model = getattr(transformers, base_class.__name__.removesuffix("Model") + head.suffix)(config).eval()
    keys = {key.rpartition(".")[0] for key in model.state_dict() if not key.startswith(f"{model.base_model_prefix}.")}
    assert keys == set(head.keys)
    inputs = {model.main_input_name: torch.rand(2, 3, 8, 8) if model_type == "vit" else IDS}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        encoder = getattr(model, model.base_model_prefix)
        value = encoder(**inputs, return_dict=False)[head.output]
        value = value[:, 0] if head.is_first_token else value
        for key, activation in zip(head.keys, (*head.activations, "linear"), strict=True):
            value = model.get_submodule(key)(value)
            value = value if activation == "linear" else getattr(torch.nn.functional, activation)(value)
        assert torch.equal(model(**inputs).logits, value)


def _graph(*head: dict[str, Any], output: int = 1, slices: list[Any] | None = None) -> dict[str, Any]:
    """The configuration of a functional model: a BERT, a slice of its output or none, and layers one after another."""
    config = {**saves.CONFIG, "model_type": "bert"}
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "name": "ids", "config": {}, "inbound_nodes": []},
        {"class_name": "TFBertModel", "name": "enc", "config": config, "inbound_nodes": [[["ids", 0, 0, {}]]]},
    ]
    if slices is not None:
        inbound = [["enc", 0, output, {"slice_spec": slices}]]
        layers.append({"class_name": "SlicingOpLambda", "name": "first", "config": {}, "inbound_nodes": inbound})
    for number, layer in enumerate(head):
        previous, index = layers[-1]["name"], output if layers[-1]["name"] == "enc" else 0
        kind, inner = layer.pop("class_name", "Dense"), {"activation": "linear", "use_bias": True, **layer}
        inbound = [[[previous, 0, index, {}]]]
        layers.append({"class_name": kind, "name": f"top_{number}", "config": inner, "inbound_nodes": inbound})
    return {"class_name": "Functional", "config": {"layers": layers, "output_layers": [[layers[-1]["name"], 0, 0]]}}


def _encoder() -> dict[str, np.ndarray]:
    model = transformers.BertModel(transformers.BertConfig(**saves.CONFIG))
    return {
        name.replace("tf_bert_for_sequence_classification", "enc/bert"): value
        for name, value in saves.variables(model).items()
    }


def _converted(graph: dict[str, Any], named: dict[str, np.ndarray], tmp_path: Path) -> tuple[Any, Any]:
    saves.h5(tmp_path / "save" / "whole.h5", {**_encoder(), **named}, graph)
    report = convert(tmp_path / "save", tmp_path / "out")
    return report, getattr(transformers, report.model_class).from_pretrained(tmp_path / "out").eval()


@pytest.mark.parametrize("activation", ["linear", "softmax"])
def test_a_dense_on_the_pooled_output_is_the_classifier(activation: str, tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).standard_normal((16, 5), np.float32)
    head = {"top_1/kernel": kernel, "top_1/bias": np.arange(5, dtype=np.float32)}
    graph = _graph({"class_name": "Dropout"}, {"activation": activation})
    report, model = _converted(graph, head, tmp_path)
    assert report.model_class == "BertForSequenceClassification" and not report.unused and model.config.num_labels == 5
    assert "top_1 became classifier" in report.head and ("softmax" in report.head) == (activation == "softmax")
    assert report.head in str(report) and not report.warnings()
    with torch.no_grad():
        expected = model.bert(IDS).pooler_output @ torch.from_numpy(kernel) + torch.arange(5)
        assert torch.allclose(model(IDS).logits, expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::safetransformers.errors.ConversionWarning")  # the pooler, which it does not use
def test_a_dense_on_every_token_is_the_classifier_of_tokens(tmp_path: Path) -> None:
    head = {"top_0/kernel": np.ones((16, 5), np.float32), "top_0/bias": np.arange(5, dtype=np.float32)}
    report, model = _converted(_graph({}, output=0), head, tmp_path)
    assert report.model_class == "BertForTokenClassification" and all("pooler" in name for name in report.unused)
    with torch.no_grad():
        expected = model.bert(IDS).last_hidden_state.sum(-1, keepdim=True) + torch.arange(5)
        assert torch.allclose(model(IDS).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    "graph",
    [
        _graph({}, output=0, slices=[ALL, 0]),
        _graph({}, output=1, slices=[ALL, 0]),
        _graph({"activation": "relu"}),
        _graph({"use_bias": False}),
        _graph({}, {"class_name": "LayerNormalization"}),
        {**_graph({}), "class_name": "Functional", "config": {**_graph({})["config"], "output_layers": []}},
    ],
    ids=["first token", "part of the pooled", "another activation", "no bias", "more on top", "no output"],
)
def test_a_head_that_no_class_has_is_kept_beside_the_base_model(graph: dict[str, Any], tmp_path: Path) -> None:
    named = {"top_0/kernel": np.ones((16, 5), np.float32), "top_0/bias": np.ones(5, np.float32)}
    with pytest.warns(ConversionWarning, match="top_0/kernel"):
        report, _ = _converted(graph, named, tmp_path)
    assert report.model_class == "BertModel" and not report.head
    aside = load_file(tmp_path / "out" / files.ASIDE)
    assert all(np.array_equal(aside[f"{name}:0"].numpy(), value) for name, value in named.items())


def test_a_head_of_the_wrong_size_is_kept_beside_the_base_model(tmp_path: Path) -> None:
    named = {"top_0/kernel": np.ones((12, 5), np.float32), "top_0/bias": np.ones(5, np.float32)}
    with pytest.warns(ConversionWarning, match="top_0/kernel"):
        report, _ = _converted(_graph({}), named, tmp_path)
    assert report.model_class == "BertModel" and not report.head


def test_who_asks_for_the_base_class_gets_it(tmp_path: Path) -> None:
    named = {"top_0/kernel": np.ones((16, 5), np.float32), "top_0/bias": np.ones(5, np.float32)}
    saves.h5(tmp_path / "save" / "whole.h5", {**_encoder(), **named}, _graph({}))
    with pytest.warns(ConversionWarning, match="top_0/kernel"):
        report = convert(tmp_path / "save", tmp_path / "out", architecture="BertModel")
    assert report.model_class == "BertModel"


@pytest.mark.skipif(not BUILT, reason=f"no saves at {ROOT}: make tf-saves")
@pytest.mark.filterwarnings("ignore::safetransformers.errors.ConversionWarning")
@pytest.mark.parametrize("form", ["model.keras", "model.h5", "saved"])
@pytest.mark.parametrize("name", BUILT)
def test_a_model_that_tensorflow_saved_gives_its_numbers(name: str, form: str, tmp_path: Path) -> None:
    report = convert(ROOT / name / form, tmp_path / "out")
    model = getattr(transformers, report.model_class).from_pretrained(tmp_path / "out").eval()
    expected = np.load(ROOT / name / "expected.npz")
    if name == "bert_first_token":
        assert report.model_class == "BertModel" and len(report.unused) == 2
        return
    with torch.no_grad():
        logits = model(torch.from_numpy(expected["input_ids"]).long()).logits
    got = (logits.softmax(-1) if "softmax" in report.head else logits).numpy()
    assert np.abs(got - expected["outputs"]).max() <= 1e-4 * np.abs(expected["outputs"]).max()
