"""Where the rules of names do not hold: every architecture that needs an entry, with its reason."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Rename(NamedTuple):
    """One exception.

    Attributes:
        model_types: the architectures.
        pattern: of the variable's name, with ``/`` between levels.
        replacement: as for ``re.sub``.
        reason: why the names differ.
    """

    model_types: tuple[str, ...]
    pattern: str
    replacement: str
    reason: str


RENAMES: Final[tuple[Rename, ...]] = (
    Rename(
        ("wav2vec2", "hubert"),
        r"/conv/weight_g$",
        "/conv/parametrizations/weight/original0",
        "torch's weight norm became a parametrization with keys of its own; TensorFlow keeps the older names",
    ),
    Rename(
        ("wav2vec2", "hubert"),
        r"/conv/weight_v$",
        "/conv/parametrizations/weight/original1",
        "as above",
    ),
    Rename(
        ("data2vec-vision",),
        r"/psp_modules/(\d+)/1/",
        r"/psp_modules/blocks/\1/conv/",
        "transformers 5 renamed the parts of the heads; TensorFlow keeps the older names",
    ),
    Rename(("data2vec-vision",), r"_head/bottleneck/", "_head/psp_bottleneck/", "as above"),
    Rename(("data2vec-vision",), r"/bn/", "/normalization/", "as above"),
    Rename(("data2vec-vision",), r"/conv/kernel$", "/convolution/kernel", "as above"),
    Rename(
        ("rag",),
        r"^(?:.*/)?final_logits_bias$",
        "generator/final_logits_bias",
        "RAG's generator writes this bias without a scope (transformers 4.57.6, models/bart/modeling_tf_bart.py, "
        "BiasLayer)",
    ),
)


def renamed(model_type: str, name: str) -> str | None:
    """The name after the exceptions of an architecture, or ``None`` where none of them applies."""
    result = name
    for one in RENAMES:
        if model_type in one.model_types:
            result = re.sub(one.pattern, one.replacement, result)
    return result if result != name else None


# Attributes of TensorFlow's classes whose layer has another name than the attribute (transformers 4.57.6,
# models/*/modeling_tf_*.py: ``self.<attribute> = ...(name="<name>")``), for all architectures.
ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "LayerNorm": ("layer_norm",),
    "attention_output": ("output",),
    "batch_norm1": ("1",),
    "batch_norm2": ("4",),
    "bert_output": ("output",),
    "bias_layer": ("final_logits_bias", "lm_head"),
    "bottleneck_input": ("input",),
    "conv": ("convolution",),
    "conv0": ("layer.0",),
    "conv1": ("0", "layer.0", "layer.1"),
    "conv2": ("3", "layer.1", "layer.2"),
    "conv2d": ("0",),
    "data2vec_output": ("output",),
    "decoder_layers": ("layers",),
    "deit_output": ("output",),
    "dense": ("logit_fc.0",),
    "dense_0": ("0",),
    "dense_1": ("logit_fc.3",),
    "dense_2": ("2",),
    "dense_output": ("output",),
    "depthwise_convolution": ("dwconv",),
    "encoder_layers": ("layers",),
    "layer": ("layers",),
    "layer_1": ("CoreNet.0",),
    "layer_2": ("CoreNet.3",),
    "layer_norm": ("logit_fc.2",),
    "layers": ("layer",),
    "lm_head": ("cls",),
    "longformer_output": ("output",),
    "mlm": ("cls",),
    "mlps": ("linear_c",),
    "mobilebert_output": ("output",),
    "mobilevit_output": ("output",),
    "nsp": ("cls",),
    "out": ("output",),
    "output_dense": ("output",),
    "output_layer": ("output",),
    "pixel_shuffle": ("1",),
    "pos_key_proj": ("pos_proj",),
    "pos_query_proj": ("pos_q_proj",),
    "pre_layernorm": ("pre_layrnorm",),
    "pred_layer": ("pred_layer.proj",),
    "predictions": ("cls.predictions",),
    "roformer_output": ("output",),
    "self_attention": ("self", "attention"),
    "self_output": ("output",),
    "seq_relationship": ("cls.seq_relationship",),
    "stage_layers": ("layers",),
    "swin_output": ("output",),
    "transformer_output": ("output",),
    "vit_output": ("output",),
}


# Attributes of heads that hold the model's embeddings, to which they are tied; Keras saves a layer at the first place
# in which it meets it, so the embeddings of some models lie there only.
HELD_EMBEDDINGS: Final = frozenset({"decoder", "input_embeddings", "embeddings", "lm_head", "cls"})


def attributes(name: str, model_type: str) -> tuple[str, ...]:
    """Other names that the layer of an attribute has."""
    return ATTRIBUTES.get(name, ())


# The order in which a TensorFlow layer makes its variables, where shapes alone may not tell them apart.
VARIABLE_ORDER: Final = (
    "word_embeddings",
    "token_embedding",
    "token_type_embeddings",
    "cls_token",
    "distillation_token",
    "mask_token",
    "position_embeddings",
    "position_embedding",
    "original1",
    "original0",
)


def variable_order(model_type: str, prefix: str) -> tuple[str, ...]:
    """Last parts of keys in the order in which TensorFlow makes the variables of a layer."""
    return VARIABLE_ORDER


# Lists of variables of one layer, of which TensorFlow makes the first of each, then the second of each, where torch has
# list after list (transformers 4.57.6, models/deprecated/transfo_xl/modeling_tf_transfo_xl_utilities.py). A cluster of
# as many words as the model is wide has weights of the shape of its projection.
MADE_IN_TURN: Final[dict[str, tuple[str, ...]]] = {"transfo-xl": ("out_projs", "out_layers")}


def made_in_turn(model_type: str, key: str) -> tuple[int, int]:
    """When TensorFlow makes the variable of a key: its number in its list, and the list; others come first."""
    for at, name in enumerate(MADE_IN_TURN.get(model_type, ())):
        found = re.search(rf"(^|\.){name}\.(\d+)(\.|$)", key)
        if found:
            return int(found[2]), at
    return -1, 0


# Layers whose variables torch has in the module above them, by the name that Keras gives to their class: torch's names,
# in the order in which the layer makes them (transformers 4.57.6, models/*/modeling_tf_*.py). Shapes are equal, and
# only the class tells them apart.
PARAMETERS_ABOVE: Final[dict[str, tuple[str, ...]]] = {
    "tf_tapas_compute_token_logits": ("output_weights", "output_bias"),
    "tf_tapas_compute_column_logits": ("column_output_weights", "column_output_bias"),
}


# Linear layers whose counterpart makes its kernel as torch does, the outputs first (transformers 4.57.6,
# models/idefics/modeling_tf_idefics.py). A position does not tell, and where both extents are equal nor does the shape.
NEVER_TURNED: Final = frozenset({"IdeficsDecoupledLinear"})


class Turned(NamedTuple):
    """Parameters that TensorFlow keeps the other way round, the inputs first, and that no name of a kernel tells.

    Attributes:
        model_types: the architectures.
        pattern: of the torch keys.
        reason: why they are turned. Where both extents are equal, no shape tells it.
    """

    model_types: tuple[str, ...]
    pattern: str
    reason: str


ALWAYS_TURNED: Final[tuple[Turned, ...]] = (
    Turned(
        ("transfo-xl",),
        r"(^|\.)(emb|out)_projs\.\d+$",
        "TensorFlow multiplies by them, torch uses them as a linear layer's weight, and the library's own conversion "
        "turns them (transformers 4.57.6, models/deprecated/transfo_xl/modeling_tf_transfo_xl.py, "
        "modeling_tf_transfo_xl_utilities.py and modeling_tf_pytorch_utils.py)",
    ),
)


def is_turned(model_type: str, key: str) -> bool:
    """Whether TensorFlow keeps the parameter of a torch key the other way round."""
    return any(model_type in one.model_types and re.search(one.pattern, key) for one in ALWAYS_TURNED)


class Computed(NamedTuple):
    """Buffers that torch's checkpoints hold and TensorFlow computes, so that no save has them.

    Attributes:
        model_types: the architectures.
        pattern: of the torch keys.
        arguments: attributes of torch's module that it was made with, in order: one made again with them computes the
            buffer.
        reason: why no save has them, and why the values are certain.
    """

    model_types: tuple[str, ...]
    pattern: str
    arguments: tuple[str, ...]
    reason: str


COMPUTED: Final[tuple[Computed, ...]] = (
    Computed(
        ("transfo-xl",),
        r"(^|\.)pos_emb\.inv_freq$",
        ("demb",),
        "the frequencies of the positions follow from the width alone: a persistent buffer in torch, a constant of the "
        "graph in TensorFlow (transformers 4.57.6, models/deprecated/transfo_xl/modeling_transfo_xl.py, "
        "PositionalEmbedding, and modeling_tf_transfo_xl.py, TFPositionalEmbedding)",
    ),
)


def computed_from(model_type: str, key: str) -> tuple[str, ...] | None:
    """The attributes from which torch's module computes the buffer of a key, or ``None`` where a save must have it."""
    for one in COMPUTED:
        if model_type in one.model_types and re.search(one.pattern, key):
            return one.arguments
    return None


class SharedLayers(NamedTuple):
    """Layers that all have the same weights.

    Attributes:
        field: how many there are, in the configuration.
        node: a node of a SavedModel's graph that each of them has once, with Keras's count of repetitions.
    """

    field: str
    node: str


SHARED_LAYERS: Final[dict[str, SharedLayers]] = {
    "albert": SharedLayers("num_hidden_layers", r"albert_layers_\._0/attention/query/Tensordot(?:_(\d+))?/axes$")
}
