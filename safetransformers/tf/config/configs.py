"""The configuration of the model that a save holds: where it is looked for, and what is refused."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ... import compat
from ...errors import UnknownSaveError
from ...names import answers, history
from ...notices import relative
from ..read.opening import Opened
from ..read.refusals import broken, read_json, unsafe
from ..read.sources import Save

CONFIG: Final = "config.json"
# What the original TensorFlow 1 releases call their configuration, and the model type that it is of.
_ORIGINAL: Final = {
    "bert_config.json": "bert",
    "albert_config.json": "albert",
    "xlnet_config.json": "xlnet",
    "electra_config.json": "electra",
    "hparams.json": "gpt2",
}


# Their fields that transformers calls otherwise: XLNet's and GPT-2's.
_FIELDS: Final = {"n_token": "vocab_size", "n_vocab": "vocab_size", "n_ctx": "n_positions"}


@dataclass(frozen=True)
class Recovered:
    """A configuration.

    Attributes:
        raw: as it was found, and is written again.
        config: the same as an object of the model type's class.
        origin: where it was found, for people.
        keras_class: the TensorFlow class that was saved, where Keras noted it.
        assumed: fields that nothing in the save says, and what they were taken to be.
    """

    raw: dict[str, Any]
    config: Any
    origin: str
    keras_class: str = ""
    assumed: Mapping[str, Any] = field(default_factory=dict)

    def with_changes(self, **changes: Any) -> Recovered:
        """The same with other values of some fields."""
        raw = {**self.raw, **changes}
        return Recovered(raw, made(raw, self.origin), self.origin, self.keras_class, self.assumed)


def recover(save: Save, opened: Opened, given: Any, model_type: str | None) -> Recovered | None:
    """The configuration that the user gives, or the nearest that the save has; ``None`` where there is none.

    Raises:
        BrokenSaveError: where a ``config.json`` is none.
        UnsafeSaveError: where it asks for code of its folder.
        UnknownSaveError: where the installed transformers does not know its model type.
    """
    keras_class, of_keras = _in_keras(opened.keras)
    if given is not None:
        raw, origin = _given(given)
    else:
        found = next(_files(save), None)
        if found is not None:
            raw, origin = _read(found), found.name
        elif of_keras is not None:
            raw, origin = of_keras, f"{save.format}, layer of class {keras_class}"
        else:
            return None
    if model_type is not None:
        raw = {**raw, "model_type": model_type}
    elif "model_type" not in raw:
        raw = {**raw, "model_type": _type_of(raw, origin)}
    return Recovered(raw, made(raw, origin), origin, keras_class)


def made(raw: Mapping[str, Any], origin: str) -> Any:
    """The configuration object of a dictionary; no code and no network.

    Raises:
        UnsafeSaveError: where it has an ``auto_map``.
        UnknownSaveError: for a model type that is not known, or values that its class does not take.
    """
    if raw.get("auto_map"):
        raise unsafe(
            origin,
            "its auto_map asks for Python code of its folder, which is never run here",
            "if the model type is one of transformers' own, remove auto_map from a copy of config.json",
        )
    model_type = raw.get("model_type")
    cls = compat.config_class(str(model_type)) or _class_of_part(raw)
    if cls is None:
        raise _unknown_type(str(model_type), origin)
    try:
        return cls.from_dict(copy.deepcopy(dict(raw)))  # 4.57's composite classes take parts out of what they are given
    except Exception as error:
        raise UnknownSaveError(
            "ST-TF-005",
            f"{cls.__name__} does not take the values of {relative(origin)}",
            why=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            do="correct the values in a copy, and name it: safetransformers convert SRC DST --config FILE",
        ) from error


def _class_of_part(raw: Mapping[str, Any]) -> Any:
    """The configuration class of an architecture whose type no Auto class knows, such as BLIP's text model in 4.57.

    The dummy that stands for a class of a missing package raises at every look but the static one.
    """
    import transformers

    for name in raw.get("architectures") or ():
        cls = getattr(transformers, str(name).removeprefix("TF"), None)
        found = inspect.getattr_static(cls, "config_class", None)
        if getattr(found, "model_type", None) == raw.get("model_type"):
            return found
    return None


def _unknown_type(model_type: str, origin: str) -> UnknownSaveError:
    """Of a type that other releases have, with the line that installs one of them."""
    import transformers

    is_elsewhere = history.of_model_type(model_type) is not None
    told = answers.for_model_type(model_type) if is_elsewhere else None
    return UnknownSaveError(
        "ST-TF-005",
        f"{relative(origin)} names the model type {model_type!r}, which transformers {transformers.__version__} "
        "does not know",
        why=told.why if told else "",
        do=told.do if told else "name a known one: safetransformers convert SRC DST --model-type bert",
        model_type=model_type,
    )


def _files(save: Save) -> Iterator[Path]:
    for home in save.homes:
        for name in (CONFIG, *_ORIGINAL):
            if (home / name).is_file():
                yield home / name


def _read(file: Path) -> dict[str, Any]:
    raw = read_json(file)
    if not isinstance(raw, dict):
        raise broken(file, "it holds no configuration, but another kind of JSON")
    if file.name in _ORIGINAL:
        raw = {_FIELDS.get(name, name): value for name, value in raw.items()}
        raw.setdefault("model_type", _ORIGINAL[file.name])
    return raw


def _given(given: Any) -> tuple[dict[str, Any], str]:
    if isinstance(given, Mapping):
        return dict(given), "the given configuration"
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        return _read(path / CONFIG if path.is_dir() else path), path.name
    return dict(given.to_dict()), "the given configuration"


def _type_of(raw: Mapping[str, Any], origin: str) -> str:
    """The model type of a configuration that was written before there were any, by its ``architectures``."""
    for name in raw.get("architectures") or ():
        known = compat.model_class_names().get(str(name).removeprefix("TF"))
        if known:
            return known[0]
    raise UnknownSaveError(
        "ST-TF-005",
        f"{relative(origin)} does not say its model type",
        do="name it: safetransformers convert SRC DST --model-type bert",
    )


def _in_keras(keras: Any) -> tuple[str, dict[str, Any] | None]:
    """The configuration inside Keras's own, of the model itself or of a layer that is one of transformers' models."""
    pending = [keras]
    while pending:
        one = pending.pop(0)
        if isinstance(one, list):
            pending += one
        elif isinstance(one, dict):
            config = one.get("config")
            name = str(one.get("class_name", "")).rpartition(">")[2]
            if name.startswith("TF") and isinstance(config, dict):
                inner = config.get("config") if "model_type" not in config else config
                if isinstance(inner, dict) and "model_type" in inner:
                    return name, inner
            pending += one.values()
    return "", None
