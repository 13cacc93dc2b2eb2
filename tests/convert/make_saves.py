"""Write saves of every TensorFlow class that transformers 4.57.6 exports, from the torch weights they must turn into.

Runs in an environment with TensorFlow (`make tf-saves`), writes one folder a class, and is no test itself:

    python tests/convert/make_saves.py --names NAMES.json     # the classes
    python tests/convert/make_saves.py OUT [CLASS ...]        # after make_oracles.py wrote OUT/CLASS/oracle

Transformers' own code loads the torch weights into each TensorFlow class; what it cannot is in `failed_saves.json`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import tensorflow as tf
import transformers
from safetensors.numpy import load_file
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

_NOT_A_MODEL = re.compile(r"Pre[tT]rained|MainLayer$|^TFAuto")
# Their forward needs a further package, or inputs that they do not describe; they build without.
_NOT_RUN = {
    "TFRagModel",
    "TFRagSequenceForGeneration",
    "TFRagTokenForGeneration",
    "TFSegformerDecodeHead",
    "TFTapasForQuestionAnswering",
}


def tensorflow_classes() -> list[str]:
    """The names of all TensorFlow models."""
    found = []
    for name in dir(transformers):
        if name.startswith("TF") and not _NOT_A_MODEL.search(name):
            cls = getattr(transformers, name)
            if isinstance(cls, type) and issubclass(cls, transformers.TFPreTrainedModel):
                found.append(name)
    return found


def write(name: str, out: Path) -> None:
    """Write the saves of one class."""
    cls = getattr(transformers, name)
    made = cls(cls.config_class.from_pretrained(out / "oracle"))
    made.build_in_name_scope()
    weights = load_file(out / "oracle" / "model.safetensors")
    ties = json.loads((out / "oracle" / "ties.json").read_text())  # torch leaves them out, TensorFlow has them twice
    weights |= {key: weights[owner] for key, owner in ties.items()}
    for key in [key for key in weights if key.endswith(".final_logits_bias")]:  # RAG's class leaves the scope out
        weights["final_logits_bias"] = weights[key]
    _, info = load_pytorch_state_dict_in_tf2_model(
        made,
        weights,
        tf_inputs=() if name in _NOT_RUN else None,
        allow_missing_keys=True,
        output_loading_info=True,
        tf_to_pt_weight_rename=getattr(made, "tf_to_pt_weight_rename", None),
    )
    missing = [key for key in info["missing_keys"] if not key.endswith("embed_positions.weight")]  # sinusoids: computed
    if missing:
        raise ValueError(f"the torch model has no weights for {missing[:3]}")
    made.save_pretrained(out / "hf_h5")
    for form, kwargs in (("keras_weights_h5", {}), ("tf_ckpt", {"save_format": "tf"})):
        (out / form).mkdir(exist_ok=True)
        shutil.copy(out / "oracle" / "config.json", out / form)
        made.save_weights(str(out / form / ("weights" if kwargs else "model.weights.h5")), **kwargs)
    note = {
        "tf_class": name,
        "pt_class": name[2:],
        "info": {key: sorted(map(str, value)) for key, value in info.items()},
    }
    (out / "meta.json").write_text(json.dumps(note, indent=1))


def main() -> None:
    """Write the classes named on the command line, or all; or list them."""
    if sys.argv[1] == "--names":
        Path(sys.argv[2]).write_text(json.dumps(tensorflow_classes()))
        return
    root = Path(sys.argv[1])
    failed = {}
    for name in sys.argv[2:] or sorted(folder.name for folder in root.iterdir() if (folder / "oracle").is_dir()):
        if (root / name / "meta.json").exists():
            continue
        try:
            write(name, root / name)
            print("made", name, flush=True)
        except Exception as error:  # noqa: BLE001 - a class that its own library cannot load is listed
            failed[name] = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
            print("FAILED", name, failed[name], flush=True)
        tf.keras.backend.clear_session()
    (root / "failed_saves.json").write_text(json.dumps(failed, indent=1))


if __name__ == "__main__":
    main()
