"""What a failed load was, where that can be told for sure: transformers says so, and the checkpoint bears it out."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any, Final, TypeVar

from .. import compat
from ..errors import (
    CheckpointError,
    IncompatibleTaskError,
    MissingModuleError,
    MissingNameError,
    SafeTransformersError,
    UnknownArchitectureError,
    VocabularyError,
)
from ..explanation import Explanation
from . import answers
from .checkpoint import Checkpoint, has_files, read
from .incompatible import model_error, pipeline_error, preprocessor_error
from .suggest import suggest, unknown
from .suggestions import OFF

Told = TypeVar("Told", bound=SafeTransformersError)

_HUB_ARGUMENTS: Final = ("revision", "cache_dir", "subfolder")
_CODE_FOLDER: Final = "transformers_modules"  # where remote code is imported from


def of_load(failure: BaseException, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseException | None:
    """What a failed load through an Auto class was: what transformers says, where the checkpoint bears it out."""
    if isinstance(failure, ImportError):
        return _of_remote_code(failure)
    name = next((base.__name__ for base in cls.__mro__ if base.__name__ in compat.auto_classes()), cls.__name__)
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path", kwargs.get("config"))
    checkpoint = _checkpoint(source, kwargs)
    if checkpoint is None:
        return None
    if checkpoint.config_class is None:
        return unknown(checkpoint) if compat.says("model type", failure) and not checkpoint.auto_map else None
    if name == "AutoTokenizer" and (error := _of_tokenizer(failure, checkpoint)) is not None:
        return error
    if name in checkpoint.auto_map or compat.mapped_names(name, checkpoint.config_class):
        return None  # the class does take it: something else is wrong
    if name in compat.PREPROCESSORS:
        is_lacking = isinstance(failure, VocabularyError) or compat.says("preprocessor", failure)
        is_sure = is_lacking and checkpoint.is_local and not has_files(checkpoint, name)
        return preprocessor_error(suggest(checkpoint, name), failure) if is_sure else None
    return model_error(suggest(checkpoint, name)) if compat.says("configuration class", failure) else None


def of_pipeline(failure: BaseException, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseException | None:
    """What a failed ``pipeline()`` was: neither a head nor a processor of the task is there."""
    task = args[0] if args else kwargs.get("task")
    source = args[1] if len(args) > 1 else kwargs.get("model")
    if not isinstance(task, str) or not (
        isinstance(failure, IncompatibleTaskError) or compat.says("pipeline", failure)
    ):
        return None
    checkpoint = _checkpoint(source, {**kwargs, **(kwargs.get("model_kwargs") or {})})
    if checkpoint is None or checkpoint.config_class is None:
        return None
    try:
        classes = compat.pipeline_classes(task)
    except KeyError:
        return None  # no task of the installed transformers, as it says itself
    if any(name in checkpoint.auto_map or compat.mapped_names(name, checkpoint.config_class) for name in classes):
        return None
    return pipeline_error(task, suggest(checkpoint, classes[0]), failure)


def _checkpoint(source: Any, kwargs: dict[str, Any]) -> Checkpoint | None:
    """What was to be loaded; ``None`` where that is no checkpoint, or not of a kind that is known here."""
    given = kwargs.get("config")
    if kwargs.get("gguf_file") is not None:
        return None
    where = {name: kwargs[name] for name in _HUB_ARGUMENTS if kwargs.get(name) is not None}
    try:
        checkpoint = read(given if source is None else source, is_type_meant=False, **where)
        if isinstance(given, compat.config_base()):
            checkpoint = checkpoint.with_config(given)
    except CheckpointError:
        return None
    known = compat.config_class(checkpoint.model_type)
    return checkpoint if checkpoint.config_class is known else None  # else a class of the user's, not registered


def _of_tokenizer(failure: BaseException, checkpoint: Checkpoint) -> UnknownArchitectureError | None:
    """The tokenizer class that the checkpoint names is not in the installed transformers."""
    settings = checkpoint.tokenizer_settings()
    name = settings.get("tokenizer_class") or checkpoint.settings.get("tokenizer_class")
    is_of_class = isinstance(failure, VocabularyError) or compat.says("tokenizer class", failure)
    has_code = settings.get("auto_map") or "AutoTokenizer" in checkpoint.auto_map
    if not is_of_class or not isinstance(name, str) or has_code:
        return None
    if compat.has_tokenizer(name):
        return None
    return _error(UnknownArchitectureError, answers.for_tokenizer_class(name), tokenizer_class=name)


def _of_remote_code(failure: ImportError) -> MissingNameError | None:
    """The code that came with the checkpoint imports a name that the installed transformers does not have."""
    if not failure.name or failure.name.partition(".")[0] != "transformers":
        return None
    frames = (frame for frame, _ in traceback.walk_tb(failure.__traceback__))
    files = [frame.f_code.co_filename for frame in frames if _CODE_FOLDER in Path(frame.f_code.co_filename).parts]
    if not files:
        return None
    name = _missing_name(failure)
    told = answers.for_remote_import(name, failure.name, Path(files[-1]).name)
    cls = MissingModuleError if isinstance(failure, ModuleNotFoundError) else MissingNameError
    return _error(cls, told, missing=name, module=failure.name, path=failure.path)


def _missing_name(failure: ImportError) -> str:
    """The name of ``from module import name``; empty where it is the module that is missing."""
    if isinstance(failure, ModuleNotFoundError):
        return ""
    found = re.match(r"cannot import name '(\w+)' from '[\w.]+'", str(failure))  # Python's own text, 3.10 to 3.13
    return found[1] if found else ""


def _error(cls: type[Told], told: Explanation, **details: Any) -> Told:
    return cls(told.code, told.what, why=told.why, do=told.do, off=OFF, **details)
