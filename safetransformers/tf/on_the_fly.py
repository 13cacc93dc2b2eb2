"""Loads of a checkpoint that has no torch weights: converted once, into a cache that is keyed by content."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .. import compat, policies
from ..counts import count
from ..errors import ConversionError, DestinationError, MissingExtraError
from ..notices import relative
from .config.configs import CONFIG
from .read import sources
from .read.opening import sha256
from .write import files

_TORCH: Final = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")
_WEIGHTS: Final = (sources.SHARDS, sources.WEIGHTS, sources.FLAX_SHARDS, sources.FLAX)


def redirected(source: Any, kwargs: dict[str, Any], *, has_failed: bool) -> tuple[Any, dict[str, Any]] | None:
    """Another folder to load from, and the arguments for that, where the source has nothing that torch reads.

    Args:
        source: what ``from_pretrained`` was asked for.
        kwargs: its arguments; ``from_tf=True`` and ``from_flax=True`` ask for the conversion also beside torch weights.
        has_failed: the load was tried, and found no torch weights. Of a repository, which may have some that are not in
            the cache, nothing is converted before that.

    Returns:
        ``None`` where the load is none of ours: the policy is ``off``, or torch weights are there.

    Raises:
        ConversionError: the policy is ``raise``, with the command that converts; a package is missing; or as
            ``convert`` raises.
    """
    mode = policies.resolve("tf_weights")
    is_asked = bool(kwargs.get("from_tf") or kwargs.get("from_flax"))
    if mode == "off" or source is None or kwargs.get("state_dict") is not None or kwargs.get("gguf_file"):
        return None
    if not (os.path.isdir(source) or is_asked or has_failed):
        return None
    folder = _folder(source, kwargs, is_asked=is_asked)
    if folder is None or not (is_asked or needs_conversion(folder)):
        return None
    if mode == "raise":
        raise refused(folder)
    named = (folder / name for name in _wanted(kwargs)) if is_asked else ()
    save = next((file for file in named if file.is_file()), folder)  # from_flax=True also beside TensorFlow's
    rest = {name: value for name, value in kwargs.items() if name not in {"from_tf", "from_flax", "subfolder"}}
    try:
        return str(cached(save)), rest
    except MissingExtraError as error:  # a load that finds no weights is an OSError
        off = 'with safetransformers.policy(tf_weights="off"): ...'
        raise ConversionError(error.code, error.what, why=error.why, do=error.do, off=off) from error


def needs_conversion(folder: Path) -> bool:
    """Whether a folder holds a save that ``convert`` reads and nothing that torch does."""
    if not folder.is_dir():
        return False
    names = os.listdir(folder)
    if any(name.endswith(_TORCH) for name in names):
        return False
    return any(name.endswith((".h5", ".keras", ".index", ".msgpack")) for name in names) or any(
        name in {sources.SAVED_MODEL, "saved_model"} for name in names
    )


def cached(path: Path) -> Path:
    """The converted copy of a save, by its folder or a file of it, made where it is not there yet.

    Costs a read of the save at each load, for its digest, and the conversion at the first.
    """
    from .convert import convert

    save = sources.find(path)
    target = root() / _key(save)
    if not (target / CONFIG).is_file():
        with suppress(DestinationError):  # another process was faster, with the same bytes
            convert(path, target, forward=False)  # the load that asks for it runs the model
            count("tf.converted_on_the_fly")
    return target


def root() -> Path:
    """The folder of converted copies, beside the hub's cache: ``$HF_HOME/safetransformers/converted``."""
    return Path(compat.hub_home()) / "safetransformers" / "converted"


def refused(folder: Path) -> ConversionError:
    """The error of ``tf_weights="raise"``."""
    count("tf.raised")
    name = relative(folder)
    return ConversionError(
        "ST-TF-010",
        f"{name} has TensorFlow weights only, and the policy is tf_weights='raise'",
        why="a conversion while a model loads is not something that production should do by itself",
        do=f"once: safetransformers convert {name} {name}-torch",
        off='with safetransformers.policy(tf_weights="convert"): ...',
    )


