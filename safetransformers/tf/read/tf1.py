"""Names of the original TensorFlow 1 checkpoints, as the later classes have them.

The facts are those of ``load_tf_weights_in_*`` of transformers 4.57.6. A name is rewritten by the rules of its family,
one after another; what its last part then is called decides about the weight's orientation, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from .tensors import Array, Tensor

Rules = tuple[tuple[str, str], ...]

_BERT: Final[Rules] = (
    (r"^(loss/)?output_weights$", "classifier/weight"),
    (r"^(loss/)?output_bias$", "classifier/bias"),
    (r"^cls/squad/output_weights$", "qa_outputs/weight"),
    (r"^cls/squad/output_bias$", "qa_outputs/bias"),
    (r"/output_weights$", "/weight"),
    (r"/output_bias$", "/bias"),
    (r"/layer_(\d+)/", r"/layer/\1/"),
)
_ALBERT: Final[Rules] = (
    (r"^module/", ""),
    (r"^cls/seq_relationship/output_weights$", "sop_classifier/classifier/weight"),
    (r"^cls/seq_relationship/output_bias$", "sop_classifier/classifier/bias"),
    (r"^cls/predictions/(transform/)?", "predictions/"),
    (r"/transformer/group_(\d+)/inner_group_(\d+)/", r"/albert_layer_groups/\1/albert_layers/\2/"),
    (r"(/albert_layers/\d+)/LayerNorm_1/", r"\1/full_layer_layer_norm/"),
    (r"(/albert_layers/\d+)/LayerNorm/", r"\1/attention/LayerNorm/"),
    (r"/attention_1/(self|output)/", "/attention/"),
    (r"/ffn_1/intermediate/output/dense/", "/ffn_output/"),
    (r"/ffn_1/intermediate/dense/", "/ffn/"),
    (r"/pooler/dense/", "/pooler/"),
    *_BERT,
)
_ELECTRA: Final[Rules] = (
    (r"^discriminator_predictions/dense_1/", "discriminator_predictions/dense_prediction/"),
    (r"^generator_predictions/output_bias$", "generator_lm_head/bias"),
    *_BERT,
)
_GPT2: Final[Rules] = (
    (r"^model/", "transformer/"),
    (r"/h(\d+)/", r"/h/\1/"),
    (r"/[wg]$", "/weight"),
    (r"/b$", "/bias"),
)
_T5: Final[Rules] = (
    (r"/block_0*(\d+)/layer_0*(\d+)/", r"/block/\1/layer/\2/"),
    (r"/(q|k|v|o|relative_attention_bias)$", r"/\1/kernel"),
    (r"/(rms_norm|layer_norm)/scale$", "/layer_norm/weight"),
    (r"^(encoder|decoder)/layer_norm/weight$", r"\1/final_layer_norm/weight"),
    (r"/final_layer_norm/scale$", "/final_layer_norm/weight"),
    (r"^decoder/logits/kernel$", "lm_head/kernel"),
)
_XLNET: Final[Rules] = (
    (r"^model/", ""),
    (r"/layer_(\d+)/(rel_attn|ff)/", r"/layer/\1/\2/"),
    (r"/rel_attn/([qkvor])/kernel$", r"/rel_attn/\1"),
    (r"/LayerNorm/", "/layer_norm/"),
    (r"/lookup_table$", "/weight"),
    (r"/mask_emb/mask_emb$", "/mask_emb"),
    (r"^sequnece_summary/", "sequence_summary/"),
    (r"^(?:regression|classification)_\w+/logit/", "logits_proj/"),
)

# A name that only this family has, and its rules; the first that is found decides.
_FAMILIES: Final[tuple[tuple[str, Rules], ...]] = (
    (r"/transformer/group_\d+/inner_group_\d+/", _ALBERT),
    (r"^(electra|discriminator_predictions|generator)/", _ELECTRA),
    (r"^model/h\d+/", _GPT2),
    (r"^model/transformer/layer_\d+/rel_attn/", _XLNET),
    (r"/block_\d+/layer_\d+/", _T5),
    (r"^(\w+/)?bert/encoder/layer_\d+/", _BERT),
)
# XLNet keeps one tensor for all layers of these.
_STACKED: Final = re.compile(r"^transformer/(r_[rws]_bias|seg_embed)$")
_LAYERS_AXIS_RANK: Final = {"r_r_bias": 3, "r_w_bias": 3, "r_s_bias": 3, "seg_embed": 4}


def renamed(tensors: list[Tensor]) -> list[Tensor]:
    """The weights under the names of the later classes; a save that has those already is left as it is."""
    names = [tensor.name for tensor in tensors]
    rules = next((rules for mark, rules in _FAMILIES if any(re.search(mark, name) for name in names)), None)
    if rules is None:
        return tensors
    return [one for tensor in tensors for one in _unstacked(_renamed(tensor, rules))]


def is_generator(tensor: Tensor) -> bool:
    """Whether a weight of an ELECTRA checkpoint is the generator's, which lies beside the discriminator."""
    return tensor.path[0] in {"generator", "generator_predictions", "generator_lm_head"}


def _renamed(tensor: Tensor, rules: Rules) -> Tensor:
    name = tensor.name
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return replace(tensor, path=tuple(name.split("/")))


def _unstacked(tensor: Tensor) -> Iterator[Tensor]:
    stacked = _STACKED.match("/".join(tensor.path))
    if stacked is None or len(tensor.shape) != _LAYERS_AXIS_RANK[stacked[1]]:
        yield tensor
        return

    for number in range(tensor.shape[0]):
        yield replace(
            tensor,
            name=f"{tensor.name}[{number}]",
            path=("transformer", "layer", str(number), "rel_attn", stacked[1]),
            shape=tensor.shape[1:],
            read=partial(_layer, tensor, number),
        )


def _layer(tensor: Tensor, number: int) -> Array:
    values: Array = tensor.read()[number]
    return values
