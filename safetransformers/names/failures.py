"""What a failed load was, where that can be told for sure: from the checkpoint and the installed mappings.

No text of transformers is read, but for the one sentence that Python itself makes of a failed import.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any, Final, TypeVar

from .. import compat
from ..errors import CheckpointError, MissingNameError, SafeTransformersError, UnknownArchitectureError, VocabularyError
from ..explanation import Explanation
from . import answers
from .checkpoint import Checkpoint, has_files, read
from .incompatible import model_error, pipeline_error, preprocessor_error
from .suggest import suggest, unknown
from .suggestions import OFF

Told = TypeVar("Told", bound=SafeTransformersError)

_HUB_ARGUMENTS: Final = ("revision", "cache_dir", "subfolder")
_CODE_FOLDER: Final = "transformers_modules"  # where remote code is imported from


def of_load(failure: BaseException, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseException | None:
    """What a failed load through the Auto class of this name was, where that can be told for sure."""
    if isinstance(failure, ImportError):
        return _of_remote_code(failure)
    source = args[0] if args else kwargs.get("pretrained_model_name_or_path", kwargs.get("config"))
    checkpoint = _checkpoint(source, kwargs)
    if checkpoint is None:
        return None
    if checkpoint.config_class is None:
        is_known_otherwise = "AutoConfig" in checkpoint.auto_map or not isinstance(failure, ValueError)
        return None if is_known_otherwise else unknown(checkpoint)
    if name == "AutoTokenizer" and (error := _of_tokenizer(failure, checkpoint)) is not None:
        return error
    if compat.auto_mapping(name) is None or name in checkpoint.auto_map:
        return None
    if compat.mapped_names(name, checkpoint.config_class):
        return None  # the class does take it: something else is wrong
    if name in compat.PREPROCESSORS:
        return None if has_files(checkpoint, name) else preprocessor_error(suggest(checkpoint, name), failure)
    return model_error(suggest(checkpoint, name)) if isinstance(failure, ValueError) else None


def of_pipeline(failure: BaseException, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseException | None:
    """What a failed ``pipeline()`` was: a checkpoint that no class of the task takes."""
    task = args[0] if args else kwargs.get("task")
    source = args[1] if len(args) > 1 else kwargs.get("model")
    if not isinstance(task, str) or isinstance(failure, ImportError):
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
    """What was to be loaded; ``None`` where that is no checkpoint, which transformers' own error is about."""
    given = kwargs.get("config")
    where = {name: kwargs[name] for name in _HUB_ARGUMENTS if kwargs.get(name) is not None}
    try:
        checkpoint = read(source, **where)
        if isinstance(given, compat.config_base()):
            return checkpoint.with_config(given)
    except CheckpointError:
        return None
    return checkpoint


def _of_tokenizer(failure: BaseException, checkpoint: Checkpoint) -> UnknownArchitectureError | None:
    """The tokenizer class that the checkpoint names is not in the installed transformers."""
    settings = checkpoint.tokenizer_settings()
    name = settings.get("tokenizer_class") or checkpoint.settings.get("tokenizer_class")
    is_of_class = isinstance(failure, (ValueError, VocabularyError))
    if not is_of_class or not isinstance(name, str) or settings.get("auto_map"):
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
    return _error(MissingNameError, told, missing=name, module=failure.name, path=failure.path)


def _missing_name(failure: ImportError) -> str:
    """The name of ``from module import name``; empty where it is the module that is missing."""
    if isinstance(failure, ModuleNotFoundError):
        return ""
    found = re.match(r"cannot import name '(\w+)' from '[\w.]+'", str(failure))  # Python's own text, 3.10 to 3.13
    return found[1] if found else ""


def _error(cls: type[Told], told: Explanation, **details: Any) -> Told:
    return cls(told.code, told.what, why=told.why, do=told.do, off=OFF, **details)
