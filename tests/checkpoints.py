"""Checkpoint folders as users have them: a tokenizer, pickle weights, several shards, code of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "a", "wonderful", "day")

REMOTE_CODE = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

class RemoteConfig(PretrainedConfig):
    model_type = "of-my-own"

    def __init__(self, width=8, vocab_size=64, **kwargs):
        super().__init__(**kwargs)
        self.width, self.vocab_size = width, vocab_size

class RemoteModel(PreTrainedModel):
    config_class = RemoteConfig
    base_model_prefix = "remote"

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.width)
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, input_ids, attention_mask=None):
        return (self.embed(input_ids),)
"""


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of a few words."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


def save(model: nn.Module, folder: Path, **kwargs: Any) -> Path:
    """The model and a tokenizer, as ``save_pretrained`` writes them."""
    model.save_pretrained(folder, **kwargs)
    tokenizer().save_pretrained(folder)
    return folder


def save_pickle(model: nn.Module, folder: Path, *, shards: int = 1) -> Path:
    """The model with pickle weights only, in one file or in shards, as old versions wrote them."""
    model.config.save_pretrained(folder)
    state = model.state_dict()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    files = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    of_key = {key: files[i % shards] for i, key in enumerate(state)}
    for file in files:
        torch.save({key: state[key] for key in state if of_key[key] == file}, folder / file)
    size = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": of_key}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def save_remote_code(folder: Path) -> Path:
    """A checkpoint whose architecture is in a Python file beside it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modeling_remote.py").write_text(REMOTE_CODE)
    auto_map = {"AutoConfig": "modeling_remote.RemoteConfig", "AutoModel": "modeling_remote.RemoteModel"}
    config = {"model_type": "of-my-own", "architectures": ["RemoteModel"], "auto_map": auto_map, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"embed.weight": torch.randn(64, 8)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
