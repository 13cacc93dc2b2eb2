"""Which save lies at a path: its format, the files of its weights, and where its configuration may be."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ...errors import UnknownSaveError
from ...notices import relative
from . import bundle
from .h5 import is_h5
from .refusals import broken, leaves_folder, member, natural, read_json, unsafe

SHARDS: Final = "tf_model.h5.index.json"
WEIGHTS: Final = "tf_model.h5"
FLAX: Final = "flax_model.msgpack"
FLAX_SHARDS: Final = "flax_model.msgpack.index.json"
SAVED_MODEL: Final = "saved_model.pb"
KERAS_METADATA: Final = "keras_metadata.pb"
_PICKLES: Final = (".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib")


@dataclass(frozen=True)
class Save:
    """A save as it lies on disk.

    Attributes:
        format: ``h5``, ``h5 shards``, ``keras archive``, ``SavedModel``, ``checkpoint`` or ``flax``.
        folder: that holds the files, and beside them configuration and tokenizer.
        weights: the files to read, in their order; for a checkpoint its prefix.
        index: the file that lists shards.
        homes: folders in which ``config.json`` may lie, the nearest first.
        passed_over: other saves in the folder that were not read.
    """

    format: str
    folder: Path
    weights: tuple[Path, ...]
    index: Path | None = None
    homes: tuple[Path, ...] = ()
    passed_over: tuple[str, ...] = field(default=())


def find(src: Path) -> Save:
    """The save at a path: a folder, one of its files, or the prefix of a checkpoint.

    Raises:
        UnknownSaveError: where there is none, or several and no rule says which.
        BrokenSaveError: where part of one is missing.
        UnsafeSaveError: where an index names a file outside the folder, or there is only a pickle.
    """
    if src.is_dir():
        return _in_folder(src)
    if src.is_file():
        return _of_file(src)
    if src.with_name(src.name + ".index").is_file():
        return _checkpoint(src.parent, src.name)
    raise UnknownSaveError(
        "ST-TF-001",
        f"{relative(src)} does not exist",
        do="give the folder of the save, its file, or the prefix of a checkpoint (the path without .index)",
    )


def _of_file(file: Path) -> Save:
    folder, name = file.parent, file.name
    if name in {SHARDS, FLAX_SHARDS}:
        return Save("flax" if name == FLAX_SHARDS else "h5 shards", folder, indexed(file), file, _homes(folder))
    if name == SAVED_MODEL:
        return _saved_model(folder)
    if name.endswith((".index", ".meta")) or re.search(r"\.data-\d{5}-of-\d{5}$", name):
        return _checkpoint(folder, re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", name))
    if is_h5(name):
        return Save("h5", folder, (file,), homes=_homes(folder))
    if name.endswith(".keras"):
        return Save("keras archive", folder, (file,), homes=_homes(folder))
    if name.endswith(".msgpack"):
        return Save("flax", folder, (file,), homes=_homes(folder))
    if name.endswith(_PICKLES):
        raise _pickle(file)
    raise UnknownSaveError(
        "ST-TF-001",
        f"{relative(file)} is of no format that is read",
        why="known are .h5, .keras, saved_model.pb, checkpoints (.index and .data) and .msgpack",
        do="give the folder of the save",
    )


def _in_folder(folder: Path) -> Save:
    names = natural(os.listdir(folder))
    found = [save for look in _LOOKS if (save := look(folder, names)) is not None]
    if found:
        first, *others = found
        passed_over = tuple(_title(save) for save in others)
        return Save(first.format, folder, first.weights, first.index, first.homes, passed_over)
    raise _nothing(folder, names)


def _title(save: Save) -> str:
    return f"{save.format} ({', '.join(relative(file) for file in save.weights[:1])})"


def _shards(folder: Path, names: list[str]) -> Save | None:
    return _of_file(folder / SHARDS) if SHARDS in names else None


def indexed(index: Path) -> tuple[Path, ...]:
    """The shards that an index lists, each once.

    Raises:
        BrokenSaveError: where it is no index, or a shard is missing.
        UnsafeSaveError: where a name leaves the folder.
    """
    return tuple(member(index.parent, name, index) for name in listed(index))


def listed(index: Path) -> list[str]:
    """The names of the shards that an index lists, each once, whether they are there or not.

    Raises:
        BrokenSaveError: where it is no index.
    """
    content = read_json(index)
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise broken(index, "it has no weight_map from weights to files")
    return natural(set(files.values()))


def _tf_model(folder: Path, names: list[str]) -> Save | None:
    return Save("h5", folder, (folder / WEIGHTS,), homes=_homes(folder)) if WEIGHTS in names else None


def _keras(folder: Path, names: list[str]) -> Save | None:
    return _only(folder, [name for name in names if name.endswith(".keras")], "keras archive")


def _other_h5(folder: Path, names: list[str]) -> Save | None:
    found = [name for name in names if is_h5(name) and not re.match(r"tf_model(-\d+-of-\d+)?\.h5$", name)]
    weights = [name for name in found if name.endswith(".weights.h5")]
    return _only(folder, weights or found, "h5")


def _only(folder: Path, names: list[str], form: str) -> Save | None:
    if not names:
        return None
    if len(names) > 1:
        raise UnknownSaveError(
            "ST-TF-001",
            f"{relative(folder)} holds {len(names)} saves: {', '.join(names[:5])}",
            do=f"name one of them: safetransformers convert {relative(folder)}/{names[0]} DST",
        )
    return Save(form, folder, (folder / names[0],), homes=_homes(folder))


def _flat_saved_model(folder: Path, names: list[str]) -> Save | None:
    return _saved_model(folder) if SAVED_MODEL in names else None


def _nested_saved_model(folder: Path, names: list[str]) -> Save | None:
    """``save_pretrained(saved_model=True)`` writes ``saved_model/1``; serving counts versions upward."""
    if "saved_model" not in names or not (folder / "saved_model").is_dir():
        return None
    inside = folder / "saved_model"
    versions = [name for name in natural(os.listdir(inside)) if (inside / name / SAVED_MODEL).is_file()]
    if (inside / SAVED_MODEL).is_file():
        return _saved_model(inside)
    return _saved_model(inside / versions[-1]) if versions else None


def _saved_model(folder: Path) -> Save:
    prefix = folder / "variables" / "variables"
    if not prefix.with_name("variables.index").is_file():
        raise broken(
            folder / SAVED_MODEL,
            "a SavedModel keeps its weights in variables/variables.index, which is not there",
            "copy the whole folder of the SavedModel, with variables/",
        )
    return Save("SavedModel", folder, (prefix,), homes=_homes(folder))


def _any_checkpoint(folder: Path, names: list[str]) -> Save | None:
    found = bundle.prefixes(names)
    if not found:
        return None
    latest = _latest(folder) if "checkpoint" in names else None
    if latest in found:
        return _checkpoint(folder, latest)
    if len(found) > 1:
        raise UnknownSaveError(
            "ST-TF-001",
            f"{relative(folder)} holds {len(found)} checkpoints: {', '.join(found[:5])}",
            do=f"name one of them: safetransformers convert {relative(folder)}/{found[-1]} DST",
        )
    return _checkpoint(folder, found[0])


def _latest(folder: Path) -> str | None:
    """The checkpoint that TensorFlow's ``checkpoint`` file calls the latest, by its last part."""
    try:
        text = (folder / "checkpoint").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return None
    named = re.search(r'^model_checkpoint_path:\s*"([^"]+)"', text, re.MULTILINE)
    return os.path.basename(named[1]) if named else None


