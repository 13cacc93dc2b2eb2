"""Weights that a Keras file numbers instead of naming find their keys by the tree that they lie in."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import saves
from transformers import IdeficsConfig, IdeficsForVisionText2Text

from safetransformers import compat, convert
from safetransformers.errors import UnknownSaveError
from safetransformers.names import history
from safetransformers.tf.config import configs
from safetransformers.tf.match import target as targets
from safetransformers.tf.match.exceptions import renamed
from safetransformers.tf.match.matching import Match
from safetransformers.tf.match.orient import turn
from safetransformers.tf.match.structure import match_positions
from safetransformers.tf.match.target import Kind, Slot, Target
from safetransformers.tf.read.h5 import H5File
from safetransformers.tf.read.tensors import Tensor


def _target(
    shapes: dict[str, tuple[int, ...]], *, parts: tuple[str, ...] = (), embeddings: tuple[str, ...] = ()
) -> Target:
    def slot(key: str, shape: tuple[int, ...]) -> Slot:
        is_dense = len(shape) == 2 and "embed" not in key
        return Slot(key, shape, Kind.DENSE if is_dense else Kind.PLAIN, (key,), is_integer="index" in key)

    slots = {key: slot(key, shape) for key, shape in shapes.items()}
    return Target("ToyModel", "toy", "", frozenset(parts), slots, embeddings)


def _laid(weights: dict[str, tuple[int, ...]], target: Target, integers: tuple[str, ...] = ()) -> Match:
    def tensor(path: str, shape: tuple[int, ...]) -> Tensor:
        dtype = "int32" if path in integers else "float32"
        return Tensor(path, tuple(path.split("/")), shape, dtype, lambda: np.arange(math.prod(shape)), True)

    return match_positions([tensor(path, shape) for path, shape in weights.items()], target)


def _places(found: Match) -> dict[str, str]:
    assert not found.missing and not found.misshapen
    return {key: placed.tensor.name for key, placed in found.placed.items()}


def test_heads_in_a_dictionary_are_given_in_the_order_of_torch_and_that_is_told() -> None:
    target = _target({"heads.objects.weight": (3, 4), "heads.features.weight": (3, 4)})
    found = _laid({"heads/dense/0": (4, 3), "heads/dense_1/0": (4, 3)}, target)
    assert _places(found) == {"heads.objects.weight": "heads/dense/0", "heads.features.weight": "heads/dense_1/0"}
    assert found.by_order == {"dense": "heads.objects"}


def test_heads_of_other_sizes_are_told_apart_by_these() -> None:
    target = _target({"heads.objects.weight": (3, 4), "heads.features.weight": (5, 4)})
    found = _laid({"heads/dense/0": (4, 5), "heads/dense_1/0": (4, 3)}, target)
    assert _places(found) == {"heads.objects.weight": "heads/dense_1/0", "heads.features.weight": "heads/dense/0"}


def test_embeddings_that_a_head_holds_are_those_of_its_own_model() -> None:
    keys = ("encoder.embeddings.word_embeddings.weight", "decoder.embeddings.word_embeddings.weight")
    target = _target(
        {keys[0]: (9, 4), keys[1]: (9, 4), "encoder.dense.weight": (4, 4), "decoder.mlm.dense.weight": (4, 4)},
        embeddings=("encoder.embeddings", "decoder.embeddings"),
    )
    weights = {
        "encoder/embeddings/0": (9, 4),
        "encoder/dense/0": (4, 4),
        "decoder/mlm/input_embeddings/0": (9, 4),
        "decoder/mlm/dense/0": (4, 4),
    }
    found = _places(_laid(weights, target))
    assert [found[key] for key in keys] == ["encoder/embeddings/0", "decoder/mlm/input_embeddings/0"]


def test_the_main_layer_of_a_model_in_a_model_is_the_model() -> None:
    target = _target({"encoder.dense.weight": (4, 2)}, parts=("vit",))
    assert _places(_laid({"encoder/vit/dense/0": (2, 4)}, target)) == {"encoder.dense.weight": "encoder/vit/dense/0"}


def test_an_index_that_torch_computes_is_left_over() -> None:
    target = _target({"attention.bias_table": (49, 2)})
    found = _laid({"attention/0": (49, 2), "attention/1": (16, 16)}, target, integers=("attention/1",))
    assert _places(found) == {"attention.bias_table": "attention/0"}
    assert [tensor.name for tensor in found.unused] == ["attention/1"]


def test_an_index_that_torch_keeps_too_goes_there() -> None:
    target = _target({"attention.bias_table": (49, 2), "attention.index": (16, 16)})
    found = _laid({"attention/0": (49, 2), "attention/1": (16, 16)}, target, integers=("attention/1",))
    assert _places(found) == {"attention.bias_table": "attention/0", "attention.index": "attention/1"}


def test_weights_of_a_layer_that_are_a_list_of_modules_in_torch_keep_their_order() -> None:
    keys = ["prompt.none_embed.weight", *(f"prompt.point_embed.{number}.weight" for number in range(3))]
    found = _laid({f"prompt/{number}": (1, 8) for number in range(4)}, _target(dict.fromkeys(keys, (1, 8))))
    assert [_places(found)[key] for key in keys] == [f"prompt/{number}" for number in range(4)]


def test_parameters_of_equal_shape_are_told_apart_by_the_class_that_holds_them() -> None:
    keys = ("output_weights", "output_bias", "column_output_weights", "column_output_bias")
    target = _target({key: () if "bias" in key else (8,) for key in keys})
    layers = ("tf_tapas_compute_column_logits", "tf_tapas_compute_token_logits")
    shapes = {f"layers/{layer}/{number}": shape for layer in layers for number, shape in enumerate(((8,), ()))}
    found = _places(_laid(shapes, target))
    column, token = layers
    assert [found[key] for key in keys] == [f"layers/{one}/{number}" for one in (token, column) for number in (0, 1)]


def test_the_square_kernel_of_a_decoupled_layer_is_kept_as_it_is_and_others_are_turned() -> None:
    config = IdeficsConfig(
        vocab_size=8,
        additional_vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=False,
        vision_config={"embed_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28},
    )
    slots = targets.target(IdeficsForVisionText2Text, config).slots
    values = np.arange(64.0, dtype=np.float32).reshape(8, 8)
    tensor = Tensor("lm_head/vars/0", ("lm_head", "0"), (8, 8), "float32", lambda: values, True)
    for key, expected in (
        ("lm_head.weight", values),
        ("lm_head.additional_fc.weight", values.T),
        ("model.layers.0.mlp.up_proj.weight", values.T),
    ):
        turned = turn(tensor, slots[key])
        assert turned is not None and np.array_equal(turned(values), expected), key


def test_a_file_of_numbers_without_a_configuration_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "save").mkdir()
    with h5py.File(tmp_path / "save" / "model.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.ones((2, 3), np.float32))
    with pytest.raises(UnknownSaveError, match="numbers instead of names") as caught:
        convert(tmp_path / "save", tmp_path / "out", architecture="BertModel")
    assert "--config FILE" in str(caught.value) and not (tmp_path / "out").exists()


def test_a_weight_without_axes_is_read_as_an_array(tmp_path: Path) -> None:
    saves.h5(tmp_path / "tf_model.h5", {"tf_clip_model/clip/logit_scale": np.array(2.5, np.float32)})
    with H5File(tmp_path / "tf_model.h5") as file:
        values = file.tensors()[0].read()
    assert isinstance(values, np.ndarray) and values.shape == () and values == 2.5


def test_a_model_type_of_another_release_is_told_with_the_line_that_installs_it() -> None:
    elsewhere = next(name for name in history.model_types() if compat.config_class(name) is None)
    with pytest.raises(UnknownSaveError, match=r"pip install .*transformers[=>]=") as caught:
        configs.made({"model_type": elsewhere}, "config.json")
    assert elsewhere in str(caught.value)


def test_reading_a_configuration_of_two_models_leaves_both_their_types() -> None:
    raw = {"model_type": "encoder-decoder", "encoder": {"model_type": "bert"}, "decoder": {"model_type": "gpt2"}}
    configs.made(raw, "config.json")
    assert raw["encoder"] == {"model_type": "bert"} and raw["decoder"] == {"model_type": "gpt2"}


def test_names_that_transformers_5_changed_are_known() -> None:
    scope = "tf_data2_vec_vision_for_semantic_segmentation/decode_head"
    changed = renamed("data2vec-vision", f"{scope}/psp_modules/0/1/conv/kernel")
    assert changed == f"{scope}/psp_modules/blocks/0/conv/convolution/kernel"
    assert renamed("bert", f"{scope}/psp_modules/0/1/conv/kernel") is None
