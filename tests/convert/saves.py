"""Saves as TensorFlow and Keras write them, made from a torch model without TensorFlow: small, whole, and to be broken.

The real ones, which TensorFlow wrote, are the sample's (`sample.py`) and those of `make tf-saves`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import msgpack
import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from safetransformers.tf.match.classes import snake

CONFIG = {
    "vocab_size": 67,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 34,
    "num_labels": 3,
    "architectures": ["BertForSequenceClassification"],
}


def model() -> BertForSequenceClassification:
    """A tiny BERT with random weights."""
    return BertForSequenceClassification(BertConfig(**CONFIG)).eval()


def variables(torch_model: torch.nn.Module, weights: Mapping[str, torch.Tensor] | None = None) -> dict[str, np.ndarray]:
    """A model's weights, or these of it, under the names and in the orientation of TensorFlow's class."""
    found = {}
    scope = snake(f"TF{type(torch_model).__name__}")
    for key, value in (weights or torch_model.state_dict()).items():
        name, array = key.replace(".", "/"), value.numpy()
        if "LayerNorm" in name:
            name = name.replace("LayerNorm/weight", "LayerNorm/gamma").replace("LayerNorm/bias", "LayerNorm/beta")
        elif name.endswith("_embeddings/weight"):
            name = name.removesuffix("weight") + "embeddings"
        elif name.endswith("/weight"):
            name, array = name.removesuffix("weight") + "kernel", array.T
        found[f"{scope}/{name}".replace("/layer/", "/layer_._")] = np.ascontiguousarray(array)
    return found


def config(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    BertConfig(**{**CONFIG, **changes}).save_pretrained(folder)


def h5(file: Path, named: Mapping[str, np.ndarray], model_config: Any = None) -> None:
    """A `tf_model.h5`, or with a Keras configuration a whole-model file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as opened:
        if model_config is not None:
            opened.attrs["model_config"] = json.dumps(model_config)
        root = opened if model_config is None else opened.create_group("model_weights")
        groups: dict[str, list[str]] = {}
        for name in named:
            groups.setdefault(name.split("/")[1] if name.startswith("tf_") else name.split("/")[0], []).append(name)
        root.attrs["layer_names"] = list(groups)
        for group, names in groups.items():
            inside = root.create_group(group)
            inside.attrs["weight_names"] = [f"{name}:0" for name in names]
            for name in names:
                inside.create_dataset(f"{name}:0", data=named[name])


def tf_model(folder: Path, torch_model: torch.nn.Module) -> Path:
    """A folder with `tf_model.h5` and `config.json`."""
    config(folder)
    h5(folder / "tf_model.h5", variables(torch_model))
    return folder


def keras_archive(file: Path, keras_config: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """A `.keras` archive; its tensors by path."""
    data = io.BytesIO()
    with h5py.File(data, "w") as opened:
        for path, value in tensors.items():
            opened.create_dataset(path, data=value)
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(keras_config))
        archive.writestr("model.weights.h5", data.getvalue())


def flax(file: Path, torch_model: torch.nn.Module) -> None:
    """A `flax_model.msgpack`."""
    flax_tree(file, variables(torch_model))


def flax_tree(file: Path, named: Mapping[str, np.ndarray]) -> None:
    """The tree that Flax makes of variables under TensorFlow's names."""
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *levels, leaf = name.replace("layer_._", "layer/").split("/")[1:]
        node = tree
        for level in levels:
            node = node.setdefault(level, {})
        node[{"gamma": "scale", "beta": "bias", "embeddings": "embedding"}.get(leaf, leaf)] = msgpack.ExtType(
            1, msgpack.packb((value.shape, value.dtype.name, value.tobytes()))
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgpack.packb(tree))


def checkpoint(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A checkpoint as TensorFlow 1 writes it: an index of names, and the values; no graph of objects."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = b""
    entries = {b"": _field(1, 1) + _field(3, _field(1, 1))}
    for name, value in sorted(tensors.items()):
        raw = value.tobytes()
        shape = b"".join(_field(2, _field(1, extent)) for extent in value.shape)
        entries[name.encode()] = (
            _field(1, {"float32": 1, "int64": 9}[value.dtype.name])
            + _field(2, shape)
            + _field(4, len(data))
            + _field(5, len(raw))
            + bytes([6 << 3 | 5])
            + _masked(raw).to_bytes(4, "little")
        )
        data += raw
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    prefix.with_name(f"{prefix.name}.index").write_bytes(_table(entries))


def _table(entries: Mapping[bytes, bytes]) -> bytes:
    block = _block(entries)
    handle = _varint(0) + _varint(len(block) - 5)
    index = _block({max(entries): handle})
    footer = _varint(0) + _varint(0) + _varint(len(block)) + _varint(len(index) - 5)
    return block + index + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def _block(entries: Mapping[bytes, bytes]) -> bytes:
    body = b"".join(
        _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value for key, value in sorted(entries.items())
    )
    body += (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\0"
    return body + _masked(body).to_bytes(4, "little")


def _masked(data: bytes) -> int:
    value = google_crc32c.value(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
