"""Tiny models of the kinds that limit their arguments in other ways than those of ``models.py``."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from models import PAD, tiny
from torch import Tensor, nn

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
}


def note_of(error: BaseException) -> str:
    return "\n".join(note for note in getattr(error, "__notes__", ()) if note.startswith("[ST-ASSERT"))


def roberta() -> Any:
    """Positions begin after the pad token's id."""
    return transformers.RobertaModel(transformers.RobertaConfig(**_SIZES)).eval()


def multiple_choice() -> Any:
    """Labels are choices: rows of a third dimension."""
    return transformers.BertForMultipleChoice(transformers.BertConfig(**_SIZES)).eval()


def bart() -> Any:
    """Positions of encoder and decoder begin at 2."""
    return tiny("bart")


class PlaceholderModel(transformers.BertPreTrainedModel):
    """Ids of 500 stand for images: they are replaced before they are looked up."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.inner = transformers.BertModel(config)
        self.kinds = nn.Embedding(7, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.inner.get_input_embeddings()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, kinds: Tensor | None = None) -> Any:
        if kinds is not None:
            self.kinds(kinds)
        return self.inner(torch.where(input_ids == 500, 5, input_ids), attention_mask)
