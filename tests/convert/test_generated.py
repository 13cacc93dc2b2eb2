"""Every TensorFlow class that transformers 4.57.6 exports converts, from saves that `make tf-saves` wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file

from safetransformers import convert
from safetransformers.errors import MismatchedSaveError, SafeTransformersError
from safetransformers.tf.write.verify import same_bits

ROOT = Path(os.environ.get("TF_SAVES_BUILT") or Path(__file__).parents[2] / "build" / "tf-saves")
FORMATS = ("hf_h5", "keras_weights_h5", "tf_ckpt", "tf1_ckpt")
CLASSES = [file.parent.name for file in sorted(ROOT.glob("*/oracle"))]
CASES = [(name, form) for name in CLASSES for form in FORMATS if (ROOT / name / form).exists()]

_LISTS = "lists of lists, which Keras does not write"
_OVERWRITTEN = "two variables of one name"
# What does not convert, as the save lacks weights, and what the error says; a case that comes to work goes out here.
KNOWN = {
    ("TFData2VecVisionForSemanticSegmentation", "keras_weights_h5"): _LISTS,
    **{
        (name, "keras_weights_h5"): _LISTS
        for name in CLASSES
        if name.startswith(("TFFunnel", "TFSegformerF", "TFSegformerM"))
    },
    **{
        (f"TF{model}{task}", "tf_ckpt"): _OVERWRITTEN
        for task in (
            "Model",
            "ForMultipleChoice",
            "ForQuestionAnsweringSimple",
            "ForSequenceClassification",
            "ForTokenClassification",
        )
        for model in ("Flaubert", "XLM")
    },
}


@pytest.mark.skipif(not CASES, reason=f"no saves at {ROOT}: make tf-saves")
@pytest.mark.filterwarnings("ignore::safetransformers.errors.ConversionWarning")
@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_save_of_the_class_has_the_torch_weights_that_it_was_made_from(name: str, form: str, tmp_path: Path) -> None:
    cls = getattr(transformers, name[2:], None)
    if not hasattr(cls, "from_pretrained"):  # removed, or a part of another model only
        with pytest.raises(SafeTransformersError) as caught:
            convert(ROOT / name / form, tmp_path / "out", check=False)
        assert "transformers==4." in str(caught.value)
        return
    if (name, form) in KNOWN:
        with pytest.raises(MismatchedSaveError) as lost:
            convert(ROOT / name / form, tmp_path / "out", check=False)
        assert KNOWN[name, form] in lost.value.why
        return
    report = convert(ROOT / name / form, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    expected = load_file(ROOT / name / "oracle" / "model.safetensors")
    assert [key for key in written.keys() & expected.keys() if not same_bits(written[key], expected[key])] == []
    cls = getattr(transformers, report.model_class)
    loaded, info = cls.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), {kind: sorted(map(str, keys))[:3] for kind, keys in info.items() if keys}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [report.model_class]
    if form != "tf1_ckpt":
        assert report.model_class == name[2:]
        _is_as_torchs_own(loaded, ROOT / name / "oracle")


def _is_as_torchs_own(loaded: Any, oracle: Path) -> None:
    """Each weight and buffer is what the class makes of the torch weights, whatever it calls them."""
    plain, info = type(loaded).from_pretrained(oracle, output_loading_info=True)
    if info["missing_keys"]:  # transformers 5 lost the older names of Data2VecVision's heads
        assert type(loaded).__name__ == "Data2VecVisionForSemanticSegmentation"
        return
    ours, theirs = loaded.state_dict(), plain.state_dict()
    assert [key for key in theirs if not same_bits(ours[key], theirs[key])] == []
    assert ours.keys() == theirs.keys()
