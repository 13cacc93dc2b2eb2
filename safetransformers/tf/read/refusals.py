"""What every reader refuses, in one wording: broken files, code, and paths that leave the folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from ...errors import BrokenSaveError, UnsafeSaveError
from ...notices import relative

_LFS: Final = b"version https://git-lfs.github.com/spec/"
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]")
_ZIP: Final = b"PK\x03\x04"
_LARGEST_JSON: Final = 256 * 2**20  # bytes; an index of a million tensors has about 100 MB


def broken(file: str | os.PathLike[str], why: str, do: str = "") -> BrokenSaveError:
    """The error for a file that is not what it should be; ``why`` says in what."""
    return BrokenSaveError(
        "ST-TF-002",
        f"{relative(file)} cannot be read",
        why=why,
        do=do or "copy or download the save again; a TensorFlow that still reads it can save it anew",
        file=relative(file),
    )


def unsafe(file: str | os.PathLike[str], why: str, do: str) -> UnsafeSaveError:
    """The error for a file that holds code."""
    return UnsafeSaveError("ST-TF-003", f"{relative(file)} is refused: {why}", do=do, file=relative(file))


def leaves_folder(file: str | os.PathLike[str], name: str) -> UnsafeSaveError:
    """The error for a file that points at something outside its folder."""
    return UnsafeSaveError(
        "ST-TF-004",
        f"{relative(file)} is refused: it points outside its folder",
        why=f"{relative(name)!r} is not a file of the save",
        do="put the file that is meant into the folder, and name it there",
        file=relative(file),
    )


def check_magic(file: Path, magic: bytes, kind: str) -> None:
    """Refuse a file that does not begin as its format does, and say what it is instead.

    Raises:
        BrokenSaveError: for an empty file, a git-lfs pointer, or another format.
        UnsafeSaveError: for a pickle.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(512)
    except OSError as error:
        raise broken(file, f"{error.strerror or error}", "check that the file exists and may be read") from None
    if start.startswith(magic):
        return
    if not start:
        raise broken(file, "it has zero bytes")
    if start.startswith(_LFS):
        raise broken(
            file,
            f"it is a git-lfs pointer of {file.stat().st_size} bytes, not {kind}",
            "git lfs install && git lfs pull",
        )
    if _PICKLE.match(start):
        raise unsafe(file, f"it is a pickle, not {kind}, and loading a pickle runs code", _RESAVE)
    if start.startswith(_ZIP):
        raise broken(file, f"it is a zip archive, not {kind}", "rename it to .keras if Keras wrote it")
    raise broken(file, f"it does not begin as {kind} does")


_RESAVE: Final = "where the weights come from, save them with model.save_pretrained(folder)"


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        BrokenSaveError: where it is no JSON, or larger than any that belongs to a model.
    """
    try:
        size = file.stat().st_size
        data = file.read_bytes() if size <= _LARGEST_JSON else b""
    except OSError as error:
        raise broken(file, f"{error.strerror or error}", "check that the file exists and may be read") from None
    if size > _LARGEST_JSON:
        raise broken(file, f"it has more than {_LARGEST_JSON:,} bytes")
    return parse_json(file, data)


def parse_json(file: str | os.PathLike[str], data: str | bytes) -> Any:
    """JSON that lies in a file, maybe among other things.

    Raises:
        BrokenSaveError: where it is none.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise broken(file, f"it is not JSON: {error}", "restore the file from where the save comes from") from None


def member(folder: Path, name: str, named_in: Path) -> Path:
    """A file that an index names.

    Raises:
        UnsafeSaveError: where the name leaves the folder.
        BrokenSaveError: where there is no such file.
    """
    if not name or os.path.isabs(name) or "\\" in name or name != os.path.basename(name) or name in {".", ".."}:
        raise leaves_folder(named_in, name)
    file = folder / name
    if not file.is_file():
        raise broken(
            named_in, f"it names {name}, which is not there", f"fetch {name} too, from where the save comes from"
        )
    return file


def refuse_code(file: str | os.PathLike[str], keras_config: Any) -> None:
    """Refuse a Keras configuration that carries Python code: a Lambda layer or marshalled bytecode.

    Raises:
        UnsafeSaveError: naming the layer.
    """
    for found in _objects(keras_config):
        kind = str(found.get("class_name", ""))
        if kind.rpartition(">")[2] in _WITH_CODE:
            inner = found.get("config")
            name = inner.get("name", kind) if isinstance(inner, dict) else kind
            raise unsafe(
                file,
                f"its layer {name!r} holds Python code ({kind}), which is never loaded",
                "build the model without that layer, load the weights into it, and save it again",
            )


_WITH_CODE: Final = frozenset({"Lambda", "__lambda__"})


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield one
            pending += one.values()
        elif isinstance(one, list):
            pending += one


def natural(names: Iterable[str]) -> list[str]:
    """Names in the order in which people count: ``layer_2`` before ``layer_10``.

    Example:
        >>> natural(["b_10", "b_2", "b"])
        ['b', 'b_2', 'b_10']
    """
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
