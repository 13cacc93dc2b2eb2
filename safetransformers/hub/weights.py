"""Which weights of a commit a load reads: the formats in transformers' order, with their shards.

Source of names and order: ``_get_resolved_checkpoint_files`` in modeling_utils.py and ``utils/__init__.py`` of
transformers 4.57.6 and 5.23.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .integrity import Damage, inside

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
_OTHER = (
    *("tf_model.h5", "tf_model.h5.index.json", "flax_model.msgpack", "flax_model.msgpack.index.json"),
    "model.ckpt.index",
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)?")
_VARIANT = re.compile(
    r"(?:model\.safetensors\.index|pytorch_model\.bin\.index|model|pytorch_model)\.(?P<variant>[\w-]+)\.(?:json|safetensors|bin)"
)
_MAX_TOLD = 16
_MAX_INDEX_BYTES = 256 * 1024 * 1024


def with_variant(name: str, variant: str | None) -> str:
    """The name of a variant's file: the variant stands before the last ending.

    Example:
        >>> with_variant("model.safetensors.index.json", "fp16")
        'model.safetensors.index.fp16.json'
    """
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{variant}.{ending}" if variant else name


def pick_weights(
    files: Mapping[str, Path], prefix: str, *, variant: str | None, safetensors_only: bool, adapter: bool
) -> tuple[list[str], list[Damage]]:
    """The files of the format that transformers finds first, and which of them are not there.

    Args:
        files: every file of the commit, name -> path.
        prefix: the subfolder with its "/", or "".
        variant: such as ``"fp16"``.
        safetensors_only: no other format counts.
        adapter: the adapter's weights, not a model's.

    Returns:
        The names to read (there or not), and the damages known already. No names: there are no weights.
    """
    for name in _names(files, prefix, variant, safetensors_only, adapter):
        if prefix + name in files:
            if name.endswith(".json"):
                return _sharded(files, prefix, name)
            if name == "model.ckpt.index":
                return _numbered(files, prefix, "model.ckpt.data", prefix + name)
            return [prefix + name], []
    if safetensors_only or adapter:
        return [], []
    first: tuple[list[str], list[Damage]] = ([], [])
    for name in sorted(name for name in files if name.startswith(prefix) and name.endswith(".gguf")):
        if "/" not in name[len(prefix) :]:
            found = file_with_shards(files, name)
            if not found[1]:
                return found
            first = first if first[0] else found
    return first


def variants(files: Mapping[str, Path], prefix: str) -> list[str]:
    """The variants that a commit has weights of."""
    matches = (_VARIANT.fullmatch(name[len(prefix) :]) for name in files if name.startswith(prefix))
    return sorted({match["variant"] for match in matches if match and match["variant"] not in ("index", "bin")})


def file_with_shards(files: Mapping[str, Path], name: str) -> tuple[list[str], list[Damage]]:
    """One file by name; for ``…-00001-of-0000N`` all N of them."""
    match = _SHARD.fullmatch(name)
    if match is None:
        return [name], [] if name in files else [Damage(name, "missing")]
    wanted = (
        f"{match['stem']}-{number:05}-of-{match['count']}{match['ending'] or ''}"
        for number in range(1, int(match["count"]) + 1)
    )
    return _present(files, wanted, f"one of {int(match['count'])} shards")


def _names(
    files: Mapping[str, Path], prefix: str, variant: str | None, safetensors_only: bool, adapter: bool
) -> Iterator[str]:
    if adapter:
        yield from _ADAPTER[:1] if safetensors_only else _ADAPTER
        return
    named = _value(files.get(prefix + "config.json"), "transformers_weights")
    if isinstance(named, str) and inside(named):
        yield named
    for name in _SAFE if safetensors_only else (*_SAFE, *_PICKLED):
        yield with_variant(name, variant)
    if not safetensors_only:
        yield from _OTHER


def _sharded(files: Mapping[str, Path], prefix: str, index: str) -> tuple[list[str], list[Damage]]:
    weight_map = _value(files[prefix + index], "weight_map")
    shards = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not shards or not all(isinstance(shard, str) for shard in shards):
        return [prefix + index], [Damage(prefix + index, "not its format", "a weight_map that names the shards")]
    outside = sorted({shard for shard in shards if not inside(shard)})
    if outside:
        return [prefix + index], [
            Damage(shard, "a name outside the repository", f"a shard beside {prefix + index}")
            for shard in outside[:_MAX_TOLD]
        ]
    names, damages = _present(files, (prefix + shard for shard in sorted(set(shards))), f"as {index} says")
    return [prefix + index, *names], damages


def _numbered(files: Mapping[str, Path], prefix: str, stem: str, index: str) -> tuple[list[str], list[Damage]]:
    start = f"{prefix}{stem}-"
    first = next((name for name in files if name.startswith(start) and _SHARD.fullmatch(name)), None)
    if first is None:
        return [index], [Damage(start + "00000-of-00001", "missing")]
    count = int(_SHARD.fullmatch(first)["count"])  # type: ignore[index]
    names, damages = _present(
        files, (f"{start}{number:05}-of-{count:05}" for number in range(count)), f"as {index} says"
    )
    return [index, *names], damages


def _present(files: Mapping[str, Path], wanted: Iterator[str], why: str) -> tuple[list[str], list[Damage]]:
    names: list[str] = []
    damages: list[Damage] = []
    for name in wanted:
        if name in files:
            names.append(name)
        elif len(damages) < _MAX_TOLD:
            damages.append(Damage(name, "missing", why))
    return names, damages


def _value(path: Path | None, key: str) -> Any:
    """A value of a JSON file of the commit; ``None`` where it cannot be had."""
    try:
        if path is None or path.stat().st_size > _MAX_INDEX_BYTES:
            return None
        return json.loads(path.read_bytes())[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
