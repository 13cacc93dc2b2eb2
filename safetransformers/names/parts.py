"""The language model inside a model that also reads images or sound."""

from __future__ import annotations

import copy
from typing import Any

from .. import compat


def language_model(class_name: str, config: Any) -> tuple[str, str] | None:
    """Where a model keeps its language model, and of which class that is; ``None`` where it has none apart.

    Found on the meta device: the outermost part that was made of the configuration's ``text_config``.

    Example:
        >>> from transformers import LlavaConfig
        >>> language_model("LlavaForConditionalGeneration", LlavaConfig())[1]
        'LlamaModel'
    """
    import torch
    from transformers import PreTrainedModel

    if config.get_text_config(decoder=True) is config:
        return None
    is_language = compat.mapped_names("AutoModelForCausalLM", type(config.get_text_config(decoder=True)))
    cls = compat.model_class(class_name)
    if cls is None or not is_language:
        return None
    try:
        with torch.device("meta"):
            model = cls(copy.deepcopy(config))
    except Exception:  # noqa: BLE001 - a class that this configuration does not fit has nothing to show
        return None
    text = model.config.get_text_config(decoder=True)
    parts = model.named_modules()
    return next(
        (
            (path, type(part).__name__)
            for path, part in parts
            if path and isinstance(part, PreTrainedModel) and part.config is text
        ),
        None,
    )
