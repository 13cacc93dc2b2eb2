"""A checkpoint that is on this machine becomes a model: no request is made, and none of its own code is run."""

from __future__ import annotations

from typing import Any


def load(source: str, *, auto_class: str = "", revision: str | None = None, cache_dir: Any = None) -> Any:
    """The model of a folder or a cached repository.

    Args:
        source: a folder, or a repository in the cache.
        auto_class: such as ``"AutoModelForCausalLM"``; the best one where empty.
        revision: of a cached repository.
        cache_dir: the hub cache, where it is not the usual one.

    Raises:
        CheckpointError: where there is no checkpoint.
        ValueError: where no class loads it.
        UnknownArchitectureError: for a class or a ``model_type`` that the installed transformers does not know.
        Exception: what transformers, a guard or safetensors raises for what cannot be loaded.
    """
    import safetransformers

    from ..names.checkpoint import read
    from ..names.suggest import suggest_auto_classes

    checkpoint = read(source, revision=revision, cache_dir=cache_dir, is_type_meant=False)
    found = suggest_auto_classes(source, auto_class or None, revision=revision, cache_dir=cache_dir)
    if not auto_class and not found.ranked:
        raise ValueError(f"no class of the installed transformers loads {checkpoint.name}")
    auto_class = auto_class or found.ranked[0].auto_class or found.ranked[0].model_class
    named = {"revision": revision, "cache_dir": cache_dir}
    arguments = {name: value for name, value in named.items() if value is not None}
    return getattr(safetransformers, auto_class).from_pretrained(source, local_files_only=True, **arguments)
