"""The reader of TensorFlow's checkpoints takes what TensorFlow writes, and nothing that is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import saves

from safetransformers.errors import BrokenSaveError
from safetransformers.tf.read.bundle import Bundle
from safetransformers.tf.read.protobuf import WireError, fields, varint

_VALUES = {
    "model/dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "model/dense/bias": np.arange(4, dtype=np.float32),
    "model/scale": np.float32(2.5).reshape(()),
}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    saves.checkpoint(tmp_path / "ckpt", _VALUES)
    return tmp_path / "ckpt"


def _read(prefix: Path) -> dict[str, np.ndarray]:
    return {tensor.name: tensor.read() for tensor in Bundle(prefix).tensors()}


def test_values_come_as_they_were_written(prefix: Path) -> None:
    found = _read(prefix)
    assert found.keys() == _VALUES.keys()
    assert all(
        np.array_equal(found[name], value) and found[name].shape == value.shape for name, value in _VALUES.items()
    )


def test_every_changed_byte_of_the_index_is_found_or_harmless(prefix: Path) -> None:
    index = prefix.with_name("ckpt.index")
    data = index.read_bytes()
    for at in range(len(data)):
        index.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        try:
            found = _read(prefix)
        except BrokenSaveError:
            continue
        assert all(np.array_equal(found[name], value) for name, value in _VALUES.items()), at


def test_an_index_that_is_cut_anywhere_is_broken(prefix: Path) -> None:
    index = prefix.with_name("ckpt.index")
    data = index.read_bytes()
    for size in range(len(data)):
        index.write_bytes(data[:size])
        with pytest.raises(BrokenSaveError):
            _read(prefix)


def test_every_changed_byte_of_the_values_is_found(prefix: Path) -> None:
    file = prefix.with_name("ckpt.data-00000-of-00001")
    data = file.read_bytes()
    for at in range(len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(BrokenSaveError, match="checksum"):
            _read(prefix)


def test_values_that_are_cut_are_broken(prefix: Path) -> None:
    file = prefix.with_name("ckpt.data-00000-of-00001")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BrokenSaveError, match="cut"):
        _read(prefix)


def test_what_belongs_to_the_training_run_is_no_weight(tmp_path: Path) -> None:
    values = dict(_VALUES)
    for name in ("model/dense/kernel/adam_m", "model/dense/kernel/Adam_1", "m/model/dense/kernel"):
        values[name] = _VALUES["model/dense/kernel"]
    saves.checkpoint(tmp_path / "ckpt", {**values, "global_step": np.array(3)})
    assert _read(tmp_path / "ckpt").keys() == _VALUES.keys()


def test_a_weight_that_is_called_v_is_no_slot(tmp_path: Path) -> None:
    saves.checkpoint(tmp_path / "ckpt", {"layer/rel_attn/v": _VALUES["model/dense/kernel"]})
    assert list(_read(tmp_path / "ckpt")) == ["layer/rel_attn/v"]


@pytest.mark.parametrize("data", [b"\x80" * 11, b"\x80", b""])
def test_an_integer_that_does_not_end_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        varint(memoryview(data), 0)


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0b", b"\x00\x01", b"\x0d\x01\x02"])
def test_a_message_that_ends_early_or_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(fields(memoryview(data)))