def _key(save: sources.Save) -> str:
    """A digest of all that decides the result."""
    files = [file for prefix in save.weights for file in sorted(prefix.parent.glob(f"{prefix.name}*"))]
    configs = [home / CONFIG for home in save.homes if (home / CONFIG).is_file()][:1]
    digest = hashlib.sha256()
    for name, one in sorted(sha256(tuple(dict.fromkeys([*files, *configs]))).items()):
        digest.update(f"{name} {one}\n".encode())
    return digest.hexdigest()[:40]


def _folder(source: Any, kwargs: dict[str, Any], *, is_asked: bool) -> Path | None:
    """The local folder of a source: itself, or the snapshot in the hub cache that holds its TensorFlow weights."""
    inside = kwargs.get("subfolder") or ""
    if os.path.isdir(source):
        return Path(source) / inside
    if os.path.exists(source) or not isinstance(source, str):
        return None
    return _snapshot(source, kwargs, inside, is_asked=is_asked)


def _snapshot(repo_id: str, kwargs: dict[str, Any], inside: str, *, is_asked: bool) -> Path | None:
    """The folder in the hub cache that holds a repository's TensorFlow or Flax weights, fetched where they lack.

    Costs a request for each name that is not in the cache. Unasked, nothing is fetched of a repository of which the hub
    has not said that it has no torch weights.
    """
    from transformers.utils.hub import extract_commit_hash

    repo = _Repository(repo_id, kwargs, inside, is_asked=is_asked)
    config = repo.file(CONFIG)
    if config is not None:
        repo.revision = extract_commit_hash(str(config), None) or repo.revision  # all files of one commit
    repo.may_fetch = is_asked or repo.lacks(files.WEIGHTS)
    for name in _wanted(kwargs):
        found = repo.file(name)
        if found is None:
            continue
        for shard in sources.listed(found) if name in {sources.SHARDS, sources.FLAX_SHARDS} else ():
            repo.file(shard)
        repo.file("generation_config.json")
        return found.parent
    return None


def _wanted(kwargs: dict[str, Any]) -> tuple[str, ...]:
    if kwargs.get("from_flax"):
        return sources.FLAX_SHARDS, sources.FLAX
    return _WEIGHTS[:2] if kwargs.get("from_tf") else _WEIGHTS


class _Repository:
    """The files of one revision, from the cache first; from the hub where that is allowed."""

    def __init__(self, repo_id: str, kwargs: dict[str, Any], inside: str, *, is_asked: bool) -> None:
        self.revision: str = kwargs.get("revision") or "main"
        self.may_fetch = is_asked
        self._repo_id, self._prefix = repo_id, f"{inside}/" if inside else ""
        names = ("cache_dir", "token", "local_files_only", "force_download")
        self._options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        # Unasked, the error of the load that failed is the one to show, and none of these.
        self._options |= {"_raise_exceptions_for_missing_entries": False}
        self._options |= {} if is_asked else {"_raise_exceptions_for_connection_errors": False}

    def file(self, name: str) -> Path | None:
        """Where a file lies, or ``None``."""
        from transformers.utils.hub import cached_file

        held = self._held(name)
        if isinstance(held, str):
            return Path(held)
        if not self.may_fetch:
            return None
        found = cached_file(self._repo_id, self._prefix + name, revision=self.revision, **self._options)
        return None if found is None else Path(found)

    def lacks(self, name: str) -> bool:
        """Whether the hub has said that there is no such file."""
        from huggingface_hub import _CACHED_NO_EXIST

        return self._held(name) is _CACHED_NO_EXIST

    def _held(self, name: str) -> Any:
        from huggingface_hub import try_to_load_from_cache

        cache = self._options.get("cache_dir")
        return try_to_load_from_cache(self._repo_id, self._prefix + name, revision=self.revision, cache_dir=cache)
