"""Where the versions of transformers differ in what a checkpoint calls its weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def checkpoint_keys(model: Any) -> dict[str, str]:
    """The key under which a checkpoint keeps each entry of a model's state dict, also one that transformers 4.57 reads.

    transformers 5 renamed modules of some models and renames the keys of their checkpoints when it loads; a save is
    written in the old names, which both read (``core_model_loading.revert_weight_conversion``, 5.23).
    """
    state = model.state_dict(keep_vars=True)
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import PrefixChange, revert_weight_conversion
    except ImportError:
        return {key: key for key in state}
    import torch

    # Without this list, what removes a prefix is left out, and 4.57 would not know the keys of CLIP's two halves.
    conversions = get_model_conversion_mapping(model, add_legacy=False)
    of_parts = [one for one in conversions if isinstance(one, PrefixChange) and getattr(one, "scope_prefix", None)]
    model._weight_conversions = [one for one in conversions if one not in of_parts] or None
    # Renaming keeps no trace of the old name. One element of its own marks each entry through it, and costs no memory.
    marked = {key: torch.full((1,), float(number)) for number, key in enumerate(state)}
    written = revert_weight_conversion(model, dict(marked))
    names = list(state)
    found = {names[int(mark[0])]: _with_torchs_leaf(key) for key, mark in written.items() if mark.numel() == 1}
    if len(found) != len(state) or len(written) != len(state):
        return {key: key for key in state}  # entries are merged or split, which no class that TensorFlow had does
    return found


def _with_torchs_leaf(key: str) -> str:
    """Some mappings go back as far as the names of TensorFlow's norms, which no checkpoint need have any more."""
    key = key.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")  # 5.23 does not read what it writes
    module, _, leaf = key.rpartition(".")
    return f"{module}.{ {'gamma': 'weight', 'beta': 'bias'}.get(leaf, leaf) }" if module.endswith("LayerNorm") else key


@lru_cache(maxsize=1)
def model_class_names() -> dict[str, tuple[str, ...]]:
    """Every torch class that an Auto class loads: its name, and the model types that it is for. Imports none of them.

    The class without a head comes first of those of a model type.
    """
    from transformers.models.auto import modeling_auto

    found: dict[str, tuple[str, ...]] = {}
    names = sorted(name for name in dir(modeling_auto) if name.endswith("_MAPPING_NAMES"))
    for name in sorted(names, key=lambda name: name != "MODEL_MAPPING_NAMES"):
        mapping = getattr(modeling_auto, name)
        for model_type, classes in mapping.items() if isinstance(mapping, Mapping) else ():
            for cls in [classes] if isinstance(classes, str) else classes:
                found[cls] = (*found.get(cls, ()), model_type)
    return found
