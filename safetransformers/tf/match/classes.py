"""Which torch class a save's weights are for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ... import compat


def snake(name: str) -> str:
    """The name that Keras gives to an object of a class: ``tf_bert_model`` for ``TFBertModel``.

    Example:
        >>> snake("TFGPT2LMHeadModel"), snake("TFViTForImageClassification")
        ('tfgpt2lm_head_model', 'tf_vi_t_for_image_classification')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def by_scope(scope: str) -> str | None:
    """The torch class whose TensorFlow counterpart Keras would have named so; a count at the end is left out."""
    wanted = {scope, re.sub(r"_\d+$", "", scope)}
    return next((name for name in compat.model_class_names() if snake(f"TF{name}") in wanted), None)


def candidates(config: Any, root: str, keras_class: str, architecture: str | None) -> Iterator[tuple[Any, bool]]:
    """Torch classes to try, the likeliest first, each once; with whether the save or the user says so.

    Args:
        config: whose ``architectures`` and model type count.
        root: the outermost scope of the weights.
        keras_class: the TensorFlow class that Keras noted.
        architecture: what the user says, which is then the only one.
    """
    import transformers

    said = [architecture] if architecture else [by_scope(root), keras_class, *(config.architectures or ())]
    evident = [name.removeprefix("TF") for name in said if name]
    of_type = [name for name, types in compat.model_class_names().items() if config.model_type in types]
    for name in dict.fromkeys(evident if architecture else [*evident, *of_type]):
        cls = getattr(transformers, name, None)
        if isinstance(cls, type) and isinstance(config, getattr(cls, "config_class", None) or ()):
            yield cls, name in evident


def part(config: Any, keras_class: str) -> str | None:
    """A class that the save names, and that transformers has as a part of its models only, not to be loaded alone."""
    import transformers

    for name in (keras_class, *(config.architectures or ())):
        cls = getattr(transformers, name.removeprefix("TF"), None) if name else None
        if isinstance(cls, type) and not hasattr(cls, "from_pretrained"):
            return cls.__name__
    return None


def auto_classes(name: str, model_type: str) -> tuple[str, ...]:
    """The Auto classes that load a torch class, ``AutoModel`` last unless it is the base class."""
    import transformers

    found = []
    for auto, cls in compat.auto_classes().items():
        mapping = getattr(cls, "_model_mapping", None)
        config = compat.config_class(model_type)
        if mapping is None or config is None or not auto.startswith("AutoModel"):
            continue
        try:
            classes = mapping[config]
        except KeyError:
            continue
        classes = classes if isinstance(classes, tuple) else (classes,)
        if getattr(transformers, name, None) in classes:
            found.append(auto)
    return tuple(sorted(found, key=lambda auto: (auto == "AutoModel", auto)))
