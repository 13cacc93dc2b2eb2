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

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import tiny_configs

# Values under which TensorFlow's classes differ from torch's, or do not build.
_CHANGED: dict[str, dict[str, Any]] = {
    "swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "hidden_size": 32, "image_size": 32},
}


def write(name: str, out: Path) -> None:
    """Write the torch model that a TensorFlow class mirrors, with random weights and statistics."""
    counterpart = getattr(transformers, name[2:])
    config = tiny_configs.tiny_config(counterpart.config_class.model_type)
    for field, value in _CHANGED.get(config.model_type, {}).items():
        setattr(config, field, value)
    torch.manual_seed(sum(map(ord, name)))
    model = counterpart(config).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                value.normal_(0.0, 0.3)
                if key.endswith("running_var"):
                    value.abs_()
    model.tie_weights()
    model.save_pretrained(out / "oracle")


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
