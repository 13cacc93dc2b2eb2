"""Run the converted model once on a fixed input, and TensorFlow's own on the same where it is installed."""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ... import compat
from ...errors import ConversionError
from ...notices import relative
from ...quiet import no_bars
from ..read.sources import SHARDS, WEIGHTS, Save
from ..read.tensors import Array

if TYPE_CHECKING:
    import torch

CHEAP_PARAMETERS: Final = 32_000_000
"""Up to so many the forward runs by default: a model of 23 million took 0.2 s with its load, one of 110 million 2 s."""

_TIME_OUT_S: Final = 600
_SCRIPT: Final = Path(__file__).with_name("run_tensorflow.py")
_TOKENS: Final = 8
_CHOICES: Final = 2
_FRAMES: Final = 32
_SAMPLES: Final = 16_000  # one second of sound
_IMAGE_SIZE: Final = 224  # pixels, where the configuration has none: such models take any


@dataclass(frozen=True)
class Forward:
    """What a run of the model gave.

    Attributes:
        text: for people, also why something was not run.
        max_difference: of torch's and TensorFlow's outputs, divided by the largest of TensorFlow's.
        is_finite: no output is NaN or infinite.
        has_no_match: TensorFlow ran, and no output of it has the name and the shape of one of torch's.
    """

    text: str
    max_difference: float | None = None
    is_finite: bool = True
    has_no_match: bool = False


