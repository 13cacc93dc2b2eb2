"""Tiny models with random weights, and checkpoints of them: any architecture in milliseconds, and no network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from .configs import BOS_TOKEN_ID, EOS_TOKEN_ID, FIRST_TOKEN_ID, PAD_TOKEN_ID, VOCAB_SIZE, tiny_config

_SPECIAL: Final = {PAD_TOKEN_ID: "[PAD]", BOS_TOKEN_ID: "[BOS]", EOS_TOKEN_ID: "[EOS]", 3: "[UNK]"}
_WORDS: Final = ("hello", "world", "a", "wonderful", "day", "the", "is", "to", "and", "of", "in", "you", "that", "it")


def tiny_model(model_type: str, auto_class: str = "AutoModel", *, seed: int = 0, **settings: Any) -> Any:
    """A model with few random weights, in eval mode: thousands for text and images, a few million for speech.

    Args:
        model_type: a key of transformers' ``CONFIG_MAPPING``, such as ``"bert"`` or ``"llama"``.
        auto_class: the Auto class that makes it, such as ``"AutoModelForCausalLM"``.
        seed: of the weights; the state of torch's generator is left as it is.
        **settings: of the configuration, in place of the tiny ones: ``num_labels=3``.

    Raises:
        KeyError: for a model type that transformers does not have.
        ValueError: by the Auto class, for a model type that it is not for.

    Example:
        >>> tiny_model("gpt2", "AutoModelForCausalLM").num_parameters() < 200_000
        True
    """
    config = tiny_config(model_type)
    for name, value in settings.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, auto_class).from_config(config)
    return model.eval()


def tiny_tokenizer() -> Any:
    """A tokenizer of a few words and of numbers, whose special tokens have the ids of the tiny configurations.

    Example:
        >>> tiny_tokenizer()(["hello world", "hello"], padding=True)["input_ids"]
        [[10, 11], [10, 0]]
    """
    words = {word: FIRST_TOKEN_ID + index for index, word in enumerate(_WORDS)}
    fill = {f"<{index}>": index for index in range(VOCAB_SIZE) if index not in {*_SPECIAL, *words.values()}}
    vocabulary = {**{word: index for index, word in _SPECIAL.items()}, **words, **fill}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL[3]))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": PAD_TOKEN_ID, "bos_token": BOS_TOKEN_ID, "eos_token": EOS_TOKEN_ID, "unk_token": 3}
    special = {name: _SPECIAL[index] for name, index in names.items()}
    cls: Any = transformers.PreTrainedTokenizerFast
    # Without token types, which transformers 4 gives as well and decoders refuse.
    return cls(tokenizer_object=fast, model_input_names=["input_ids", "attention_mask"], **special)


def tiny_checkpoint(
    model_type: str, folder: str | os.PathLike[str], auto_class: str = "AutoModel", *, seed: int = 0, **settings: Any
) -> Path:
    """Save a tiny model and its tokenizer, as ``save_pretrained`` writes them.

    Args:
        model_type: as ``tiny_model`` takes it; so the others.
        folder: where to; it is made.
        auto_class: the Auto class that makes the model.
        seed: of its weights.
        **settings: of its configuration.

    Returns:
        The folder, which every Auto class for this model loads.
    """
    tiny_model(model_type, auto_class, seed=seed, **settings).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return Path(folder)
