"""Write functional Keras models that wrap a TensorFlow model below layers of their own, and what they give.

Runs in an environment with TensorFlow (`make tf-saves`), and is no test itself:

    python tests/convert/make_heads.py OUT
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
import transformers

_SMALL = {
    "vocab_size": 67,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 34,
}
_DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 20}
_LENGTH = 8


def _layers() -> Any:
    return tf.keras.layers


def _deep(outputs: Any, activation: str) -> Any:
    inner = _layers().Dense(16, activation=activation)(outputs.last_hidden_state[:, 0])
    return _layers().Dense(3)(_layers().Dropout(0.2)(inner))


def _pooled(outputs: Any) -> Any:
    return _layers().Dense(3, activation="softmax")(_layers().Dropout(0.1)(outputs.pooler_output))


CASES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "bert_pooled": ("TFBertModel", "BertConfig", _pooled),
    "bert_first_token": ("TFBertModel", "BertConfig", lambda out: _layers().Dense(3)(out.last_hidden_state[:, 0, :])),
    "bert_tokens": ("TFBertModel", "BertConfig", lambda out: _layers().Dense(5)(out.last_hidden_state)),
    "albert_pooled": ("TFAlbertModel", "AlbertConfig", _pooled),
    "distilbert_deep": ("TFDistilBertModel", "DistilBertConfig", lambda out: _deep(out, "relu")),
    "roberta_deep": ("TFRobertaModel", "RobertaConfig", lambda out: _deep(out, "tanh")),
    "electra_deep": ("TFElectraModel", "ElectraConfig", lambda out: _deep(out, "gelu")),
}


def write(name: str, folder: Path) -> None:
    """Write one model as an archive, as a whole-model h5 and as a SavedModel, with inputs and outputs."""
    cls, config, head = CASES[name]
    sizes = _DISTILBERT | {"vocab_size": 67} if config == "DistilBertConfig" else _SMALL | {"embedding_size": 16}
    tf.random.set_seed(0)
    inner = getattr(transformers, cls)(getattr(transformers, config)(**sizes))
    ids = tf.keras.Input((_LENGTH,), dtype="int32", name="input_ids")
    mask = tf.keras.Input((_LENGTH,), dtype="int32", name="attention_mask")
    model = tf.keras.Model(inputs=[ids, mask], outputs=head(inner(ids, attention_mask=mask)))
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    model.save(folder / "model.h5", save_format="h5")
    model.save(folder / "saved", save_format="tf")
    tokens = np.random.default_rng(0).integers(3, 60, (2, _LENGTH)).astype("int32")
    outputs = model.predict([tokens, np.ones_like(tokens)], verbose=0)
    np.savez(folder / "expected.npz", input_ids=tokens, outputs=outputs)


def main() -> None:
    """Write the models that are not there yet."""
    for name in CASES:
        folder = Path(sys.argv[1]) / name
        if not (folder / "expected.npz").exists():
            write(name, folder)


if __name__ == "__main__":
    main()