def _checkpoint(folder: Path, prefix: str) -> Save:
    return Save("checkpoint", folder, (folder / prefix,), homes=_homes(folder))


def _flax(folder: Path, names: list[str]) -> Save | None:
    name = next((name for name in (FLAX_SHARDS, FLAX) if name in names), None)
    return _of_file(folder / name) if name else None


# The cheapest to read and the likeliest to be whole comes first.
_LOOKS: Final = (
    _shards,
    _tf_model,
    _flat_saved_model,
    _nested_saved_model,
    _keras,
    _other_h5,
    _any_checkpoint,
    _flax,
)


def _homes(folder: Path) -> tuple[Path, ...]:
    """The folder, one level up, and for ``saved_model/1`` the folder that both lie in."""
    homes = [folder]
    if (folder / SAVED_MODEL).is_file() or not (folder / "config.json").is_file():
        homes.append(folder.parent)
        if folder.parent.name == "saved_model":
            homes.append(folder.parent.parent)
    return tuple(homes)


def _nothing(folder: Path, names: list[str]) -> Exception:
    shards = [name for name in names if re.match(r"tf_model-\d+-of-\d+\.h5$", name)]
    if shards:
        return broken(folder / shards[0], f"it is a shard, and {SHARDS} is not there", f"fetch {SHARDS} too")
    lonely = bundle.orphans(folder)
    if lonely:
        return broken(
            folder / f"{lonely[0]}.index", "the data of the checkpoint is there, its index is not", "fetch it too"
        )
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        return _pickle(folder / pickles[0])
    why = f"it has {len(names)} files: {', '.join(names[:5])}" if names else "it is empty"
    if any(name.endswith(".safetensors") for name in names):
        why += "; safetensors need no conversion"
    return UnknownSaveError(
        "ST-TF-001",
        f"{relative(folder)} holds no TensorFlow, Keras or Flax weights",
        why=why,
        do=f"the weights are {WEIGHTS}, *.keras, *.weights.h5, {SAVED_MODEL}, *.index and *.data, or {FLAX}",
    )


def _pickle(file: Path) -> Exception:
    return unsafe(
        file,
        "it is a pickle, and loading one runs code",
        "convert from the TensorFlow files; torch's .bin loads with from_pretrained as it is",
    )


def check_links(file: Path, folder: Path) -> None:
    """Refuse a symbolic link that leaves the folder, but for those of the hub cache into its own blobs.

    Raises:
        UnsafeSaveError: where it leaves.
    """
    if not file.is_symlink():
        return
    real, home = file.resolve(), folder.resolve()
    if home.parent.name == "snapshots":
        home = home.parent.parent
    if not real.is_relative_to(home):
        raise leaves_folder(file, real.name)
