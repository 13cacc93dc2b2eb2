"""Write tiny torch models of every class that has a TensorFlow counterpart in transformers 4.57.6, for `make_saves.py`.

Runs on transformers 4.57 with torch: `python tests/convert/make_oracles.py NAMES.json OUT`, where NAMES.json lists the
TensorFlow classes (`make_saves.py --names`). A process of its own: TensorFlow 2.19 and torch 2.13 do not share one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from safetransformers.testing.configs import tiny_config

# Values under which TensorFlow's classes differ from torch's, or do not build. A dot leads into a part.
_CHANGED: dict[str, dict[str, Any]] = {
    "blip": {"vision_config.num_channels": 3},
    "blip_vision_model": {"num_channels": 3},
    "convnext": {"image_size": 64},
    "convnextv2": {"image_size": 64},
    "cvt": {"image_size": 64},
    "data2vec-vision": {"num_hidden_layers": 4, "out_indices": [0, 1, 2, 3]},
    "efficientformer": {
        "depths": [1, 1, 1, 2],
        "hidden_size": 32,
        "hidden_sizes": [8, 16, 16, 32],
        "dim": 32,
        "resolution": 2,
        "image_size": 64,
    },
    "flaubert": {"initializer_range": 0.02},
    "sam": {"prompt_encoder_config.hidden_size": 64, "vision_config.num_pos_feats": 32},
    "swin": {
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "num_layers": 2,
        "hidden_size": 32,
        "image_size": 32,
        "window_size": 4,
        "stage_names": ["stem", "stage1", "stage2"],
        "_out_features": ["stage2"],
        "_out_indices": [2],
    },
    "transfo-xl": {"div_val": 2},
    "xlm": {"initializer_range": 0.02},
}
# Types that are part of another only, and types that are made of others.
_PARTS: dict[str, tuple[str, str]] = {
    "blip_text_model": ("blip", "text_config"),
    "blip_vision_model": ("blip", "vision_config"),
    "groupvit_text_model": ("groupvit", "text_config"),
    "groupvit_vision_model": ("groupvit", "vision_config"),
}
_WHOLES: dict[str, dict[str, str]] = {
    "rag": {"question_encoder": "dpr", "generator": "bart"},
    "vision-encoder-decoder": {"encoder": "vit", "decoder": "gpt2"},
}


def _config(model_type: str) -> Any:
    if model_type in _PARTS:
        whole, part = _PARTS[model_type]
        config = getattr(tiny_config(whole), part)
    elif model_type in _WHOLES:
        parts = {name: tiny_config(one).to_dict() for name, one in _WHOLES[model_type].items()}
        if "decoder" in parts:
            parts["decoder"] |= {"is_decoder": True, "add_cross_attention": True}
        config = transformers.AutoConfig.for_model(model_type, **parts)
    else:
        config = tiny_config(model_type)
    for field, value in _CHANGED.get(model_type, {}).items():
        *levels, name = field.split(".")
        inside = config
        for level in levels:
            inside = getattr(inside, level)
        setattr(inside, name, value)
    return config


def write(name: str, out: Path) -> None:
    """Write the torch model that a TensorFlow class mirrors, with random weights and statistics."""
    counterpart = getattr(transformers, name[2:])
    config = _config(counterpart.config_class.model_type)
    torch.manual_seed(sum(map(ord, name)))
    model = counterpart(config).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point() and not key.endswith(".inv_freq"):  # frequencies: TensorFlow computes them
                value.normal_(0.0, 0.3)
                if key.endswith("running_var"):
                    value.abs_()
    model.tie_weights()
    model.save_pretrained(out / "oracle")
    state = model.state_dict(keep_vars=True)
    saved = load_file(out / "oracle" / "model.safetensors")
    owners = {id(value): key for key, value in state.items() if key in saved}
    ties = {key: owners[id(value)] for key, value in state.items() if owners.get(id(value), key) != key}
    (out / "oracle" / "ties.json").write_text(json.dumps(ties))


def main() -> None:
    """Write the models of all classes named in the file."""
    names, root = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    failed = {}
    for name in names:
        try:
            if not (root / name / "oracle").exists():
                write(name, root / name)
        except Exception as error:  # noqa: BLE001 - a class that its own library cannot make is listed
            failed[name] = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
    (root / "failed_oracles.json").write_text(json.dumps(failed, indent=1))
    print(len(names) - len(failed), "models;", len(failed), "failed")


if __name__ == "__main__":
    main()
