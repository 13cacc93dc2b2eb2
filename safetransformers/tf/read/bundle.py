"""TensorFlow's checkpoints (``.index`` and ``.data``), read without TensorFlow.

TensorFlow has a reader of its own (``tf.train.load_checkpoint``). This one is here because that one needs an install of
more than a gigabyte, which does not share a process with every torch (TensorFlow 2.19 beside torch 2.13 ends in a
segmentation fault), and does not give the variables' full names, which are in the graph of objects. The format is
documented (tensor_bundle.proto and trackable_object_graph.proto of TensorFlow 2.19) and has not changed since 2016.
Every block of the index and every tensor has a crc32c, which is verified; offsets are checked before they are followed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from . import sstable
from .crc import masked_crc32c
from .protobuf import WireError, fields, message, number, signed, text, varint
from .refusals import broken
from .tensors import ITEM_BYTES, Array, Tensor, scopes

# core/framework/types.proto
_DTYPES: Final = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}
_GRAPH: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
_SUFFIX: Final = ".index"
_CHECKSUM_BYTES: Final = 4
_OF_TRAINING: Final = re.compile(
    r"(^|/)(optimizer|_optimizer|optim|save_counter|_CHECKPOINTABLE_OBJECT_GRAPH|keras_api)(/|$)|\.OPTIMIZER_SLOT"
)
_SLOT: Final = re.compile(r"(^|/)(adam_[mv]|Adam(_1)?|Momentum|.*_slot_(v|vc|vr|m))$")
_COUNTERS: Final = frozenset({"global_step", "iteration", "iterations", "beta1_power", "beta2_power", "learning_rate"})


@dataclass(frozen=True)
class _Entry:
    """Where the bytes of one tensor lie."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_sliced: bool


class Bundle:
    """A checkpoint; ``prefix`` is its path without ``.index``.

    Raises:
        BrokenSaveError: where the index is missing, cut or damaged, or a data file is missing.
        MissingExtraError: without google-crc32c.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self.index = prefix.with_name(prefix.name + _SUFFIX)
        try:
            data = self.index.read_bytes()
        except OSError as error:
            raise broken(self.index, f"{error.strerror or error}", f"fetch {self.index.name} too") from None
        try:
            self._entries = self._parsed(memoryview(data))
        except WireError as error:
            raise broken(self.index, str(error)) from None
        for shard in {entry.shard for entry in self._entries.values()}:
            if not self._shard(shard).is_file():
                raise broken(
                    self.index,
                    f"its data file {self._shard(shard).name} is not there",
                    f"fetch {self._shard(shard).name} too, from where the save comes from",
                )

    def files(self) -> list[Path]:
        """The files that belong to the checkpoint."""
        return [self.index, *(self._shard(one) for one in sorted({entry.shard for entry in self._entries.values()}))]

    def tensors(self) -> list[Tensor]:
        """The model's weights; an optimizer's slots and counters are left out. None is read.

        Raises:
            BrokenSaveError: where the checkpoint holds no weights.
        """
        names = self._variable_names()
        found = [
            self._tensor(key, names.get(key, key.removesuffix(_VALUE)), entry)
            for key, entry in self._entries.items()
            if not _is_of_training(key, names.get(key, "")) and not _is_counter(entry)
        ]
        if not found:
            raise broken(self.index, "the checkpoint holds no weights, only what belongs to a training run")
        return found

    def _parsed(self, data: memoryview) -> dict[str, _Entry]:
        found: dict[str, _Entry] = {}
        shards = 0
        for key, value in sstable.entries(data):
            if not key:
                shards = _shards(value)
            else:
                entry = _entry(value)
                if entry.shard >= shards:
                    raise WireError(f"it names data file {entry.shard} of {shards}")
                found[text(memoryview(key))] = entry
        self._shards = shards
        return found

    def _shard(self, one: int) -> Path:
        return self._prefix.with_name(f"{self._prefix.name}.data-{one:05d}-of-{self._shards:05d}")

    def _variable_names(self) -> dict[str, str]:
        """Checkpoint key: the variable's full name, which TensorFlow 2 keeps beside the attribute path."""
        graph = self._entries.get(_GRAPH)
        if graph is None:
            return {}
        try:
            return dict(_full_names(self._string(graph)))
        except WireError as error:
            raise broken(self.index, f"its graph of objects is damaged: {error}") from None

    def _tensor(self, key: str, name: str, entry: _Entry) -> Tensor:
        if entry.dtype not in ITEM_BYTES:
            raise broken(self.index, f"the weight {name} is of type {entry.dtype}, not of numbers")
        if entry.is_sliced:
            raise broken(self.index, f"the weight {name} was saved in slices of a partitioned variable")
        if entry.size != math.prod(entry.shape) * ITEM_BYTES[entry.dtype]:
            raise broken(self.index, f"the weight {name} has {entry.size} bytes for the shape {list(entry.shape)}")
        stored = "uint16" if entry.dtype == "bfloat16" else entry.dtype

        def read() -> Array:
            data = self._bytes(entry, name)
            if masked_crc32c(data) != entry.checksum:
                raise broken(self._shard(entry.shard), f"the checksum of the weight {name} is wrong: it is damaged")
            return np.frombuffer(data, dtype=np.dtype(stored).newbyteorder("<")).reshape(entry.shape)

        return Tensor(name, scopes(name), entry.shape, entry.dtype, read)

    def _bytes(self, entry: _Entry, name: str) -> bytes:
        shard = self._shard(entry.shard)
        with shard.open("rb") as opened:
            opened.seek(entry.offset)
            data = opened.read(entry.size)
        if len(data) != entry.size:
            raise broken(shard, f"it ends before the weight {name}: it is cut")
        return data

    def _string(self, entry: _Entry) -> memoryview:
        """The one string of a string tensor: its length, the checksum of the length, its bytes (tensor_bundle.cc)."""
        data = memoryview(self._bytes(entry, "graph of objects"))
        length, at = varint(data, 0)
        value = data[at + _CHECKSUM_BYTES :]
        if len(value) != length:
            raise WireError("it is not as long as it says")
        fixed = length.to_bytes(4 if length < 1 << 32 else 8, "little")
        if masked_crc32c(fixed, data[at : at + _CHECKSUM_BYTES], value) != entry.checksum:
            raise WireError("its checksum is wrong")
        return value


