"""``.keras`` archives: a zip of a configuration and an HDF5 file. Only those two are looked at, none is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .h5 import H5File
from .refusals import broken, check_magic, parse_json, refuse_code
from .tensors import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

_MAGIC: Final = b"PK\x03\x04"
_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_LARGEST_CONFIG: Final = 64 * 2**20  # bytes, unpacked


class KerasArchive:
    """An open archive; to be used in a ``with`` block.

    Raises:
        BrokenSaveError: where it is no zip, a member is missing, or one does not match its checksum.
    """

    def __init__(self, file: Path) -> None:
        check_magic(file, _MAGIC, "a zip archive")
        self._path = file
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError) as error:
            raise broken(file, f"it is no whole zip archive: {error}") from None
        self._h5: H5File | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._h5 is not None:
            self._h5.close()
        self._zip.close()

    def keras_config(self) -> Any:
        """What Keras wrote about the model.

        Raises:
            UnsafeSaveError: where it carries code, such as a Lambda layer.
        """
        if self._member(_CONFIG).file_size > _LARGEST_CONFIG:
            raise broken(self._path, f"its {_CONFIG} has more than {_LARGEST_CONFIG:,} bytes")
        try:
            config = parse_json(self._path, self._zip.read(_CONFIG))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise broken(self._path, f"its {_CONFIG} cannot be read: {error}") from None
        refuse_code(self._path, config)
        return config

    def tensors(self) -> list[Tensor]:
        """All weights, read from inside the archive; one that is compressed costs a pass over what lies before."""
        self.keras_config()
        self._member(_WEIGHTS)
        try:
            opened = self._zip.open(_WEIGHTS)
        except (zipfile.BadZipFile, OSError) as error:
            raise broken(self._path, f"its {_WEIGHTS} cannot be read: {error}") from None
        self._h5 = H5File(opened, f"{self._path.name}/{_WEIGHTS}")
        return self._h5.tensors()

    def _member(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._zip.getinfo(name)
        except KeyError:
            raise broken(self._path, f"a .keras archive holds {name}, this one does not") from None
