"""Tiny random models, and padded rows of which each can also be run alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor

PAD, EOS, BOS = 0, 1, 2
# No row holds the pad or the eos token; the first needs no padding.
ROWS = ((5, 17, 23, 9, 31, 12, 44), (8, 21, 40), (33, 6, 19, 27, 50))

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    # Wide weights: attending to padding changes the numbers of a real token in the first digit.
    "initializer_range": 0.3,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}
_GPT2_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
_MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", _SIZES | _NO_DROPOUT),
    "bert-classifier": ("BertForSequenceClassification", "BertConfig", _SIZES | _NO_DROPOUT),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", _GPT2 | _GPT2_NO_DROPOUT),
    "llama": ("LlamaForCausalLM", "LlamaConfig", _SIZES),
    "mistral": ("MistralForCausalLM", "MistralConfig", _SIZES | {"num_key_value_heads": 2, "sliding_window": 4}),
    # Takes a mask and no position ids: distances to other tokens are all that it knows.
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    ),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        {
            "d_model": 32,
            "max_position_embeddings": 64,
            "init_std": 0.3,
            "decoder_start_token_id": EOS,
            "forced_eos_token_id": None,
        }
        | {
            f"{side}_{name}": size
            for side in ("encoder", "decoder")
            for name, size in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))
        },
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        _T5 | {"initializer_factor": 3.0, "decoder_start_token_id": PAD, "tie_word_embeddings": False},
    ),
}


def tiny(name: str, *, seed: int = 0, **config: Any) -> Any:
    """A model in eval mode; the same name and seed give the same weights, whatever the state of the generator."""
    cls, config_cls, sizes = _MODELS[name]
    ids = {"vocab_size": 64, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": BOS}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, cls)(getattr(transformers, config_cls)(**{**sizes, **ids, **config}))
    return model.eval()


def padded_rows(side: str, rows: Any = ROWS, pad: int = PAD) -> Tensor:
    """The rows as one batch of ids, each padded on ``side`` to the longest."""
    longest = max(map(len, rows))
    fill = [[pad] * (longest - len(row)) for row in rows]
    return torch.tensor([[*f, *r] if side == "left" else [*r, *f] for r, f in zip(rows, fill, strict=True)])


def mask_of(ids: Tensor, pad: int = PAD) -> Tensor:
    """The right mask of rows that hold the pad token at one edge only."""
    return (ids != pad).long()


def numbers(output: Any) -> Tensor:
    """What a model's user reads: its logits, else its last hidden state, else the first output."""
    if isinstance(output, dict):
        return output["logits"] if "logits" in output else output["last_hidden_state"]
    return output[0]


@torch.no_grad()
def alone(plain: Callable[..., Any], ids: Tensor, **kwargs: Any) -> list[Tensor]:
    """The numbers of each row run by itself, without its padding."""
    return [numbers(plain(input_ids=row[row != PAD][None], **kwargs))[0] for row in ids]


def error(model: Callable[..., Any], plain: Callable[..., Any], ids: Tensor, **kwargs: Any) -> float:
    """The largest difference of a real token's numbers in the padded batch from its row run alone by ``plain``."""
    with torch.no_grad():
        batch = numbers(model(input_ids=ids, **kwargs))
    differences = []
    for row, row_ids, expected in zip(batch, ids, alone(plain, ids, **kwargs), strict=True):
        has_tokens = row.shape[:1] == row_ids.shape  # a classifier's row has none
        differences.append(((row[row_ids != PAD] if has_tokens else row) - expected).abs().max().item())
    return max(differences)


def weights(model: Any) -> Tensor:
    """All of a model's numbers in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
