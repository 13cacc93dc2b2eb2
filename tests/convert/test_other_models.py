"""Models beside BERT: names without a scope, types that no Auto class knows, and inputs that a class insists on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import saves
import torch
import transformers
from safetensors.torch import load_file

from safetransformers import convert
from safetransformers.errors import UnknownSaveError
from safetransformers.testing import tiny_config
from safetransformers.tf.write.verify import same_bits


def _save(folder: Path, model: Any, renamed: dict[str, str] | None = None) -> Path:
    """A `tf_model.h5` of any model, some of its variables under other names, and its configuration."""
    model.save_pretrained(folder)
    weights = folder / "model.safetensors"  # the keys of a checkpoint, which transformers 5 renames as it loads them
    named = saves.variables(model, load_file(weights))
    weights.unlink()
    saves.h5(folder / "tf_model.h5", {(renamed or {}).get(name, name): value for name, value in named.items()})
    return folder


def _random(model: Any) -> Any:
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.normal_()
    return model.eval()


@pytest.mark.parametrize(("name", "scope"), [("RagModel", ""), ("RagTokenForGeneration", "rag.")])
def test_the_bias_of_rags_generator_has_no_scope(name: str, scope: str, tmp_path: Path) -> None:
    parts = {"question_encoder": tiny_config("dpr").to_dict(), "generator": tiny_config("bart").to_dict()}
    config = transformers.RagConfig(**parts)
    model = _random(getattr(transformers, name)(config))
    key = f"{scope}generator.final_logits_bias"
    tf_name = f"tf_{'rag_model' if name == 'RagModel' else 'rag_token_for_generation'}/{key.replace('.', '/')}"
    report = convert(_save(tmp_path / "save", model, {tf_name: "final_logits_bias"}), tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert report.unused == () and same_bits(written[key], model.state_dict()[key])


@pytest.mark.parametrize("part", ["text", "vision"])
def test_a_part_of_a_model_is_known_by_its_class_where_no_auto_class_knows_its_type(part: str, tmp_path: Path) -> None:
    config = getattr(tiny_config("blip"), f"{part}_config")
    model = _random(getattr(transformers, f"Blip{part.title()}Model")(config))
    report = convert(_save(tmp_path / "save", model), tmp_path / "out")
    assert report.model_class == type(model).__name__
    _, info = type(model).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())


class _Dummy(type):
    """As transformers' own stand-in for a class whose package is missing."""

    def __getattr__(cls, name: str) -> Any:
        raise ImportError(name)


def test_an_unknown_type_is_an_error_where_its_architecture_needs_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers, "UnheardModel", _Dummy("UnheardModel", (), {}), raising=False)
    save = saves.tf_model(tmp_path / "save", saves.model())
    (save / "config.json").write_text('{"model_type": "unheard", "architectures": ["UnheardModel"]}')
    with pytest.raises(UnknownSaveError, match="'unheard'"):
        convert(save, tmp_path / "out")


def test_what_a_model_asserts_of_the_made_up_input_says_nothing_of_the_weights(tmp_path: Path) -> None:
    model = _random(transformers.LongformerForQuestionAnswering(tiny_config("longformer")))
    report = convert(_save(tmp_path / "save", model), tmp_path / "out")
    assert "no forward was run: AssertionError: There should be exactly three separator tokens" in report.forward


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("BertForMultipleChoice", "bert"),
        ("BartForSequenceClassification", "bart"),
        ("BlipForQuestionAnswering", "blip"),
        ("LayoutLMv3Model", "layoutlmv3"),
        ("Speech2TextModel", "speech_to_text"),
    ],
)
def test_a_class_gets_the_input_that_it_wants(name: str, model_type: str, tmp_path: Path) -> None:
    model = _random(getattr(transformers, name)(tiny_config(model_type)))
    assert "one forward in torch" in convert(_save(tmp_path / "save", model), tmp_path / "out").forward


def test_a_composite_gets_the_input_of_its_encoder_and_its_decoder(tmp_path: Path) -> None:
    parts = [tiny_config("vit"), tiny_config("bert")]
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    model = _random(transformers.VisionEncoderDecoderModel(config))
    assert "one forward in torch" in convert(_save(tmp_path / "save", model), tmp_path / "out").forward
