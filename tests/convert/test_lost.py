"""A save that never had all weights, or is no whole model, says so instead of asking for another configuration."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import saves
from transformers import FunnelConfig, SegformerConfig, XLMConfig, XLMModel

from safetransformers import convert
from safetransformers.errors import MismatchedSaveError, UnknownSaveError


def _xlm(folder: Path, without: str) -> Path:
    """A checkpoint of a tiny XLM that lacks one weight."""
    config = XLMConfig(vocab_size=19, emb_dim=8, n_layers=1, n_heads=2, max_position_embeddings=16)
    config.architectures = ["XLMModel"]
    config.save_pretrained(folder)
    state = {key: value.numpy() for key, value in XLMModel(config).state_dict().items() if value.is_floating_point()}
    state.pop(without)
    named = {f"tfxlm_model/transformer/{key.replace('.', '/')}": value for key, value in state.items()}
    saves.checkpoint(folder / "ckpt", named)
    return folder / "ckpt"


def test_a_keras_file_without_the_lists_of_lists_says_that_keras_left_them_out(tmp_path: Path) -> None:
    config = FunnelConfig(vocab_size=19, block_sizes=[1], d_model=8, n_head=2, d_head=4, d_inner=8)
    config.architectures = ["FunnelBaseModel"]
    config.save_pretrained(tmp_path / "save")
    with h5py.File(tmp_path / "save" / "model.weights.h5", "w") as file:
        inside = "layers/tf_funnel_base_layer/embeddings"
        file.create_dataset(f"{inside}/vars/0", data=np.ones((19, 8), np.float32))
        file.create_dataset(f"{inside}/LayerNorm/vars/0", data=np.ones(8, np.float32))
        file.create_dataset(f"{inside}/LayerNorm/vars/1", data=np.ones(8, np.float32))
    with pytest.raises(MismatchedSaveError, match="lists of lists") as caught:
        convert(tmp_path / "save", tmp_path / "out")
    assert "save_pretrained" in caught.value.do and not (tmp_path / "out").exists()
    assert all(key.startswith("encoder.blocks.0.0.") for key in caught.value.details["missing"])


def test_a_checkpoint_without_word_embeddings_says_that_tensorflow_keeps_one_variable_of_a_name(tmp_path: Path) -> None:
    save = _xlm(tmp_path / "save", without="embeddings.weight")
    with pytest.raises(MismatchedSaveError, match="two variables of one name") as caught:
        convert(save, tmp_path / "out")
    assert caught.value.details["missing"] == ["embeddings.weight"]


def test_a_checkpoint_that_lacks_another_weight_is_not_explained_by_that(tmp_path: Path) -> None:
    save = _xlm(tmp_path / "save", without="position_embeddings.weight")
    with pytest.raises(MismatchedSaveError, match="would be random") as caught:
        convert(save, tmp_path / "out")
    assert "one name" not in str(caught.value)


def test_a_file_of_names_that_lacks_word_embeddings_is_not_explained_by_that(tmp_path: Path) -> None:
    _xlm(tmp_path / "save", without="embeddings.weight")
    saves.h5(tmp_path / "h5" / "tf_model.h5", {"tfxlm_model/transformer/layer_norm_emb/gamma": np.ones(8, np.float32)})
    with pytest.raises(MismatchedSaveError) as caught:
        convert(tmp_path / "h5", tmp_path / "out", config=tmp_path / "save")
    assert "embeddings.weight" in caught.value.details["missing"] and "one name" not in str(caught.value)


def test_a_part_of_a_model_that_no_class_loads_is_told_by_its_name(tmp_path: Path) -> None:
    config = SegformerConfig(hidden_sizes=[8], depths=[1], num_attention_heads=[1], num_encoder_blocks=1)
    config.architectures = ["SegformerLayer"]  # in transformers 5 also SegformerDecodeHead
    config.save_pretrained(tmp_path / "save")
    scope = "tf_segformer_layer/layer_norm_1"
    saves.h5(
        tmp_path / "save" / "tf_model.h5", {f"{scope}/{leaf}": np.ones(8, np.float32) for leaf in ("gamma", "beta")}
    )
    with pytest.raises(UnknownSaveError, match="SegformerLayer, which is only a part of a model") as caught:
        convert(tmp_path / "save", tmp_path / "out")
    assert "from_pretrained" in caught.value.why and not (tmp_path / "out").exists()
