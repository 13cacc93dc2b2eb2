"""After a conversion the model runs once on a fixed input, and TensorFlow beside it where it is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample
import saves
import torch

from safetransformers import convert
from safetransformers.errors import ConversionError, ConversionWarning
from safetransformers.tf.write import forward

PYTHON = Path(os.environ.get("TF_PYTHON") or Path(__file__).parents[2] / "build" / "tf" / "bin" / "python")
NO_TENSORFLOW = "no interpreter with TensorFlow: make tf-saves, or TF_PYTHON"


@pytest.fixture
def save(tmp_path: Path) -> Path:
    return saves.tf_model(tmp_path / "save", saves.model())


def test_a_small_model_runs_once_and_the_report_says_so(save: Path, tmp_path: Path) -> None:
    report = convert(save, tmp_path / "out")
    assert "one forward in torch" in report.forward and ": finite" in report.forward and report.is_finite
    assert report.forward in str(report) and report.to_dict()["forward"] == report.forward


def test_a_large_model_runs_only_when_it_is_asked_for(
    save: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "CHEAP_PARAMETERS", 10)
    assert convert(save, tmp_path / "quick").forward == ""
    assert "one forward" in convert(save, tmp_path / "asked", forward=True).forward


def test_who_wants_no_forward_gets_none(save: Path, tmp_path: Path) -> None:
    assert convert(save, tmp_path / "out", forward=False).forward == ""
    assert convert(save, tmp_path / "unchecked", check=False).forward == ""


def test_outputs_that_are_no_numbers_are_a_warning(tmp_path: Path) -> None:
    model = saves.model()
    with torch.no_grad():
        model.classifier.bias[0] = torch.inf
    with pytest.warns(ConversionWarning, match="outputs of a run in torch"):
        report = convert(saves.tf_model(tmp_path / "save", model), tmp_path / "out")
    assert not report.is_finite


def test_a_folder_that_would_load_with_random_weights_is_not_left(
    save: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertForSequenceClassification

    real = BertForSequenceClassification.from_pretrained

    def lacking(*args: Any, **kwargs: Any) -> Any:
        model, info = real(*args, **kwargs)
        return model, {**info, "missing_keys": {"classifier.weight"}}

    monkeypatch.setattr(BertForSequenceClassification, "from_pretrained", lacking)
    with pytest.raises(ConversionError, match="1 random weights"):
        convert(save, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["save"]


@pytest.mark.parametrize("name", sorted(sample.metas()))
@pytest.mark.filterwarnings("ignore::safetransformers.errors.ConversionWarning")
def test_each_kind_of_model_is_given_an_input_that_it_takes(name: str, tmp_path: Path) -> None:
    report = convert(sample.unpack(sample.folder(name) / "f.hf_h5.tar.xz", tmp_path / "save"), tmp_path / "out")
    assert "one forward in torch" in report.forward and report.is_finite


def test_the_difference_is_the_largest_of_the_scale_over_outputs_of_equal_shape() -> None:
    outputs = {"a": np.array([1.0, 2.0]), "b": np.zeros(3), "c": np.ones(2)}
    expected = {"a": np.array([1.0, 4.0]), "b": np.array([0.0, 0.0, 1.0]), "c": np.ones(5), "d": np.ones(1)}
    assert forward.max_difference(outputs, expected) == 1.0
    assert forward.max_difference({"a": outputs["a"]}, expected) == 0.5
    assert forward.max_difference({"c": outputs["c"]}, expected) is None


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_an_output_that_is_no_number_is_the_largest_difference_wherever_it_stands(order: tuple[str, str]) -> None:
    expected = {key: np.ones(2) for key in order}
    assert forward.max_difference({**expected, "a": np.array([1.0, np.nan])}, expected) == np.inf


@pytest.mark.parametrize("outputs", [{}, {"logits": np.zeros(99)}, "nan"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_outputs_of_tensorflow_that_say_nothing_are_a_warning(
    outputs: Any, dtype: str, save: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tensorflow(*_: Any) -> tuple[Any, str]:
        return ({"logits": np.full((1, 3), np.nan)} if outputs == "nan" else outputs), ""

    monkeypatch.setattr(forward, "_tensorflow", tensorflow)
    with pytest.warns(ConversionWarning, match="differ by inf" if outputs == "nan" else "nothing was compared"):
        report = convert(save, tmp_path / "out", dtype=dtype)
    assert report.max_difference in (None, np.inf)


def test_an_interpreter_without_tensorflow_is_refused_and_nothing_is_written(save: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="ST-TF-012") as caught:
        convert(save, tmp_path / "out", tensorflow=tmp_path / "no" / "python")
    assert "--tensorflow" in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["save"]


@pytest.mark.skipif(not PYTHON.exists(), reason=NO_TENSORFLOW)
@pytest.mark.skipif(not sample.metas(), reason=sample.MISSING)
@pytest.mark.parametrize("name", ["TFBertModel", "TFT5ForConditionalGeneration", "TFViTForImageClassification"])
def test_the_outputs_are_tensorflows_own(name: str, tmp_path: Path) -> None:
    save = sample.unpack(sample.folder(name) / "f.hf_h5.tar.xz", tmp_path / "save")
    report = convert(save, tmp_path / "out", tensorflow=PYTHON)
    assert report.max_difference is not None and 0 <= report.max_difference <= 1e-4
    assert "from TensorFlow's" in str(report)


@pytest.mark.skipif(not PYTHON.exists(), reason=NO_TENSORFLOW)
def test_a_model_that_computes_something_else_than_tensorflow_is_a_warning(save: Path, tmp_path: Path) -> None:
    config = (save / "config.json").read_text().replace('"gelu"', '"relu"')
    (tmp_path / "other.json").write_text(config)
    with pytest.warns(ConversionWarning, match="torch and TensorFlow differ"):
        report = convert(save, tmp_path / "out", tensorflow=PYTHON, config=tmp_path / "other.json")
    assert report.max_difference is not None and report.max_difference > 1e-4
