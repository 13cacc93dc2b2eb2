"""The folder that is written beside the destination, and moved into place when all is there and compared."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ...errors import DestinationError
from ...notices import relative

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
ASIDE: Final = "unused_tensorflow_weights.safetensors"
Progress = Callable[[int, int], None]


def shard_names(count: int) -> list[str]:
    """The names of shards as ``save_pretrained`` gives them."""
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def write_index(folder: Path, shards: Mapping[str, Sequence[str]], size_bytes: int) -> None:
    """Write the index of several shards."""
    weight_map = {key: name for name, keys in shards.items() for key in keys}
    content = {"metadata": {"total_size": size_bytes}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / INDEX, content)


def write_json(file: Path, content: Any) -> None:
    """Write JSON as transformers does: two spaces, a line break at the end."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def beside(dst: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder beside the destination, which becomes the destination at the end, and is gone after an error.

    Of a destination that is overwritten, files that are no weights and that the new folder lacks are kept.

    Raises:
        DestinationError: where the destination exists and ``overwrite`` is not set, or cannot be written.
    """
    refuse_existing(dst, overwrite=overwrite)
    try:
        dst.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{dst.name}.", suffix=".unfinished", dir=dst.parent))
    except OSError as error:
        raise DestinationError(
            "ST-TF-007",
            f"{relative(dst)} cannot be written",
            why=f"{error.strerror or error}",
            do="name a destination in a folder that may be written",
        ) from None
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        _into_place(folder, dst)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_existing(dst: Path, *, overwrite: bool) -> None:
    """Refuse a destination that holds something.

    Raises:
        DestinationError: as said.
    """
    if dst.is_dir() and not dst.is_symlink():
        names = sorted(os.listdir(dst))
        if not names or overwrite:
            return
        why = f"it has {len(names)} files: {', '.join(names[:4])}"
    elif os.path.lexists(dst):
        why = "it is a file or a link"
    else:
        return
    raise DestinationError(
        "ST-TF-007",
        f"the destination {relative(dst)} exists",
        why=why,
        do="name another folder, or add --overwrite (overwrite=True), which replaces its weights",
    )


def _into_place(folder: Path, dst: Path) -> None:
    if not dst.exists():
        folder.rename(dst)
        return
    for name in os.listdir(dst):
        if not _is_weights(name) and not (folder / name).exists():
            _copy(dst / name, folder / name)
    old = Path(tempfile.mkdtemp(prefix=f".{dst.name}.", suffix=".old", dir=dst.parent))
    dst.rename(old / dst.name)
    try:
        folder.rename(dst)
    except OSError:
        (old / dst.name).rename(dst)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
