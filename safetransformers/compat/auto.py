"""Where the versions of transformers differ: the Auto classes, their mappings, and what is loaded besides."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, cast


@lru_cache(maxsize=1)  # each load through us asks, and dir(transformers) alone takes a quarter of a second
def auto_classes() -> dict[str, type]:
    """The Auto classes of the installed transformers, by name; the dummies of missing backends are left out."""
    import transformers

    found = {name: getattr(transformers, name) for name in dir(transformers) if is_auto_name(name)}
    return {name: cls for name, cls in found.items() if is_auto_class(cls)}


def assemblers() -> list[tuple[type, str]]:
    """The classes and class methods that put a model together from others that they load.

    The same in 4.57 and 5.23. The RAG models and the two Musicgen inherit or repeat them.
    """
    import transformers

    names = {
        "EncoderDecoderModel": "from_encoder_decoder_pretrained",
        "SpeechEncoderDecoderModel": "from_encoder_decoder_pretrained",
        "VisionEncoderDecoderModel": "from_encoder_decoder_pretrained",
        "VisionTextDualEncoderModel": "from_vision_text_pretrained",
        "RagPreTrainedModel": "from_pretrained_question_encoder_generator",
        "MusicgenForConditionalGeneration": "from_sub_models_pretrained",
        "MusicgenMelodyForConditionalGeneration": "from_sub_models_pretrained",
    }
    found = ((getattr(transformers, name, None), method) for name, method in names.items())
    return [(cls, method) for cls, method in found if isinstance(cls, type) and hasattr(cls, method)]


def pipeline_loader() -> tuple[Any, str]:
    """The module and the name of the function by which ``pipeline()`` loads a model."""
    from transformers import pipelines

    return pipelines, "load_model" if hasattr(pipelines, "load_model") else "infer_framework_load_model"


def pipelines() -> list[tuple[Any, str]]:
    """The two names of the function ``pipeline``."""
    import transformers

    return [(transformers.pipelines, "pipeline"), (transformers, "pipeline")]


def is_auto_name(name: str) -> bool:
    """Whether a name can be an Auto class; ``AutoformerModel`` and the like are not."""
    return name.startswith("Auto") and name[4:5].isupper()


def is_auto_class(cls: object) -> bool:
    """Whether this is one of transformers' Auto classes, such as ``AutoModel`` or ``AutoTokenizer``.

    They live in ``transformers.models.auto`` and load something; ``AutoRoundConfig`` and pipelines do not. The dummy of
    a missing backend raises at every look, hence the static one.
    """
    return (
        isinstance(cls, type)
        and cls.__module__.startswith("transformers.models.auto.")
        and any(inspect.getattr_static(cls, loader, None) is not None for loader in ("from_pretrained", "from_config"))
    )


def config_base() -> type:
    """The base of every configuration class: ``PreTrainedConfig`` in 5.x, ``PretrainedConfig`` before."""
    import transformers

    return cast("type", getattr(transformers, "PreTrainedConfig", None) or transformers.PretrainedConfig)


def config_class(model_type: str) -> Any:
    """The configuration class of a ``model_type``, of the installed transformers or registered by the user."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None  # noqa: SIM401 - its get() finds nothing


def model_types() -> tuple[str, ...]:
    """Every ``model_type`` that can be loaded now, registered ones among them."""
    from transformers import CONFIG_MAPPING

    return tuple(dict.fromkeys([*CONFIG_MAPPING.keys(), *getattr(CONFIG_MAPPING, "_extra_content", ())]))


# The Auto classes that load no model keep their mapping beside them.
_PREPROCESSORS: Final = {
    "AutoTokenizer": ("tokenization_auto", "TOKENIZER_MAPPING"),
    "AutoProcessor": ("processing_auto", "PROCESSOR_MAPPING"),
    "AutoImageProcessor": ("image_processing_auto", "IMAGE_PROCESSOR_MAPPING"),
    "AutoFeatureExtractor": ("feature_extraction_auto", "FEATURE_EXTRACTOR_MAPPING"),
    "AutoVideoProcessor": ("video_processing_auto", "VIDEO_PROCESSOR_MAPPING"),
}
PREPROCESSORS: Final = tuple(_PREPROCESSORS)


def auto_mapping(name: str) -> Any:
    """The mapping from configuration classes by which an Auto class chooses; ``None`` where it has none."""
    if name in _PREPROCESSORS:
        module, mapping = _PREPROCESSORS[name]
        return getattr(import_module(f"transformers.models.auto.{module}"), mapping)
    return getattr(auto_classes().get(name), "_model_mapping", None)


def mapped_names(name: str, config: type) -> tuple[str, ...]:
    """The names of the classes that an Auto class chooses from for a configuration class; none of them is imported.

    Most entries are one name; there are pairs (``FunnelModel``), slow and fast tokenizers, and image processors by
    backend. What a user registered comes first, as in the mapping itself (``auto_factory.py``, 4.57 and 5.23).
    """
    mapping = auto_mapping(name)
    if mapping is None or config not in mapping:
        return ()
    if config in mapping._extra_content:
        return _names(mapping._extra_content[config])
    types = [key for key, value in mapping._config_mapping.items() if value == config.__name__]
    last = mapping._reverse_config_mapping.get(config.__name__)
    found = (_names(mapping._model_mapping.get(one)) for one in dict.fromkeys([last, *types]) if one is not None)
    return next((names for names in found if names), ())


