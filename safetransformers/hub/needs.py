"""What a loader reads of a repository, told from its class and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .. import policies
from .snapshots import Need

# A class that a loader inherits from, or an Auto class's name: what it reads.
_READS: Final[dict[str, tuple[str, ...]]] = {
    "PreTrainedModel": ("config", "weights", "generation"),
    "PreTrainedTokenizerBase": ("tokenizer",),
    "AutoTokenizer": ("tokenizer",),
    "FeatureExtractionMixin": ("processor",),
    "AutoFeatureExtractor": ("processor",),
    "ImageProcessingMixin": ("processor",),
    "AutoImageProcessor": ("processor",),
    "AutoVideoProcessor": ("processor",),
    "PreTrainedConfig": ("config",),
    "PretrainedConfig": ("config",),
    "AutoConfig": ("config",),
    "PeftModel": ("adapter",),
}
_PIPELINE: Final[tuple[str, ...]] = ("config", "weights", "generation")


def need_of(owner: Any, arguments: Mapping[str, Any]) -> Need:
    """What the load reads.

    Args:
        owner: the class whose ``from_pretrained`` is called; anything else is a pipeline.
        arguments: by name.
    """
    subfolder = str(arguments.get("subfolder") or "")
    if file := arguments.get("gguf_file"):
        return Need(subfolder=subfolder, files=(str(file),))
    parts: tuple[str, ...]
    if not isinstance(owner, type):
        parts = _PIPELINE
    elif hasattr(owner, "_model_mapping"):
        parts = _READS["PreTrainedModel"]
    else:
        parts = next((_READS[base.__name__] for base in owner.__mro__ if base.__name__ in _READS), ())
    if "weights" in parts and arguments.get("state_dict") is not None:
        parts = ("config",)
    variant = arguments.get("variant")
    safe = arguments.get("use_safetensors") is True or policies.resolve("weights") == "safetensors"
    read: dict[str, Any] = dict.fromkeys(parts, True)
    return Need(
        **read,
        subfolder=subfolder,
        variant=None if variant is None else str(variant),
        safetensors_only="weights" in parts and safe,
        remote_code=bool(arguments.get("trust_remote_code")),
    )
