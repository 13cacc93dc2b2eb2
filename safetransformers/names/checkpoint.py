"""What a checkpoint is, learned without loading it or asking a hub: its configuration, and where its files are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        revision: the revision that was asked for, to be kept in the line to paste.
        is_loadable: whether ``from_pretrained`` fits, and not only ``from_config``.
    """

    source: str
    name: str
    settings: Mapping[str, Any]
    config: Any
    config_class: type | None
    folder: Path | None = None
    revision: str | None = None
    is_loadable: bool = True

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
_FILES: Final = {
    "AutoTokenizer": ("tokenizer_config.json", "tokenizer.json"),
    "AutoProcessor": ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"),
    "AutoImageProcessor": ("preprocessor_config.json", "processor_config.json"),
    "AutoFeatureExtractor": ("preprocessor_config.json", "processor_config.json"),
    "AutoVideoProcessor": ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"),
}


def has_files(checkpoint: Checkpoint, auto: str) -> bool:
    """Whether the folder has a file of its own for an Auto class of tokenizers or processors."""
    return checkpoint.folder is not None and any((checkpoint.folder / name).is_file() for name in _FILES[auto])


def read(source: Any, *, revision: str | None = None, cache_dir: Any = None, subfolder: str = "") -> Checkpoint:
    """What ``source`` is: a configuration, a folder, a cached repository, or a ``model_type``. Makes no request.

    Raises:
        CheckpointError: where it is none of these, or its ``config.json`` cannot be read.
    """
    if isinstance(source, compat.config_base()):
        return _of_config(source)
    if not isinstance(source, (str, os.PathLike)):
        raise _unreadable(
            f"a {type(source).__name__} is no checkpoint",
            "pass a folder, a repository, a model_type or a configuration",
        )
    path = Path(source)
    if path.is_dir():
        return _of_folder(path / subfolder, _pasted(source), path.resolve().name or relative(source), revision)
    if path.is_file():
        return _of_folder(path.parent, "path", path.name, revision, path)
    text = str(source)
    if (known := compat.config_class(text)) is not None:
        config = _made(known, {})
        settings = {"model_type": text} if config is None else _settings_of(config)
        return Checkpoint(f"AutoConfig.for_model({text!r})", text, settings, config, known, is_loadable=False)
    if is_repo_id(text):
        folder = _cached(text, revision, cache_dir)
        if folder is not None:
            return _of_folder(folder / subfolder, repr(text), text, revision)
    raise _not_found(text, cache_dir)


def _of_config(config: Any) -> Checkpoint:
    settings = _settings_of(config)
    folder = Path(config._name_or_path) if getattr(config, "_name_or_path", "") else None
    name = f"{type(config).__name__}"
    return Checkpoint(
        "config",
        name,
        settings,
        config,
        type(config),
        folder if folder and folder.is_dir() else None,
        is_loadable=False,
    )


def _of_folder(folder: Path, source: str, name: str, revision: str | None, file: Path | None = None) -> Checkpoint:
    file = file or folder / CONFIG
    if not file.is_file() and (folder / _ADAPTER).is_file():
        return _of_adapter(folder, source, name, revision)
    settings = _json(file)
    config_class = compat.config_class(str(settings.get("model_type", "")))
    return Checkpoint(source, name, settings, _made(config_class, settings), config_class, folder, revision)


def _of_adapter(folder: Path, source: str, name: str, revision: str | None) -> Checkpoint:
    """An adapter of peft has no configuration of a model: that of its base is what the Auto classes load it with."""
    base = _json(folder / _ADAPTER).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise _unreadable(
            f"{name} is a peft adapter that does not name its base", f"name it in {_ADAPTER}: base_model_name_or_path"
        )
    found = read(base)
    return Checkpoint(
        source,
        f"{name}, a peft adapter of {found.name},",
        found.settings,
        found.config,
        found.config_class,
        found.folder,
        revision,
    )


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


def _pasted(source: str | os.PathLike[str]) -> str:
    """A relative folder as it was given; an absolute one may hold names that do not belong in a log."""
    return repr(os.fspath(source)) if not os.path.isabs(source) else "path"


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
    name = relative(text) if os.path.isabs(text) else text
    return _unreadable(f"{name!r} is no folder, no cached repository and no model_type", do or "name one of these", why)


def _unreadable(what: str, do: str, why: str = "") -> CheckpointError:
    return CheckpointError(_CODE, what, why=why, do=do)
