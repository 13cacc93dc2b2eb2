"""Weights that TensorFlow itself left out when it wrote a save: no configuration helps, only another save."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ...errors import MismatchedSaveError

_KERAS: Final = ("h5", "keras archive")
_LISTS: Final = "TensorFlow's class keeps these layers in lists of lists, which Keras does not write into its own files"
_ONE_NAME: Final = (
    "TensorFlow's class has two variables of one name, `embeddings`, and a checkpoint keeps only the other of them"
)


class Lost(NamedTuple):
    """Keys that saves of a format lack.

    Attributes:
        model_types: the architectures.
        formats: as ``Save.format`` calls them.
        pattern: of the torch keys.
        reason: why the save has no weights for them (transformers 4.57.6, models/*/modeling_tf_*.py).
    """

    model_types: tuple[str, ...]
    formats: tuple[str, ...]
    pattern: str
    reason: str


LOST: Final[tuple[Lost, ...]] = (
    Lost(("funnel",), _KERAS, r"(^|\.)encoder\.blocks\.\d+\.\d+\.", _LISTS),
    Lost(("segformer",), _KERAS, r"(^|\.)encoder\.block\.\d+\.\d+\.", _LISTS),
    Lost(("data2vec-vision",), _KERAS, r"^decode_head\.psp_modules\.", _LISTS),
    Lost(("flaubert", "xlm"), ("checkpoint",), r"(^|\.)embeddings\.weight$", _ONE_NAME),
)


def explained(error: MismatchedSaveError, model_type: str, form: str, *, is_positional: bool) -> MismatchedSaveError:
    """The error with its cause, where TensorFlow left out weights that are missing; any other as it is.

    Args:
        error: of the weights that fit no class.
        model_type: of the configuration.
        form: the format of the save.
        is_positional: whether Keras numbered the weights; a file with names has those in lists of lists too.
    """
    missing: list[str] = error.details.get("missing") or []
    for one in LOST:
        if model_type not in one.model_types or form not in one.formats or is_positional != (one.formats is _KERAS):
            continue
        left_out = [key for key in missing if re.search(one.pattern, key)]
        if left_out:
            return MismatchedSaveError(
                error.code,
                f"TensorFlow left weights of the model out of the save: {len(left_out)}, such as {left_out[0]}",
                why=one.reason,
                do="load the model in TensorFlow where its weights still are, write it with "
                "model.save_pretrained(folder), and convert that: tf_model.h5 has all of them",
                **error.details,
            )
    return error
