"""``suggest_auto_classes``: which Auto classes load a checkpoint, best first, each as a line to paste.

Built from the mappings of the installed transformers, classes that a user registered among them. Nothing is loaded:
a configuration is read, the names of the weights, and classes are made on the meta device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from .. import compat
from ..errors import UnknownArchitectureError
from . import answers, history
from .checkpoint import Checkpoint, read
from .heads import Heads
from .parts import language_model
from .suggestions import OFF, Fit, Suggestion, Suggestions, listed
from .tasks import TASKS, closeness, distance, is_near, is_other, preference

_BASE: Final = "AutoModel"
_RANK: Final = {"saved": 0, "whole": 1, "other task": 2, "incomplete": 2, "unknown": 2}


def suggest_auto_classes(
    config_or_path: Any,
    requested: str | type | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    subfolder: str = "",
) -> Suggestions:
    """The Auto classes that load a checkpoint, best first.

    First the class that the checkpoint names, then those nearest to the one asked for, then the model without a head.
    Where an Auto class of tokenizers or processors is asked for, the others of that kind are ranked.

    Args:
        config_or_path: a configuration, a folder, a cached repository, or a ``model_type`` such as ``"bert"``.
        requested: the Auto class that you want, or its name; also one that was renamed since.
        revision: a branch, tag or commit hash of a cached repository.
        cache_dir: the hub cache, where it is not the usual one.
        subfolder: the folder inside the repository or folder.

    Raises:
        CheckpointError: where there is no checkpoint, or its ``config.json`` cannot be read.
        UnknownArchitectureError: for a ``model_type`` that the installed transformers does not know, without own code.

    Cost: no weights are loaded and no request is made. Each class that is looked at is made on the meta device.

    Example:
        >>> for one in suggest_auto_classes("gpt2", "AutoModelForQuestionAnswering")[:1]:
        ...     print(one.line)
        AutoModelForQuestionAnswering.from_config(AutoConfig.for_model('gpt2'))
    """
    asked = requested if isinstance(requested, str) else getattr(requested, "__name__", "")
    checkpoint = read(config_or_path, revision=revision, cache_dir=cache_dir, subfolder=subfolder)
    return suggest(checkpoint, _current(asked, checkpoint), asked)


def suggest(checkpoint: Checkpoint, requested: str = "", asked: str = "") -> Suggestions:
    """The same for a checkpoint that was read; ``asked`` is how the requested class was called."""
    if checkpoint.config_class is None and not checkpoint.auto_map:
        raise unknown(checkpoint)
    heads = None
    if checkpoint.config is not None and (checkpoint.is_loadable or checkpoint.source == "config"):
        heads = Heads(checkpoint.config, checkpoint.folder, checkpoint.architectures)
    mapped = _mapped(checkpoint)
    models = [*_remote(checkpoint), *_local(checkpoint, requested, heads, mapped), *_unmapped(checkpoint, mapped)]
    models.sort(key=lambda one: one.fit != "saved")
    models[1:1] = _inner(checkpoint, requested, models)
    processors = _preprocessors(checkpoint)
    is_model = requested not in compat.PREPROCESSORS
    ranked, beside = (models, processors) if is_model else (processors, [])
    return Suggestions(
        checkpoint.name,
        checkpoint.model_type,
        checkpoint.architectures,
        heads.held() if heads else (),
        requested,
        tuple(ranked),
        tuple(beside),
        tuple(_notes(checkpoint, requested, asked)),
        compat.accepted_configs(requested) if requested else (),
    )


def _mapped(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """The Auto classes of models that take the configuration, each with the classes that it chooses from."""
    config = checkpoint.config_class
    if config is None:
        return {}
    autos = [auto for auto in compat.auto_classes() if auto not in compat.PREPROCESSORS]
    return {auto: names for auto in autos if (names := compat.mapped_names(auto, config))}


def _local(
    checkpoint: Checkpoint, requested: str, heads: Heads | None, mapped: Mapping[str, tuple[str, ...]]
) -> list[Suggestion]:
    """Of each model class the Auto class that says best what it is for, and the one that was asked for."""
    found: dict[str, list[str]] = {}
    for auto, names in mapped.items():
        chosen = next((name for name in checkpoint.architectures if name in names), names[0])
        if compat.model_class(chosen) is not None:  # some mappings name a class that was never written
            found.setdefault(chosen, []).append(auto)
    best = [(min(autos, key=lambda a: (a != requested, preference(a))), cls) for cls, autos in found.items()]
    saved = next((auto for auto, cls in best if cls in checkpoint.architectures), "")
    if heads is not None:
        best = [(auto, cls) for auto, cls in best if cls in checkpoint.architectures or not heads.refuses(cls)]
    made = [_suggestion(checkpoint, auto, cls, requested, saved, heads) for auto, cls in best]
    return sorted(made, key=lambda one: _order(one, requested, checkpoint.config_class))


def _order(one: Suggestion, requested: str, config: Any) -> tuple[Any, ...]:
    """First the class that was saved; then the nearest to what was asked for, whole ones before others.

    Last what is made of a part of the configuration: some of transformers' mappings name such a class for the whole.
    """
    if one.fit == "saved":
        return (0,)
    cls = compat.model_class(one.model_class)
    place = 1 if cls is None or compat.is_configured_by(cls, config) else 2
    if not requested:
        return (place, one.auto_class != _BASE, _RANK[one.fit], preference(one.auto_class))
    inputs, kinds, order = distance(requested, one.auto_class)
    return (place, inputs, kinds, _RANK[one.fit], order)


def _suggestion(
    checkpoint: Checkpoint, auto: str, cls: str, requested: str, saved: str, heads: Heads | None
) -> Suggestion:
    fit, why = _fit(checkpoint, auto, cls, saved, heads)
    extra = {}
    if fit == "incomplete" and heads is not None and heads.has_other_shapes(cls):
        extra["ignore_mismatched_sizes"] = "True"
    near = closeness(requested, auto) if requested and auto != requested and is_near(requested, auto) else ""
    called = auto if _can_load(checkpoint, auto) else cls
    return Suggestion(auto, cls, _line(checkpoint, called, **extra), "; ".join(filter(None, (why, near))), fit)


def _can_load(checkpoint: Checkpoint, auto: str) -> bool:
    """Whether an Auto class works here at all, and not only the class that it chooses: two faults of 5.23.

    AutoBackbone takes a folder for a repository of timm (HFValidationError). ``from_config`` of a type with several
    classes wants ``architectures``, and fails without (TypeError).
    """
    if auto == "AutoBackbone" and checkpoint.is_loadable:
        return not checkpoint.is_local
    config = checkpoint.config_class
    is_one_of_several = config is not None and len(compat.mapped_names(auto, config)) > 1
    return checkpoint.is_loadable or bool(checkpoint.architectures) or not is_one_of_several


def _fit(checkpoint: Checkpoint, auto: str, cls: str, saved: str, heads: Heads | None) -> tuple[Fit, str]:
    missing = None if heads is None else heads.missing(cls)
    if cls in checkpoint.architectures:
        lacks = f"; not in the weights, and random: {listed(missing)}" if missing else ""
        return "saved", f"{cls}, the class that it was saved from{lacks}"
    named = f"{cls}, without a head" if auto == _BASE else cls
    if missing is None:
        return "unknown", named
    if missing:
        return "incomplete", f"{named}; random until it is trained: {listed(missing)}"
    if saved and auto != _BASE and is_other(saved, auto):
        return (
            "other task",
            f"{cls}; its weights are there by name and shape, but were trained as {checkpoint.architectures[0]}",
        )
    return "whole", f"{named}; all its weights are there"


def _line(checkpoint: Checkpoint, auto: str, **extra: str) -> str:
    if not checkpoint.is_loadable:
        return f"{auto}.from_config({checkpoint.source})" if auto.startswith(_BASE) else f"{auto}({checkpoint.source})"
    named = {**checkpoint.arguments, **extra}
    arguments = ", ".join([checkpoint.source, *(f"{name}={value}" for name, value in named.items())])
    return f"{auto}.from_pretrained({arguments})"


def _remote(checkpoint: Checkpoint) -> list[Suggestion]:
    """What the checkpoint's own code would give: named, never run."""
    found = []
    for auto, reference in checkpoint.auto_map.items():
        if auto.startswith(_BASE) and isinstance(reference, str):
            repo, _, inner = reference.rpartition("--")
            module, _, cls = inner.rpartition(".")
            whose = f"of {repo}" if repo else "that comes with it"
            line = _line(checkpoint, auto, trust_remote_code="True")
            why = f"{cls}, from {module}.py {whose}: its code runs on your machine, so read it and pin its revision"
            found.append(Suggestion(auto, cls, line, why, "saved" if cls in checkpoint.architectures else "unknown"))
    return sorted(found, key=lambda one: (one.fit != "saved", preference(one.auto_class)))


