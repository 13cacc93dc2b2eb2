"""Transformer-XL: matrices that TensorFlow keeps the other way round, square ones too, and a buffer it computes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saves
import torch
import transformers
from safetensors.torch import load_file

from safetransformers import convert
from safetransformers.tf.match import target as targets
from safetransformers.tf.match.structure import match_positions
from safetransformers.tf.read.tensors import Tensor

pytestmark = [
    pytest.mark.skipif(
        not hasattr(transformers, "TransfoXLLMHeadModel"), reason="transformers 5 has no class for Transformer-XL"
    ),
    pytest.mark.filterwarnings("ignore:The output of TransfoXL will be updated:DeprecationWarning"),
]

# The first projection is square, and as the first cluster has as many words as the model is wide, so are its weights.
_SIZES = {"vocab_size": 40, "cutoffs": [16, 32], "d_model": 16, "d_embed": 16, "div_val": 2}
_FREQUENCIES = "transformer.pos_emb.inv_freq"
_SCOPE = "tf_transfo_xllm_head_model"


def _model(**changes: Any) -> Any:
    sizes = {**_SIZES, "n_head": 2, "d_head": 8, "d_inner": 20, "n_layer": 1, "mem_len": 4, "clamp_len": 4, **changes}
    config = transformers.TransfoXLConfig(**sizes, architectures=["TransfoXLLMHeadModel"])
    torch.manual_seed(0)
    model = transformers.TransfoXLLMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def _variables(model: Any) -> Mapping[str, np.ndarray]:
    """The weights as `tf_model.h5` has them: TensorFlow shares none, and has no variable for the frequencies."""
    found = {}
    for key, value in model.state_dict().items():
        name = re.sub(r"(layers|projs|CoreNet)/(\d+)", r"\1_._\2", key.replace(".", "/"))
        if "crit/out_layers" in name:
            name = re.sub(r"/(weight|bias)$", r"_._\1", name)
        elif "emb_layers" in name:
            name = name.replace("/weight", "/embeddings")
        elif "layer_norm" in name:
            name = name.replace("/weight", "/gamma").replace("/bias", "/beta")
        name = name.removesuffix("/weight") + "/kernel" if name.endswith("/weight") else name
        is_turned = name.endswith("/kernel") or "_projs_._" in name
        if key != _FREQUENCIES:
            found[f"{_SCOPE}/{name}"] = np.ascontiguousarray((value.T if is_turned else value).numpy())
    return found


def test_a_save_without_the_frequencies_converts_with_its_projections_turned(tmp_path: Path) -> None:
    model, source = _model(), tmp_path / "save"
    expected, variables = model.state_dict(), _variables(model)
    model.config.save_pretrained(source)
    saves.h5(source / "tf_model.h5", variables)
    report = convert(source, tmp_path / "out", forward=False)
    written = load_file(tmp_path / "out" / "model.safetensors")
    for key in written:
        assert torch.equal(written[key], expected[key]), key
    first = variables[f"{_SCOPE}/transformer/word_emb/emb_projs_._0"]
    assert np.array_equal(written["transformer.word_emb.emb_projs.0"].numpy(), first.T)
    assert written[_FREQUENCIES].dtype == torch.float32
    assert report.computed == (_FREQUENCIES,) and f"computed, as no save has them: {_FREQUENCIES}" in str(report)
    assert not report.unused and not report.added and not report.warnings()
    loaded, info = transformers.TransfoXLLMHeadModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("tied", [True, False])
def test_numbered_weights_of_one_shape_go_where_tensorflow_makes_them(tied: bool) -> None:
    model = _model(n_layer=0, tie_word_embeddings=tied, proj_share_all_but_first=tied)
    embeddings, softmax = "transformer/word_emb", "layers/tf_adaptive_softmax_mask"
    shapes = {
        embeddings: [(16, 16), (8, 16), (4, 16)],
        **{f"{embeddings}/emb_layers/{at}": [shape] for at, shape in enumerate([(16, 16), (16, 8), (8, 4)])},
        softmax: [(2, 16), (2,), (16, 16), (16, 16), (16,), (8, 16), (16, 8), (16,), (4, 16), (8, 4), (8,)],
    }
    tensors = [
        Tensor(f"{layer}/{at}", (*layer.split("/"), str(at)), shape, "float32", lambda: np.ones(1), True)
        for layer, own in shapes.items()
        for at, shape in enumerate(own)
    ]
    found = match_positions(tensors, targets.target(type(model), model.config))
    assert not found.unused and [slot.key for slot in found.missing] == [_FREQUENCIES]
    places = {}
    for placed in found.placed.values():
        places |= {one.tensor.name: one.slot.key for one in (placed, *placed.copies)}
    keys = ["cluster_weight", "cluster_bias"]
    keys += [key for at in range(3) for key in (f"out_projs.{at}", f"out_layers.{at}.weight", f"out_layers.{at}.bias")]
    assert [places[f"{softmax}/{at}"] for at in range(len(keys))] == [f"crit.{key}" for key in keys]
