"""Every save of the sample converts, loads with its Auto class, and gives TensorFlow's own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample
import torch
import transformers
from safetensors.torch import load_file

from safetransformers import ConversionReport, convert
from safetransformers.errors import ConversionWarning
from safetransformers.tf.write.verify import same_bits

pytestmark = [
    pytest.mark.skipif(not sample.metas(), reason=sample.MISSING),
    pytest.mark.filterwarnings("ignore::safetransformers.errors.ConversionWarning"),
]

# What no weight and no graph says, where the tiny models of the sample differ from the defaults.
_ONLY_A_CONFIG_SAYS = {
    ("TFAlbertForMaskedLM", "weights_h5_noconfig"): "num_hidden_layers",
    ("TFBartForConditionalGeneration", "weights_h5_noconfig"): "decoder_attention_heads",
    ("TFWhisperForConditionalGeneration", "weights_h5_noconfig"): "decoder_attention_heads",
    ("TFT5ForConditionalGeneration", "weights_h5_noconfig"): "T5Config",
    ("TFT5ForConditionalGeneration", "tf_savedmodel_noconfig"): "T5Config",
    ("TFT5Model", "weights_h5_noconfig"): "T5Config",
    ("TFT5Model", "tf_savedmodel_noconfig"): "T5Config",
}


@pytest.mark.parametrize(("name", "form"), sample.cases())
def test_a_save_of_the_sample_is_the_same_model_in_torch(name: str, form: str, tmp_path: Path) -> None:
    meta = sample.metas()[name]
    save = sample.unpack(sample.folder(name) / f"f.{form}.tar.xz", tmp_path / "save")
    report = convert(save, tmp_path / "torch")
    written = load_file(tmp_path / "torch" / "model.safetensors")
    expected = load_file(sample.folder(name) / "oracle" / "model.safetensors")
    assert written.keys() == expected.keys()
    assert [key for key in written if not same_bits(written[key], expected[key])] == []
    assert report.verified == report.tensors == len(expected) and not report.unused
    assert meta["auto_class"] in report.auto_classes
    for sidecar in meta["formats"][form].get("sidecars", ()):
        assert (tmp_path / "torch" / sidecar).read_bytes() == (save / sidecar).read_bytes()
    model, info = getattr(transformers, meta["auto_class"]).from_pretrained(
        tmp_path / "torch", output_loading_info=True
    )
    assert not any(info.values()), info
    if (name, form) in _ONLY_A_CONFIG_SAYS:
        assert any(_ONLY_A_CONFIG_SAYS[name, form] in field for field in report.assumed)
        return
    _compare(name, model)


def _compare(name: str, model: Any) -> None:
    saved = np.load(sample.folder(name) / "expected.npz")
    inputs = {key[3:]: torch.from_numpy(saved[key]) for key in saved.files if key.startswith("in/")}
    with torch.no_grad():
        outputs = model.eval()(**inputs)
    compared = 0
    for key in (key for key in saved.files if key.startswith("out/")):
        value = outputs
        for part in key[4:].split("."):
            value = value[part]
        if value.shape != saved[key].shape:  # transformers 5 projects the pooled outputs inside CLIP
            assert name == "TFCLIPModel" and key.endswith("pooler_output")
            continue
        assert np.abs(value.numpy() - saved[key]).max() <= 1e-4 * np.abs(saved[key]).max()
        compared += 1
    assert compared


def test_what_a_save_without_a_configuration_does_not_say_is_told(tmp_path: Path) -> None:
    save = sample.unpack(sample.folder("TFBertModel") / "f.weights_h5_noconfig.tar.xz", tmp_path / "save")
    with pytest.warns(ConversionWarning, match="num_attention_heads=4"):
        report: ConversionReport = convert(save, tmp_path / "torch")
    assert report.assumed["num_attention_heads"] == 4