def _unmapped(checkpoint: Checkpoint, mapped: Mapping[str, tuple[str, ...]]) -> list[Suggestion]:
    """Classes that no Auto class chooses: the one that the checkpoint names, else those made for its configuration."""
    config = checkpoint.config_class
    if config is None:
        return []
    chosen = {name for names in mapped.values() for name in names}
    named = [name for name in checkpoint.architectures if name not in chosen and compat.model_class(name) is not None]
    others = [] if chosen or named else [name for name in compat.models_of(config) if compat.model_class(name)]
    fits: list[tuple[str, Fit, str]] = [(name, "saved", ", the class that it was saved from") for name in named]
    fits += [(name, "unknown", "") for name in others]
    return [
        Suggestion("", name, _line(checkpoint, name), f"{name}{why}; no Auto class chooses it", fit)
        for name, fit, why in fits
    ]


def _inner(checkpoint: Checkpoint, requested: str, models: list[Suggestion]) -> list[Suggestion]:
    """The language model inside a model of several kinds of input, where a class for text was asked for."""
    if not models or checkpoint.config is None or requested not in TASKS or TASKS[requested].reads != "text":
        return []
    found = language_model(models[0].model_class, checkpoint.config)
    if found is None:
        return []
    path, cls = found
    line = f"{models[0].line}.{path}"
    return [Suggestion(models[0].auto_class, cls, line, f"{cls}, the language model in it", models[0].fit)]