def is_configured_by(cls: type, config: type) -> bool:
    """Whether a model class is made of this configuration itself, and not of a part of it.

    AutoModel's own mapping has such a class for MusicGen (models/auto/modeling_auto.py, 5.23.0).
    """
    wanted = inspect.getattr_static(cls, "config_class", None)  # one that lacks a package raises at any other look
    return not isinstance(wanted, type) or issubclass(config, wanted)


def model_class(name: str) -> type | None:
    """A class of transformers, or one that a user registered with an Auto class, by its name."""
    import transformers

    cls = getattr(transformers, name, None)
    if isinstance(cls, type):
        return cls
    mappings = (mapping for auto in auto_classes() if (mapping := auto_mapping(auto)) is not None)
    registered = (value for mapping in mappings for value in mapping._extra_content.values())
    return next((value for value in registered if isinstance(value, type) and value.__name__ == name), None)


# What transformers says where an Auto class, and nothing else, is why a load has failed. The files in models/auto and
# pipelines/base.py that say it are those of 4.57.6 and 5.23.0.
_SAID: Final = {
    "configuration class": re.compile(r"Unrecognized configuration class"),
    "model type": re.compile(r".*does not recognize this architecture|Unrecognized model in", re.DOTALL),
    "tokenizer class": re.compile(
        r"Tokenizer class '?\w+'? (does not exist|is not currently imported|specified in)"
        r"|Couldn't instantiate the backend tokenizer"
    ),
    "preprocessor": re.compile(
        r"Unrecognized (processing class|image processor|feature extractor|video processor|configuration class)"
        r"|Can't load (image processor|feature extractor|video processor) for"
        r"|Couldn't instantiate the backend tokenizer"
        r"|<class '.*Config'>$"  # the KeyError of a tokenizer in 4.57
    ),
    "pipeline": re.compile(r"Could not load model .* with any of the following classes", re.DOTALL),
}


def says(what: str, failure: BaseException) -> bool:
    """Whether transformers says of a failure that this, and nothing else, is wrong: a key of the table above."""
    return _SAID[what].match(str(failure)) is not None


def has_tokenizer(name: str) -> bool:
    """Whether transformers has a tokenizer class of this name, or one that it takes in its place."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    slow = name.removesuffix("Fast")
    return any(tokenizer_class_from_name(one) is not None for one in (name, slow, f"{slow}Fast"))


def lazy_module() -> type:
    """The class of ``transformers`` itself and of its packages, whose ``__getattr__`` imports what is asked for."""
    from transformers.utils import import_utils

    return cast("type", import_utils._LazyModule)


def models_of(config: type) -> tuple[str, ...]:
    """The model classes that are made for a configuration class, by name, whether or not an Auto class chooses them.

    They are in the file beside it: ``configuration_x.py`` and ``modeling_x.py``, 4.57 and 5.23.
    """
    from transformers import PreTrainedModel

    try:
        module = import_module(config.__module__.replace(".configuration_", ".modeling_"))
    except ImportError:
        return ()
    return tuple(
        name
        for name, cls in vars(module).items()
        if isinstance(cls, type)
        and issubclass(cls, PreTrainedModel)
        and cls.__dict__.get("config_class") is config
        and not name.endswith("PreTrainedModel")
    )


def accepted_configs(name: str) -> tuple[str, ...]:
    """The names of all configuration classes that an Auto class takes, sorted."""
    mapping = auto_mapping(name)
    if mapping is None:
        return ()
    named = [mapping._config_mapping[key] for key in mapping._model_mapping if key in mapping._config_mapping]
    return tuple(sorted({*named, *(config.__name__ for config in mapping._extra_content)}))


def _names(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    if isinstance(entry, (str, type)):
        return (entry if isinstance(entry, str) else entry.__name__,)
    parts = entry.values() if isinstance(entry, Mapping) else entry
    return tuple(dict.fromkeys(name for part in parts for name in _names(part)))


def pipeline_classes(task: str) -> tuple[str, ...]:
    """The Auto classes that ``pipeline(task=...)`` loads a model with, aliases and the user's own tasks included.

    Raises:
        KeyError: for a task that the installed transformers does not have.
    """
    from transformers.pipelines import PIPELINE_REGISTRY

    _, settings, _ = PIPELINE_REGISTRY.check_task(task)
    return tuple(cls.__name__ for cls in settings["pt"])


def tied_names(model: Any) -> frozenset[str]:
    """The parameters of a model that are no weights of their own, and which a checkpoint need not hold."""
    tied = getattr(model, "all_tied_weights_keys", None)
    if tied is not None:  # 5.x: a dictionary, of the parts too
        return frozenset(tied)
    if not getattr(model.config.get_text_config(decoder=True), "tie_word_embeddings", True):
        return frozenset()
    patterns = [re.compile(pattern) for pattern in model._tied_weights_keys or ()]
    names = (name for name, _ in model.named_parameters(remove_duplicate=False))
    return frozenset(name for name in names if any(pattern.search(name) for pattern in patterns))
