"""Write shards of safetensors beside the destination, and move them into place when all is there and compared."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ...errors import DestinationError
from ...notices import relative
from ..match.matching import Placed
from ..match.orient import Turn
from ..match.target import Slot
from ..read.tensors import ITEM_BYTES, Array, Tensor

if TYPE_CHECKING:
    import torch

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
ASIDE: Final = "unused_tensorflow_weights.safetensors"
Progress = Callable[[int, int], None]


def values(tensor: Tensor, turned: Turn, slot: Slot, dtype: torch.dtype | None) -> torch.Tensor:
    """What torch wants of one stored weight. Costs one read; it may be a view of that with other strides."""
    import torch

    array: Array = turned(tensor.read())
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    made = torch.from_numpy(array if array.flags.writeable else array.copy())
    if tensor.is_bfloat16:
        made = made.view(torch.bfloat16)
    if slot.is_integer:
        return made.to(torch.int64)
    return made if dtype is None or not made.is_floating_point() else made.to(dtype)


def kind(placed: Placed, dtype: str | None) -> str:
    """The type in which a weight is written."""
    if placed.slot.is_integer:
        return "int64"
    return dtype if dtype is not None and "float" in placed.tensor.dtype else placed.tensor.dtype


def plan(placed: Sequence[Placed], dtype: str | None, max_shard_bytes: int) -> list[list[Placed]]:
    """Which weights go into which shard, in the order of the model; one that is larger has a shard of its own."""
    shards: list[list[Placed]] = [[]]
    size = 0
    for one in placed:
        width = math.prod(one.slot.shape) * ITEM_BYTES[kind(one, dtype)]
        if shards[-1] and size + width > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(one)
        size += width
    return shards


def shard_names(count: int) -> list[str]:
    """The names of shards as ``save_pretrained`` gives them."""
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


Layout = Sequence[tuple[str, str, tuple[int, ...]]]
"""Key, type and shape of each tensor of a file, in the order in which they lie in it."""


def write_shard(file: Path, layout: Layout, tensors: Iterable[torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write one file of safetensors, a tensor at a time.

    The library's own writer wants all tensors of a file at once and copies them again, which is two shards of memory.
    The format is eight bytes of length, a header of JSON, and the values (github.com/huggingface/safetensors, README).

    Args:
        file: to write.
        layout: of the tensors that follow.
        tensors: the values, in the order of the layout.
        metadata: texts for the header.
    """
    text = _header(layout, metadata)
    end = sum(math.prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in layout)
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little"))
        opened.write(text)
        for tensor in tensors:
            _write_values(opened, tensor)
        assert opened.tell() == 8 + len(text) + end


def put_metadata(file: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
    """Put other texts of the same length into a header, such as digests that were not known when it was written."""
    text = _header(layout, metadata)
    with file.open("r+b") as opened:
        assert int.from_bytes(opened.read(8), "little") == len(text)
        opened.write(text)


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for key, dtype, shape in layout:
        start, end = end, end + math.prod(shape) * ITEM_BYTES[dtype]
        header[key] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def _write_values(opened: IO[bytes], tensor: torch.Tensor) -> None:
    import torch

    if tensor.numel():  # an empty tensor has no bytes, and no view of them
        opened.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


_ALIGNMENT: Final = 8
_CODES: Final = {
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_aside(folder: Path, tensors: Sequence[Tensor]) -> None:
    """Keep weights that the torch model has no place for, as the save has them and under its names."""
    import numpy as np
    import torch

    layout = [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
    read = (torch.from_numpy(np.require(tensor.read(), requirements=["C", "W"])) for tensor in tensors)
    write_shard(folder / ASIDE, layout, read, {"orientation": "as in TensorFlow"})


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