def run(folder: Path, name: str, save: Save, python: str | None) -> Forward:
    """Load a written folder with its class and run it once; then TensorFlow, where it is installed and reads the save.

    Costs the model in memory and one forward; TensorFlow runs in a process of its own, for about 10 s.

    Args:
        folder: that was written.
        name: of the torch class.
        save: that was converted.
        python: an interpreter that has TensorFlow and transformers 4; ``None`` looks into this one.

    Raises:
        ConversionError: where the folder lacks weights of the class, or TensorFlow was asked for and does not run.
    """
    import torch
    import transformers

    start_s = time.perf_counter()
    with no_bars():
        model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    lacking = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in info.get(kind) or ())
    if lacking:
        raise ConversionError(
            "ST-TF-009",
            f"the converted folder does not load whole: {name} would have {len(lacking)} random weights",
            why=f"the first is {lacking[0]}",
            do="report it with the config.json of the save; --no-forward skips this load",
        )
    try:
        inputs = _inputs(model)
        if inputs is None:
            return Forward(f"no forward was run, as what {name} takes is not known here")
        with torch.no_grad():
            outputs = _arrays(model(**inputs))
    except Exception as error:  # noqa: BLE001 - the input is made up: what the model says of it says nothing of weights
        return Forward(f"no forward was run: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
    is_finite = all(bool(np.isfinite(value).all()) for value in outputs.values())
    text = f"one forward in torch, {time.perf_counter() - start_s:.1f} s: {'finite' if is_finite else 'not finite'}"
    found, why = _tensorflow(save, name, {key: value.numpy() for key, value in inputs.items()}, python)
    if found is None:
        return Forward(f"{text}; TensorFlow was not run, {why}", is_finite=is_finite)
    difference = max_difference(outputs, found)
    if difference is None:
        return Forward(f"{text}; TensorFlow ran, and none of its outputs could be compared", None, is_finite, True)
    return Forward(f"{text}; {difference:.1e} of the scale from TensorFlow's", difference, is_finite)


def max_difference(outputs: Mapping[str, Array], expected: Mapping[str, Array]) -> float | None:
    """The largest difference of the outputs that both have in the same shape, divided by the largest expected value.

    ``None`` where there is no such output, and infinity where one of the two is not a number.
    """
    same = [key for key in outputs.keys() & expected.keys() if outputs[key].shape == expected[key].shape]
    scales = {key: float(np.abs(expected[key]).max(initial=0.0)) or 1.0 for key in same}
    found = [float(np.abs(outputs[key] - expected[key]).max(initial=0.0)) / scales[key] for key in same]
    # NaN is smaller and larger than nothing: what max() makes of it depends on where it stands.
    return max((value if np.isfinite(value) else np.inf for value in found), default=None)


def _inputs(model: Any) -> dict[str, torch.Tensor] | None:
    """A small input for whatever a model takes first: tokens, an image, sound or its features; always the same."""
    import torch

    config: Any = model.config
    name = type(model).__name__
    takes = inspect.signature(model.forward).parameters
    text, vision = _part(config, "text_config"), _part(config, "vision_config")
    found: dict[str, torch.Tensor] = {}
    if "input_ids" in takes and _has_tokens(text):
        found["input_ids"] = (torch.arange(_TOKENS)[None] + 3) % text.vocab_size
        eos = getattr(text, "eos_token_id", None)
        if isinstance(eos, int) and eos < text.vocab_size:
            found["input_ids"][0, -1] = eos  # CLIP and BART pool there
        if name.endswith("ForMultipleChoice"):
            found["input_ids"] = found["input_ids"].repeat(1, _CHOICES, 1)
    if "pixel_values" in takes:
        size = getattr(vision, "image_size", getattr(vision, "input_size", _IMAGE_SIZE))
        height, width = size if isinstance(size, list | tuple) else (size, size)
        shape = (1, getattr(vision, "num_channels", 3), height, width)
        found["pixel_values"] = _wave(shape)
    if "input_features" in takes and hasattr(config, "num_mel_bins"):
        found["input_features"] = _wave((1, config.num_mel_bins, 2 * getattr(config, "max_source_positions", 1500)))
    elif "input_features" in takes and hasattr(config, "input_feat_per_channel"):
        found["input_features"] = _wave((1, _FRAMES, config.input_feat_per_channel * config.input_channels))
    if "input_values" in takes:
        found["input_values"] = _wave((1, _SAMPLES))
    target = next(filter(_has_tokens, (_part(config, "decoder"), text)), None)
    if "decoder_input_ids" in takes and target is not None and not name.endswith("ForSequenceClassification"):
        found["decoder_input_ids"] = torch.arange(4)[None] % target.vocab_size  # a classifier makes its own
    return found or None


def _part(config: Any, name: str) -> Any:
    """The configuration of a part of a model, under the field's name or as a composite's encoder; else the whole."""
    parts = (getattr(config, field, None) for field in (name, "encoder"))
    return next((part for part in parts if isinstance(part, compat.config_base())), config)


def _has_tokens(config: Any) -> bool:
    return isinstance(getattr(config, "vocab_size", None), int)  # a composite's may be None


def _wave(shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    count = int(np.prod(shape))
    return torch.sin(torch.arange(count, dtype=torch.float32)).reshape(shape)


def _arrays(outputs: Any) -> dict[str, Array]:
    """The outputs that are tensors of floating point numbers, by name."""
    import torch

    tensors = ((key, value) for key, value in outputs.items() if isinstance(value, torch.Tensor))
    return {key: value.float().numpy() for key, value in tensors if value.is_floating_point()}


def _tensorflow(
    save: Save, name: str, inputs: dict[str, Array], python: str | None
) -> tuple[dict[str, Array] | None, str]:
    """TensorFlow's outputs; or ``None``, and why there are none."""
    import transformers

    if save.weights[0].name != WEIGHTS and (save.index is None or save.index.name != SHARDS):
        return None, f"as transformers reads no {save.format} of this kind with it"
    if not (save.folder / "config.json").is_file():
        return None, "as the save has no config.json"
    is_here = importlib.util.find_spec("tensorflow") is not None and transformers.__version__.startswith("4.")
    if python is None and not is_here:
        return None, "as it is not installed"
    with tempfile.TemporaryDirectory() as scratch:
        given, result = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        narrow = {key: value.astype("int32") if "int" in value.dtype.name else value for key, value in inputs.items()}
        np.savez(given, allow_pickle=False, **narrow)
        arguments = [str(save.folder.resolve()), f"TF{name}", str(given), str(result)]
        reason = _failure([python or sys.executable, str(_SCRIPT), *arguments])
        if not reason:
            with np.load(result) as found:
                return dict(found), ""
    if python is not None:
        raise ConversionError(
            "ST-TF-012",
            "TensorFlow could not run the save",
            why=reason.replace(str(save.folder.resolve()), relative(save.folder)),
            do="give an interpreter that has TensorFlow and transformers 4: --tensorflow /path/to/bin/python",
        )
    return None, f"as it failed: {reason.replace(str(save.folder.resolve()), relative(save.folder))}"


def _failure(command: list[str]) -> str:
    """Run a command; why it failed, or nothing."""
    try:
        done = subprocess.run(  # noqa: S603 - our own script, in the interpreter that the user names
            command, capture_output=True, text=True, timeout=_TIME_OUT_S, env=_environment(), check=False
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {_TIME_OUT_S} s"
    except OSError as error:
        return f"{relative(command[0])}: {error.strerror or error}"
    return (done.stderr.strip().splitlines() or ["it said nothing"])[-1] if done.returncode else ""


def _environment() -> dict[str, str]:
    """Legacy Keras, on which transformers' classes are; no GPU, whose memory torch may hold; no network."""
    own = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own}
