"""What a checkpoint is, learned without loading it or asking a hub: its configuration, and where its files are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from .. import compat
from ..errors import CheckpointError, SafeTransformersError
from ..hub.snapshots import commits, ref, repo_folder, similar_repos
from ..hub.wanted import is_repo_id
from ..loading.rules import is_commit_hash
from ..notices import relative

CONFIG: Final = "config.json"
_ADAPTER: Final = "adapter_config.json"
_CODE: Final = "ST-TASK-004"


@dataclass(frozen=True)
class Checkpoint:
    """A configuration, and where its weights are, if anywhere.

    Attributes:
        source: the argument as it goes into a line to paste: ``'"org/name"'``, ``"path"``, ``"config"``.
        name: what to call it in a sentence; never a whole path.
        settings: ``config.json`` as it is.
        config: the configuration object; ``None`` where the installed transformers cannot make it.
        config_class: its class; ``None`` for a ``model_type`` that the installed transformers does not know.
        folder: where the weights are looked for; ``None`` for a configuration or a ``model_type`` alone.
        arguments: what else goes into the line to paste, such as the revision.
        is_loadable: whether ``from_pretrained`` fits, and not only ``from_config``.
        is_local: whether it is a folder of the user's: what a cache lacks may not have been fetched.
    """

    source: str
    name: str
    settings: Mapping[str, Any]
    config: Any
    config_class: type | None
    folder: Path | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    is_loadable: bool = True
    is_local: bool = True

    @property
    def model_type(self) -> str:
        """The ``model_type`` of the configuration; empty where it has none."""
        return str(self.settings.get("model_type") or getattr(self.config, "model_type", "") or "")

    @property
    def architectures(self) -> tuple[str, ...]:
        """The classes that the checkpoint says it was saved from."""
        named = self.settings.get("architectures")
        return tuple(name for name in named if isinstance(name, str)) if isinstance(named, (list, tuple)) else ()

    @property
    def auto_map(self) -> Mapping[str, Any]:
        """The Auto classes that the checkpoint brings code of its own for."""
        named = self.settings.get("auto_map")
        return named if isinstance(named, Mapping) else {}

    def with_config(self, config: Any) -> Checkpoint:
        """The same checkpoint, to be loaded with a configuration of the caller's."""
        return replace(
            self, config=config, config_class=type(config), settings={**self.settings, **_settings_of(config)}
        )

    def tokenizer_settings(self) -> Mapping[str, Any]:
        """``tokenizer_config.json``; empty where there is none that can be read."""
        try:
            return _json(self.folder / "tokenizer_config.json") if self.folder else {}
        except CheckpointError:
            return {}


# What each Auto class of preprocessors reads beside the configuration: with one of these, it has something to load.
_PROCESSOR: Final = ("preprocessor_config.json", "processor_config.json")
_FILES: Final = {
    "AutoTokenizer": ("tokenizer*.json", "vocab.*", "*.model", "*.tiktoken", "merges.txt"),
    "AutoProcessor": (*_PROCESSOR, "tokenizer*.json", "vocab.*", "*.model"),  # it falls back to a tokenizer
    "AutoImageProcessor": _PROCESSOR,
    "AutoFeatureExtractor": _PROCESSOR,
    "AutoVideoProcessor": ("video_preprocessor_config.json", *_PROCESSOR),
}


def has_files(checkpoint: Checkpoint, auto: str) -> bool:
    """Whether there is something of its own for an Auto class of tokenizers or processors, a class by name among it."""
    if auto == "AutoTokenizer" and checkpoint.settings.get("tokenizer_class"):
        return True
    folder = checkpoint.folder
    return folder is not None and any(next(folder.glob(name), None) is not None for name in _FILES[auto])


def read(
    source: Any,
    *,
    revision: str | None = None,
    cache_dir: Any = None,
    subfolder: str = "",
    is_type_meant: bool = True,
) -> Checkpoint:
    """What ``source`` is: a configuration, a folder, a cached repository, or a ``model_type``. Makes no request.

    Args:
        source: any of these.
        revision: of a cached repository.
        cache_dir: where it is cached.
        subfolder: inside the folder or repository.
        is_type_meant: whether a text may be a ``model_type``, which ``from_pretrained`` never takes.

    Raises:
        CheckpointError: where it is none of these, or its ``config.json`` cannot be read.
    """
    if isinstance(source, compat.config_base()):
        settings = _settings_of(source)
        return Checkpoint("config", type(source).__name__, settings, source, type(source), is_loadable=False)
    if not isinstance(source, (str, os.PathLike)):
        do = "pass a folder, a repository, a model_type or a configuration"
        raise _unreadable(f"a {type(source).__name__} is no checkpoint", do)
    asked = {"revision": revision, "subfolder": subfolder or None}
    arguments = {name: repr(value) for name, value in asked.items() if value is not None}
    text, path = str(source), Path(source)
    if text and _is(path.is_dir):
        pasted = repr(os.fspath(source)) if not os.path.isabs(source) else "path"  # whose folders are nobody's business
        return _of_folder(path / subfolder, pasted, path.resolve().name, arguments, cache_dir)
    if text and _is(path.is_file):
        return _of_folder(path.parent, "path", path.name, arguments, cache_dir, path)
    if is_repo_id(text) and (folder := _cached(text, revision, cache_dir)) is not None:
        if cache_dir is not None:
            arguments["cache_dir"] = "cache_dir"
        found = _of_folder(folder / subfolder, repr(text), text, arguments, cache_dir)
        return replace(found, is_local=False)
    known = compat.config_class(text) if is_type_meant else None
    if known is None:
        raise _not_found(text, cache_dir)
    config = _made(known, {})
    settings = {"model_type": text} if config is None else _settings_of(config)
    return Checkpoint(f"AutoConfig.for_model({text!r})", text, settings, config, known, is_loadable=False)


