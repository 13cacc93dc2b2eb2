"""Every TensorFlow class that transformers 4.57.6 exports converts, from saves that `make tf-saves` wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file

from safetransformers import convert
from safetransformers.errors import SafeTransformersError
from safetransformers.tf.write.verify import same_bits

ROOT = Path(os.environ.get("TF_SAVES_BUILT") or Path(__file__).parents[2] / "build" / "tf-saves")
FORMATS = ("hf_h5", "keras_weights_h5", "tf_ckpt", "tf1_ckpt")
CASES = [
    (file.parent.name, form)
    for file in sorted(ROOT.glob("*/oracle"))
    for form in FORMATS
    if (file.parent / form).exists()
]

# What does not convert, and why; a case that comes to work must be taken out here.
KNOWN = {
    **{
        (f"TFFunnel{task}", "keras_weights_h5"): "Keras does not save layers that lie in lists of lists"
        for task in (
            "BaseModel",
            "Model",
            "ForMaskedLM",
            "ForMultipleChoice",
            "ForPreTraining",
            "ForQuestionAnswering",
            "ForSequenceClassification",
            "ForTokenClassification",
        )
    },
    **{
        (f"TF{model}{task}", "tf_ckpt"): "TensorFlow's class overwrites its word embeddings in the checkpoint"
        for task in (
            "Model",
            "ForQuestionAnsweringSimple",
            "ForSequenceClassification",
            "ForTokenClassification",
        )
        for model in ("Flaubert", "XLM")
    },
    **{
        (f"TFSegformer{task}", "keras_weights_h5"): "Keras does not save layers that lie in lists of lists"
        for task in (
            "Model",
            "ForImageClassification",
            "ForSemanticSegmentation",
        )
    },
    ("TFEncoderDecoderModel", "keras_weights_h5"): "Keras writes two models of one class under one name",
    (
        "TFIdeficsForVisionText2Text",
        "keras_weights_h5",
    ): "its decoupled layers keep kernels as torch does, which positions do not tell",
    ("TFLxmertForPreTraining", "keras_weights_h5"): "a dictionary of heads, whose keys Keras does not write",
}


@pytest.mark.skipif(not CASES, reason=f"no saves at {ROOT}: make tf-saves")
@pytest.mark.filterwarnings("ignore::safetransformers.errors.ConversionWarning")
@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_save_of_the_class_has_the_torch_weights_that_it_was_made_from(name: str, form: str, tmp_path: Path) -> None:
    cls = getattr(transformers, name[2:], None)
    if cls is None:
        pytest.skip(f"transformers {transformers.__version__} has removed {name[2:]}")
    if (name, form) in KNOWN:
        with pytest.raises(SafeTransformersError):
            convert(ROOT / name / form, tmp_path / "out", check=False)
        return
    report = convert(ROOT / name / form, tmp_path / "out", check=False)
    written = load_file(tmp_path / "out" / "model.safetensors")
    expected = load_file(ROOT / name / "oracle" / "model.safetensors")
    assert [key for key in written.keys() & expected.keys() if not same_bits(written[key], expected[key])] == []
    if form != "tf1_ckpt":
        assert report.model_class == name[2:]
    _, info = getattr(transformers, report.model_class).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), {kind: sorted(map(str, keys))[:3] for kind, keys in info.items() if keys}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [report.model_class]
