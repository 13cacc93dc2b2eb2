"""Open a save of any format: its weights, and what it says about the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import flax, saved_model, tf1
from .bundle import Bundle
from .h5 import H5File
from .keras_archive import KerasArchive
from .refusals import read_json
from .sources import Save, check_links
from .tensors import Tensor, scopes

_BLOCK_BYTES: Final = 2**20


@dataclass(frozen=True)
class Opened:
    """An open save.

    Attributes:
        tensors: its weights, not read yet.
        keras: Keras's own configuration of the model, where the save has one.
        files: all files that its weights come from.
        root: the name of the outermost scope, which mostly is the TensorFlow class in other spelling.
    """

    tensors: list[Tensor]
    keras: Any
    files: tuple[Path, ...]
    root: str


@contextmanager
def opened(save: Save) -> Iterator[Opened]:
    """Open a save; its tensors can be read inside the block.

    Raises:
        BrokenSaveError, UnsafeSaveError, MissingExtraError: as the format's reader.
    """
    for file in save.weights:
        check_links(file, save.folder)
    with ExitStack() as stack:
        if save.format in {"h5", "h5 shards"}:
            files = [stack.enter_context(H5File(file)) for file in save.weights]
            found = [tensor for one in files for tensor in one.tensors()]
            yield Opened(found, files[0].keras_config(), save.weights, _root(found, save.index))
        elif save.format == "keras archive":
            archive = stack.enter_context(KerasArchive(save.weights[0]))
            keras = archive.keras_config()
            yield Opened(archive.tensors(), keras, save.weights, "")
        elif save.format == "flax":
            found = [tensor for file in save.weights for tensor in flax.tensors(file)]
            yield Opened(found, None, save.weights, "")
        else:
            bundle = Bundle(save.weights[0])
            keras = saved_model.keras_config(save.folder) if save.format == "SavedModel" else None
            found = tf1.renamed(bundle.tensors())
            yield Opened(found, keras, tuple(bundle.files()), _root(found, None))


def _root(tensors: list[Tensor], index: Path | None) -> str:
    """The outermost scope that most names have; the index of shards keeps it, the shards do not."""
    names = list(read_json(index).get("weight_map", {})) if index is not None else []
    paths = [scopes(name) for name in names] or [tensor.path for tensor in tensors if not tensor.is_positional]
    firsts = [path[0] for path in paths if len(path) > 1]
    return max(set(firsts), key=firsts.count) if firsts else ""


def sha256(files: tuple[Path, ...]) -> dict[str, str]:
    """The digest of each file, by its name. Costs a read of all bytes."""
    found = {}
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        found[file.name] = digest.hexdigest()
    return found
