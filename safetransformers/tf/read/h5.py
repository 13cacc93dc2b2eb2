"""HDF5 files of Keras: ``tf_model.h5``, whole-model ``.h5`` and ``*.weights.h5``. Only h5py is needed.

Two layouts exist. Keras 2 keeps one group a layer whose ``weight_names`` attribute lists the variables by name.
Keras 3, and the ``.keras`` archives of both, keep the tree of Python attributes, with the variables of a layer as
``vars/0``, ``vars/1``... in the order in which the layer made them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from ...errors import MissingExtraError
from ...notices import relative
from .refusals import broken, check_magic, leaves_folder, natural, parse_json, refuse_code
from .tensors import ITEM_BYTES, Array, Tensor, scopes

if TYPE_CHECKING:
    import h5py
    from typing_extensions import Self

MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_OPTIMIZER: Final = frozenset({"optimizer", "optimizer_weights", "_optimizer"})
_DEEPEST: Final = 64  # levels; a group that contains itself would go on for ever


class H5File:
    """An open HDF5 file with Keras weights; to be used in a ``with`` block.

    Args:
        file: a path, or an open binary file such as a member of an archive.
        name: what to call it in messages, where ``file`` is no path.

    Raises:
        BrokenSaveError: where it is no HDF5 file, or cut.
        UnsafeSaveError: for a pickle, a link that leaves the file, or a Lambda layer in the model's configuration.
        MissingExtraError: without h5py.
    """

    def __init__(self, file: Path | IO[bytes], name: str = "") -> None:
        self.name = name or relative(str(file))
        if isinstance(file, Path):
            check_magic(file, MAGIC, "an HDF5 file")
        library = _h5py()
        try:
            self._file: h5py.File = library.File(file, "r")
        except OSError as error:
            raise broken(self.name, f"HDF5 says: {_first_line(error)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> None:
        """Close the file: tensors that were not read yet cannot be read any more."""
        self._file.close()

    def keras_config(self) -> Any:
        """What Keras wrote about the model's layers, in a whole-model file; ``None`` in one of weights only.

        Raises:
            UnsafeSaveError: where it carries code.
        """
        text = self._file.attrs.get("model_config")
        if text is None:
            return None
        config = parse_json(self.name, text)
        refuse_code(self.name, config)
        return config

    def tensors(self) -> list[Tensor]:
        """All weights, without the optimizer's; none is read.

        Raises:
            BrokenSaveError: where there are none, or one is not made of numbers.
        """
        self.keras_config()
        root = self._file
        self._refuse_links(root)
        if "layer_names" not in root.attrs and "model_weights" in root:
            root = root["model_weights"]
        found = list(self._by_name(root) if _is_by_name(root) else self._by_attribute(root))
        if not found:
            raise broken(
                self.name,
                "it is a valid HDF5 file, but holds no weights of a Keras model",
                "save the model with model.save_pretrained(folder)",
            )
        return found

    def _by_name(self, root: Any) -> Iterator[Tensor]:
        groups = [root[name] for name in _names(root, "layer_names") if name in root] or [root]
        listed = [group for group in groups if hasattr(group, "keys") and _names(group, "weight_names")]
        if "top_level_model_weights" in root:
            listed.append(root["top_level_model_weights"])
        for name in _names(root, "layer_names"):
            if name in root and not hasattr(root[name], "keys"):  # a shard lists its weights as if they were layers
                yield self._tensor(name, scopes(name), root[name], is_positional=False)
        for group in listed:
            for name in _names(group, "weight_names"):
                if name not in group:
                    raise broken(self.name, f"it lists the weight {name}, and does not hold it")
                yield self._tensor(name, scopes(name), group[name], is_positional=False)

    def _by_attribute(self, root: Any) -> Iterator[Tensor]:
        for path in self._datasets(root, ()):
            if path[0] not in _OPTIMIZER and "vars" in path:
                shown = "/".join(path)
                levels = tuple(part for part in path if part not in {"vars", "_layer_checkpoint_dependencies"})
                yield self._tensor(shown, levels, root[shown], is_positional=path[-1].isdigit())

    def _datasets(self, group: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        import h5py

        if len(path) > _DEEPEST:
            raise broken(self.name, f"its groups are nested more than {_DEEPEST} levels deep")
        for name in natural(group):
            one = group[name]
            if isinstance(one, h5py.Dataset):
                yield (*path, name)
            elif isinstance(one, h5py.Group):
                yield from self._datasets(one, (*path, name))

    def _tensor(self, name: str, path: tuple[str, ...], dataset: Any, *, is_positional: bool) -> Tensor:
        import h5py

        if not isinstance(dataset, h5py.Dataset):
            raise broken(self.name, f"{name} is a group, not a weight")
        if dataset.external or dataset.is_virtual:
            raise leaves_folder(self.name, name)
        dtype = dataset.dtype
        if dtype.name not in ITEM_BYTES or dataset.shape is None:
            raise broken(self.name, f"the weight {name} is of type {dtype}, not of numbers")

        def read_into(values: Array) -> None:
            try:
                dataset.read_direct(values)
            except (OSError, RuntimeError) as error:
                raise broken(self.name, f"the weight {name} cannot be read: {_first_line(error)}") from None

        def read() -> Array:
            values = np.empty(dataset.shape, dtype)
            if values.size:
                read_into(values)
            return values

        return Tensor(name, path, tuple(dataset.shape), dtype.name, read, is_positional, read_into)

    def _refuse_links(self, root: Any) -> None:
        """A link may name another file: none is followed, whichever weight it stands for."""
        import h5py

        pending = [(root, 0)]
        while pending:
            group, depth = pending.pop()
            if depth > _DEEPEST:
                raise broken(self.name, f"its groups are nested more than {_DEEPEST} levels deep")
            for name in group:
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise leaves_folder(self.name, name)
                if group.get(name, getclass=True) is h5py.Group:
                    pending.append((group[name], depth + 1))


def _is_by_name(root: Any) -> bool:
    return "layer_names" in root.attrs or "layer_names0" in root.attrs or "weight_names" in root.attrs


def _names(group: Any, attribute: str) -> list[str]:
    """An attribute of names; Keras splits a list that is too long for one into ``names0``, ``names1``..."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    return [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for part in parts for name in part
    ]


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise missing_extra("h5py", "a Keras file") from None
    return h5py


def missing_extra(package: str, kind: str) -> MissingExtraError:
    """The error for a package of the ``tf`` extra that is not installed."""
    return MissingExtraError(
        "ST-TF-008",
        f"reading {kind} needs {package}, which is not installed",
        do="pip install 'safetransformers[tf]'",
        package=package,
    )


def is_h5(file: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that Keras wrote it as HDF5."""
    return os.fspath(file).endswith((".h5", ".hdf5"))