def _preprocessors(checkpoint: Checkpoint) -> list[Suggestion]:
    config = checkpoint.config_class
    if config is None:
        return []
    found = [(auto, names) for auto in compat.PREPROCESSORS if (names := compat.mapped_names(auto, config))]
    source = checkpoint if checkpoint.is_loadable else replace(checkpoint, source="path", is_loadable=True)
    return [Suggestion(auto, names[-1], _line(source, auto), names[-1], "unknown") for auto, names in found]


def _notes(checkpoint: Checkpoint, requested: str, asked: str) -> Iterator[str]:
    if asked and asked != requested:
        yield f"{asked} is {requested} now" if asked.startswith("Auto") else f"{asked} is chosen by {requested}"
    for name in checkpoint.architectures:
        if name.startswith(("TF", "Flax")):
            framework = "TensorFlow" if name.startswith("TF") else "Flax"
            yield f"{name} was saved with {framework}: safetransformers convert makes torch weights of it"


def _current(asked: str, checkpoint: Checkpoint) -> str:
    """The Auto class that is meant: by its name now, or by the model class that it chooses.

    Raises:
        UnknownArchitectureError: for a name of neither.
    """
    known = compat.auto_classes()
    if not asked or asked in known or asked in compat.PREPROCESSORS:
        return asked
    replacement = history.replacement_of(asked).rpartition(".")[2]
    if replacement in known:
        return replacement
    config = checkpoint.config_class
    choosing = [auto for auto in known if config is not None and asked in compat.mapped_names(auto, config)]
    if choosing:
        return min(choosing, key=preference)
    told = answers.for_name(asked)
    what = f"{asked} is no Auto class, nor one that an Auto class chooses for {checkpoint.name}"
    raise UnknownArchitectureError("ST-TASK-005", what, why=told.what, do=told.do, requested=asked)


def unknown(checkpoint: Checkpoint) -> UnknownArchitectureError:
    """The error of a ``model_type`` that the installed transformers does not know, or that is missing."""
    saved_with = checkpoint.settings.get("transformers_version")
    saved_with = saved_with if isinstance(saved_with, str) else None
    model_type = checkpoint.model_type
    told = answers.for_model_type(model_type, saved_with) if model_type else answers.for_no_model_type(saved_with)
    return UnknownArchitectureError(told.code, told.what, why=told.why, do=told.do, off=OFF, model_type=model_type)
