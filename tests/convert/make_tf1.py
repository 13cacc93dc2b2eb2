"""Write checkpoints under the names of the original TensorFlow 1 releases, from the torch weights of `make_oracles.py`.

Runs in the environment with TensorFlow: `python tests/convert/make_tf1.py OUT`. Each gets what a training run leaves
too: a step and an optimizer's slot, which are no weights.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file

Weights = dict[str, np.ndarray]


def _leaf(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """The last part of a name as TensorFlow's layers have it, and the value as they keep it."""
    if re.search(r"LayerNorm(_1)?/(weight|bias)$", name):
        return name.replace("/weight", "/gamma").replace("/bias", "/beta"), value
    if name.endswith("_embeddings/weight"):
        return name.removesuffix("/weight"), value
    if name.endswith("/weight"):
        return name.removesuffix("weight") + "kernel", value.T
    return name, value


def bert(weights: Weights) -> Weights:
    found = {}
    for key, value in weights.items():
        name = re.sub(r"/layer/(\d+)/", r"/layer_\1/", key.replace(".", "/"))
        if name.startswith("cls/seq_relationship/"):
            found["cls/seq_relationship/output_" + ("weights" if name.endswith("weight") else "bias")] = value
        elif name == "cls/predictions/bias":
            found["cls/predictions/output_bias"] = value
        elif "/decoder/" not in name:
            changed, turned = _leaf(name, value)
            found[changed] = turned
    return found


def albert(weights: Weights) -> Weights:
    found = {}
    for key, value in weights.items():
        name = key.replace(".", "/").replace("albert/", "bert/", 1)
        if "/decoder/" in name:
            continue
        if name.startswith("sop_classifier/"):
            found["cls/seq_relationship/output_" + ("weights" if name.endswith("weight") else "bias")] = value
            continue
        if name == "predictions/bias":
            found["cls/predictions/output_bias"] = value
            continue
        for pattern, replacement in (
            (r"^predictions/", "cls/predictions/transform/"),
            (r"albert_layer_groups/(\d+)/albert_layers/(\d+)/", r"transformer/group_\1/inner_group_\2/"),
            (r"full_layer_layer_norm", "LayerNorm_1"),
            (r"attention/LayerNorm", "LayerNorm"),
            (r"ffn_output/", "ffn_1/intermediate/output/dense/"),
            (r"/ffn/", "/ffn_1/intermediate/dense/"),
            (r"/attention/(query|key|value)/", r"/attention_1/self/\1/"),
            (r"/attention/dense/", "/attention_1/output/dense/"),
            (r"/pooler/", "/pooler/dense/"),
        ):
            name = re.sub(pattern, replacement, name)
        changed, turned = _leaf(name, value)
        found[changed] = turned
    return found


def electra(weights: Weights) -> Weights:
    found = {name.replace("dense_prediction", "dense_1"): value for name, value in bert(weights).items()}
    generator = {
        name.replace("electra/", "generator/"): value + 1
        for name, value in found.items()
        if name.startswith("electra/encoder/")
    }
    return {**found, **generator}


def gpt2(weights: Weights) -> Weights:
    found = {}
    for key, value in weights.items():
        name = "model/" + re.sub(r"^h/(\d+)/", r"h\1/", key.removeprefix("transformer.").replace(".", "/"))
        if name.endswith(("wte/weight", "wpe/weight")):
            found[name.removesuffix("/weight")] = value
        elif "/ln_" in name:
            found[name.replace("/weight", "/g").replace("/bias", "/b")] = value
        elif name.endswith("/weight"):
            found[name.removesuffix("weight") + "w"] = value[None]
        else:
            found[name.removesuffix("bias") + "b"] = value
    return found


def t5(weights: Weights) -> Weights:
    found = {}
    for key, value in weights.items():
        name = re.sub(
            r"/block/(\d+)/layer/(\d+)/",
            lambda found: f"/block_{int(found[1]):03d}/layer_{int(found[2]):03d}/",
            key.replace(".", "/"),
        )
        if name == "shared/weight":
            found["shared/embedding"] = value
        elif "layer_norm" in name:
            found[name.replace("/weight", "/scale")] = value
        elif re.search(r"/w[io](_\d)?/weight$", name):
            found[name.removesuffix("weight") + "kernel"] = value.T
        elif "embed_tokens" not in name and name != "lm_head/weight":
            found[name.removesuffix("/weight")] = value.T
    return found


def xlnet(weights: Weights) -> Weights:
    found, stacked = {}, {}
    for full_key, value in weights.items():
        key = full_key.removeprefix("transformer.")
        in_layer = re.match(r"layer\.(\d+)\.rel_attn\.(r_[rws]_bias|seg_embed)$", key)
        name = "model/transformer/" + re.sub(r"^layer/(\d+)/", r"layer_\1/", key.replace(".", "/"))
        if in_layer:
            stacked.setdefault(in_layer[2], {})[int(in_layer[1])] = value
        elif key == "mask_emb":
            found[f"{name}/mask_emb"] = value
        elif key == "word_embedding.weight":
            found[name.replace("/weight", "/lookup_table")] = value
        elif key == "lm_loss.bias":
            found["model/lm_loss/bias"] = value
        elif "layer_norm" in name:
            found[name.replace("layer_norm/weight", "LayerNorm/gamma").replace("layer_norm/bias", "LayerNorm/beta")] = (
                value
            )
        elif re.search(r"rel_attn/[qkvor]$", name):
            found[f"{name}/kernel"] = value
        elif key != "lm_loss.weight":
            changed, turned = _leaf(name, value)
            found[changed] = turned
    for name, layers in stacked.items():
        found[f"model/transformer/{name}"] = np.stack([layers[number] for number in sorted(layers)])
    return found


_MADE: Mapping[str, tuple[Callable[[Weights], Weights], str]] = {
    "TFBertForPreTraining": (bert, "bert_config.json"),
    "TFAlbertForPreTraining": (albert, "albert_config.json"),
    "TFElectraForPreTraining": (electra, "config.json"),
    "TFGPT2Model": (gpt2, "config.json"),
    "TFT5ForConditionalGeneration": (t5, "config.json"),
    "TFXLNetLMHeadModel": (xlnet, "config.json"),
}


def save(folder: Path, weights: Weights) -> None:
    """Write a checkpoint as a TensorFlow 1 session does."""
    first = next(iter(weights))
    values = {**weights, "global_step": np.array(7), f"{first}/adam_m": weights[first]}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=tf.constant(value))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"))


def main() -> None:
    """Write the checkpoints of all families."""
    for name, (renamed, config_name) in _MADE.items():
        oracle, folder = Path(sys.argv[1]) / name / "oracle", Path(sys.argv[1]) / name / "tf1_ckpt"
        folder.mkdir(exist_ok=True)
        save(folder, renamed(load_file(oracle / "model.safetensors")))
        config = json.loads((oracle / "config.json").read_text())
        hidden = {"architectures"} if config_name == "config.json" else {"architectures", "model_type"}
        (folder / config_name).write_text(json.dumps({key: config[key] for key in config.keys() - hidden}))
        print("made", name, flush=True)


if __name__ == "__main__":
    main()
