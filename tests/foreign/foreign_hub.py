"""A hub cache of tiny models with random weights, under the ids that other people's tests load.

Both runs of a suite read it as they read a real cache, through ``HF_HOME``; nothing of any library is replaced. The
architectures are the real ones, the weights are not: tests of pinned numbers fail in both runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

REVISION = "0" * 40
VOCABULARY = 1024
# The real checkpoints' special tokens matter, since a pad id decides what a guard does: they are the config's defaults.
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
_BART = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_layers": 2, "decoder_layers": 2}
_BART_HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
_OPT = {"ffn_dim": 64, "word_embed_proj_dim": 32}
_T5 = {"d_ff": 64, "d_kv": 8, "num_decoder_layers": 2, "decoder_start_token_id": 0}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "facebook/opt-125m": ("OPTForCausalLM", _OPT),
    "gpt2": ("GPT2LMHeadModel", {}),
    "hf-internal-testing/Mixtral-tiny": ("MixtralForCausalLM", _EXPERTS),
    "hf-internal-testing/tiny-qwen3-moe": ("Qwen3MoeForCausalLM", _EXPERTS),
    "hf-internal-testing/tiny-random-BertModel": ("BertModel", {}),
    "hf-internal-testing/tiny-random-Gemma3ForCausalLM": ("Gemma3ForCausalLM", {"sliding_window": 16}),
    "hf-internal-testing/tiny-random-LlamaForCausalLM": ("LlamaForCausalLM", {}),
    "hf-internal-testing/tiny-random-MistralForCausalLM": ("MistralForCausalLM", {}),
    "hf-internal-testing/tiny-random-gpt2": ("GPT2LMHeadModel", {}),
    "peft-internal-testing/opt-125m": ("OPTForCausalLM", _OPT),
    "peft-internal-testing/tiny-dummy-qwen2": ("Qwen2ForCausalLM", {}),
    "peft-internal-testing/tiny-random-BartForConditionalGeneration": (
        "BartForConditionalGeneration",
        _BART | _BART_HEADS,
    ),
    "peft-internal-testing/tiny-random-BertForSequenceClassification": ("BertForSequenceClassification", {}),
    "peft-internal-testing/tiny-random-BertModel": ("BertModel", {}),
    "peft-internal-testing/tiny-random-BloomForCausalLM": ("BloomForCausalLM", {"n_head": 4, "n_layer": 2}),
    "peft-internal-testing/tiny-random-DebertaModel": ("DebertaModel", {}),
    "peft-internal-testing/tiny-random-DebertaV2Model": ("DebertaV2Model", {}),
    "peft-internal-testing/tiny-random-GPT2LMHeadModel": ("GPT2LMHeadModel", {}),
    "peft-internal-testing/tiny-random-GPTJForCausalLM": ("GPTJForCausalLM", {"rotary_dim": 4}),
    "peft-internal-testing/tiny-random-GPTNeoXForCausalLM": ("GPTNeoXForCausalLM", {}),
    "peft-internal-testing/tiny-random-LlamaForCausalLM": ("LlamaForCausalLM", {}),
    "peft-internal-testing/tiny-random-OPTForCausalLM": ("OPTForCausalLM", _OPT),
    "peft-internal-testing/tiny-random-RobertaForSequenceClassification": ("RobertaForSequenceClassification", {}),
    "peft-internal-testing/tiny-random-RobertaModel": ("RobertaModel", {}),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration": ("T5ForConditionalGeneration", _T5),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration-calibrated": ("T5ForConditionalGeneration", _T5),
    "peft-internal-testing/tiny-random-gpt2": ("GPT2LMHeadModel", {}),
    "peft-internal-testing/tiny-random-t5": ("T5ForConditionalGeneration", _T5),
    "trl-internal-testing/tiny-GptOssForCausalLM": ("GptOssForCausalLM", _EXPERTS),
    "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": ("LlamaForSequenceClassification", {"pad_token_id": 0}),
    "trl-internal-testing/tiny-Qwen2ForCausalLM-2.5": ("Qwen2ForCausalLM", {}),
    "trl-internal-testing/tiny-Qwen3ForCausalLM": ("Qwen3ForCausalLM", {}),
    "trl-internal-testing/tiny-Qwen3MoeForCausalLM": ("Qwen3MoeForCausalLM", _EXPERTS),
    "trl-internal-testing/tiny-random-LlamaForCausalLM": ("LlamaForCausalLM", {}),
}


def fill(home: Path) -> None:
    """Write every model and a tokenizer into the hub cache under ``home``, as ``HF_HOME`` has it.

    Args:
        home: the folder to make; an id that is in it already is kept.
    """
    for model_id, (architecture, sizes) in MODELS.items():
        repo = home / "hub" / f"models--{model_id.replace('/', '--')}"
        if not repo.exists():
            save(architecture, sizes, repo / "snapshots" / REVISION)
            (repo / "refs").mkdir()
            (repo / "refs" / "main").write_text(REVISION)


def save(architecture: str, sizes: dict[str, Any], folder: Path) -> None:
    """A checkpoint folder with random weights and the tokenizer; the same architecture gives the same weights."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cls = getattr(transformers, architecture)
    config = cls.config_class(**{**_SIZES, **sizes})
    for name in ("bos_token_id", "eos_token_id"):
        if isinstance(getattr(config, name, None), int) and getattr(config, name) >= VOCABULARY:
            setattr(config, name, VOCABULARY - 1)
    torch.manual_seed(0)
    cls(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def tokenizer() -> Any:
    """One token a byte, behind the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ("<s>", "<pad>", "</s>", "<unk>")
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_only = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, **names)