def _is(look: Callable[[], bool]) -> bool:
    """What a look at a path says; a text that cannot be a path is none."""
    try:
        return look()
    except (OSError, ValueError):
        return False


def _of_folder(
    folder: Path, source: str, name: str, arguments: Mapping[str, str], cache_dir: Any, file: Path | None = None
) -> Checkpoint:
    file = file or folder / CONFIG
    if not file.is_file() and (folder / _ADAPTER).is_file():
        return _of_adapter(folder, source, name, arguments, cache_dir)
    settings = _json(file)
    config_class = compat.config_class(str(settings.get("model_type", "")))
    return Checkpoint(source, name, settings, _made(config_class, settings), config_class, folder, arguments)


def _of_adapter(folder: Path, source: str, name: str, arguments: Mapping[str, str], cache_dir: Any) -> Checkpoint:
    """An adapter of peft has no configuration of a model: that of its base is what the Auto classes load it with."""
    base = _json(folder / _ADAPTER).get("base_model_name_or_path")
    if not isinstance(base, str) or not base or (Path(base) / _ADAPTER).is_file():
        what = f"{name} is a peft adapter that does not name a base model"
        raise _unreadable(what, f"name it in {_ADAPTER}: base_model_name_or_path")
    found = read(base, cache_dir=cache_dir, is_type_meant=False)
    called = f"{name}, a peft adapter of {found.name},"
    return replace(found, source=source, name=called, arguments=arguments)


def _made(config_class: Any, settings: Mapping[str, Any]) -> Any:
    """The configuration object, or ``None`` where its class refuses the settings: what it is can be told without."""
    if config_class is None:
        return None
    try:
        return config_class.from_dict(dict(settings))
    except Exception:  # noqa: BLE001 - a class validates as it likes; the load itself tells what is wrong
        return None


def _settings_of(config: Any) -> dict[str, Any]:
    return {
        "model_type": config.model_type,
        "architectures": config.architectures,
        "auto_map": getattr(config, "auto_map", None),
    }


def _cached(repo_id: str, revision: str | None, cache_dir: Any) -> Path | None:
    """The newest cached commit of a repository that has a configuration, or the one that is asked for."""
    repo = repo_folder(cache_dir or compat.hub_cache(), repo_id)
    commit = revision if is_commit_hash(revision) else ref(repo, revision or "main")
    if commit is not None:
        folder = repo / "snapshots" / commit
        return folder if folder.is_dir() else None
    if revision is not None:
        return None
    found = (snapshot.folder for snapshot in commits(repo))
    return next((folder for folder in found if (folder / CONFIG).is_file() or (folder / _ADAPTER).is_file()), None)


def _json(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _unreadable(
            f"there is no {file.name} in {file.parent.name}", "name the folder that save_pretrained wrote"
        ) from None
    except OSError as error:
        raise _unreadable(f"{file.name} cannot be read: {error.strerror}", "look at its permissions") from error
    except ValueError as error:
        raise _unreadable(
            f"{file.name} of {file.parent.name} is not JSON: {error}", "save or fetch it again"
        ) from error
    if not isinstance(settings, dict):
        raise _unreadable(f"{file.name} of {file.parent.name} is not a JSON object", "save or fetch it again")
    return settings


def _not_found(text: str, cache_dir: Any) -> SafeTransformersError:
    import difflib

    near = difflib.get_close_matches(text, compat.model_types(), n=3, cutoff=0.7)
    repos = similar_repos(cache_dir or compat.hub_cache(), text) if is_repo_id(text) else []
    why = "; ".join(
        part
        for part in (
            f"model types with a like name: {', '.join(near)}" if near else "",
            f"cached repositories with a like name: {', '.join(repos)}" if repos else "",
        )
        if part
    )
    do = f"safetransformers prefetch {text}  # where the hub can be reached" if "/" in text and is_repo_id(text) else ""
    otherwise = "name a folder that save_pretrained wrote, a cached repository, or a model_type such as 'bert'"
    name = relative(text) if os.path.isabs(text) else text
    return _unreadable(f"{name!r} is no folder, no cached repository and no model_type", do or otherwise, why)


def _unreadable(what: str, do: str, why: str = "") -> CheckpointError:
    return CheckpointError(_CODE, what, why=why, do=do)
