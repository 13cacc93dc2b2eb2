"""Rules about padding: what tokenizers and models say when rows of a batch have different lengths."""

from __future__ import annotations

from typing import Final

from .rule import Rule

_WITH_MASK: Final = 'inputs = tokenizer(texts, padding=True, return_tensors="pt"); model(**inputs)'

RULES: Final = (
    Rule(
        "ST-MASK-501",
        r"Asking to pad but the tokenizer does not have a padding token",
        "padding was asked for, and the tokenizer has no pad token",
        "decoder-only models are often trained without padding, so their tokenizers name no token for it",
        'tokenizer.add_special_tokens({{"pad_token": "[PAD]"}}); model.resize_token_embeddings(len(tokenizer)); '
        'or, for inference, tokenizer.pad_token = tokenizer.eos_token with padding_side="left" and the attention mask',
        source="transformers/tokenization_utils_base.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-MASK-503",
        r"Unable to create tensor, you should probably activate truncation and/or padding",
        "rows of different lengths cannot become one tensor",
        "the tokenizer was asked for tensors without padding=True (or, more rarely, was given nested lists)",
        'tokenizer(texts, padding=True, truncation=True, return_tensors="pt"); for a Trainer, '
        "data_collator=DataCollatorWithPadding(tokenizer)",
        source="transformers/tokenization_utils_base.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-MASK-504",
        r"Cannot handle batch sizes > 1 if no padding token is defined",
        "a classifier cannot tell where each row of the batch ends: model.config.pad_token_id is not set",
        "it reads the last token that is not padding, and so has to know the pad token",
        "model.config.pad_token_id = tokenizer.pad_token_id  # after tokenizer.pad_token is set",
        source="transformers/modeling_layers.py (GenericForSequenceClassification), 4.57.6 and 5.23.0",
    ),
)

WARNINGS: Final = (
    Rule(
        "ST-MASK-009",
        r"A decoder-only architecture is being used, but right-padding was detected",
        "generate() was given prompts that end in padding, so it goes on from padding",
        "a decoder-only model writes after the last position of a row, which is a pad token in the shorter rows",
        'tokenizer.padding_side = "left", then tokenize again',
        source="transformers/generation/utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-MASK-502",
        r"The attention mask and the pad token id were not set",
        "generate() got no attention mask and no pad token id",
        "it then takes every token as real and pads finished rows with the eos token; with a single unpadded row "
        "that is "
        "harmless",
        "model.generate(**inputs, pad_token_id=tokenizer.eos_token_id)  # inputs hold the tokenizer's attention_mask",
        source="transformers/generation/utils.py, 4.57.6",
    ),
    Rule(
        "ST-MASK-003",
        r"The attention mask is not set (?:with a batched input, )?and cannot be inferred from input because pad "
        r"token is "
        "same as eos token",
        "generate() got no attention mask, and cannot tell padding from the end of a text",
        "the pad token is also the eos token",
        f"{_WITH_MASK.replace('model(', 'model.generate(')}; or give the tokenizer a pad token of its own",
        source="transformers/generation/utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-MASK-002",
        r"We strongly recommend passing in an `attention_mask` since your input_ids may be padded",
        "input_ids probably hold padding, and no attention mask was passed: every pad is read as a word",
        "the first or last token of a row is the pad token (modeling_utils.warn_if_padding_and_no_attention_mask)",
        f"{_WITH_MASK}; or import the Auto class from safetransformers, which infers the mask",
        source="transformers/modeling_utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-MASK-505",
        r"Token indices sequence length is longer than the specified maximum sequence length for this model "
        r"\((?P<length>\d+) > (?P<limit>\d+)\)",
        "the text has {length} tokens, and the model takes {limit}",
        "a model with learned positions has none for the rest: it ends in 'index out of range' or, on a GPU, in a "
        "device-side assert",
        "tokenizer(text, truncation=True), or split the text: return_overflowing_tokens=True, stride=...",
        source="transformers/tokenization_utils_base.py, 4.57.6 and 5.23.0",
    ),
)