def _shards(value: memoryview) -> int:
    header = dict(fields(value))
    if header.get(2, 0) != 0:
        raise WireError("its numbers are big-endian, which this reader does not take")
    return number(header.get(1, 0))


def _entry(value: memoryview) -> _Entry:
    # BundleEntryProto: dtype 1, shape 2, shard_id 3, offset 4, size 5, crc32c 6, slices 7
    shape: tuple[int, ...] = ()
    numbers: dict[int, int] = {}
    is_sliced = False
    for field, one in fields(value):
        if field == 2:
            shape = tuple(_dimensions(message(one)))
        elif field == 7:
            is_sliced = True
        else:
            numbers[field] = number(one)
    dtype = _DTYPES.get(numbers.get(1, 0), f"number {numbers.get(1, 0)}")
    offset, size = signed(numbers.get(4, 0)), signed(numbers.get(5, 0))
    if offset < 0 or size < 0 or any(extent < 0 for extent in shape):
        raise WireError("an offset or size is negative")
    return _Entry(dtype, shape, numbers.get(3, 0), offset, size, numbers.get(6, 0), is_sliced)


def _dimensions(shape: memoryview) -> Iterator[int]:
    for field, dimension in fields(shape):
        if field == 2:
            yield signed(number(dict(fields(message(dimension))).get(1, 0)))


def _full_names(graph: memoryview) -> Iterator[tuple[str, str]]:
    # TrackableObjectGraph: nodes 1; its attributes 2; of those full_name 2, checkpoint_key 3
    for field, node in fields(graph):
        if field != 1:
            continue
        for inner, attribute in fields(message(node)):
            if inner == 2:
                parts = dict(fields(message(attribute)))
                if parts.get(2) and 3 in parts:
                    yield text(parts[3]), text(parts[2])


def _is_of_training(key: str, full_name: str) -> bool:
    """Whether an entry belongs to the optimizer or the training loop; slots begin or end with their own name."""
    if _OF_TRAINING.search(key):
        return True
    parts = (full_name or key.removesuffix(_VALUE)).split("/")
    if _SLOT.search(parts[-1]) or parts[-1] in _COUNTERS:
        return True
    return len(parts) > 2 and parts[0] in {"m", "v", "adam", "Adam"}


def _is_counter(entry: _Entry) -> bool:
    """Whether an entry is one whole number, such as the step of a training loop: no model has such a weight."""
    return entry.shape == () and "int" in entry.dtype


def prefixes(names: Iterable[str]) -> list[str]:
    """The checkpoints among the names of a folder, without ``.index``."""
    return sorted(os.path.basename(name).removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def orphans(folder: Path) -> list[str]:
    """Data files of a checkpoint whose index is not there."""
    found = (re.match(r"(.+)\.data-\d{5}-of-\d{5}$", name) for name in sorted(os.listdir(folder)))
    return [match[1] for match in found if match and not (folder / f"{match[1]}{_SUFFIX}").is_file()]
