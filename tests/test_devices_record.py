"""``device_checks="record"``: what it costs, what it keeps, and what it says of a device that is lost.

A device is lost on a GPU only, see ``tests/gpu/test_devices_cuda.py``. Here the same path runs on CPU tensors, and the
error of torch is raised by hand.
"""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from costs.counting import reads
from device_models import PlaceholderModel, note_of
from models import tiny
from test_devices_notes import with_value
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import safetransformers as st
from safetransformers.devices import check, record, snapshot

_IDS = torch.tensor([[5, 6, 7], [8, 9, 10]])
_LOST = "CUDA error: device-side assert triggered"


class Operators(TorchDispatchMode):
    """The operators that ran, but for those on a buffer of the host, and views."""

    _OF_THE_HOST = ("empty", "select", "fill_", "view", "reshape", "_unsafe_view", "detach")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in self._OF_THE_HOST:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU tensors are recorded as those of a GPU are."""
    monkeypatch.setattr(check, "dies_with_its_device", lambda value: True)


@pytest.mark.parametrize(
    ("more", "operators"),
    [
        ({}, ["copy_"]),
        ({"labels": _IDS, "token_type_ids": torch.zeros_like(_IDS)}, ["cat", "copy_"]),
    ],
)
@pytest.mark.usefixtures("recorded")
def test_a_record_costs_one_copy_and_at_most_one_kernel_and_reads_nothing(
    more: dict[str, Tensor], operators: list[str]
) -> None:
    model = st.guard(tiny("bert-classifier"), device_checks="record")
    (hook,) = model._forward_pre_hooks.values()
    kwargs = {"input_ids": _IDS, "attention_mask": torch.ones_like(_IDS), **more}
    with reads() as found, Operators() as ran:
        hook(model, (), kwargs)
    assert (ran.names, found) == (operators, [])


def test_on_the_cpu_a_record_costs_nothing() -> None:
    model = st.guard(tiny("gpt2"), device_checks="record")
    (hook,) = model._forward_pre_hooks.values()
    kwargs = {"input_ids": _IDS, "attention_mask": torch.ones_like(_IDS)}
    with reads() as found, Operators() as ran:
        hook(model, (), kwargs)
    assert (ran.names, found) == ([], [])


@pytest.mark.usefixtures("recorded")
def test_a_step_of_decoding_costs_nothing() -> None:
    model = st.guard(tiny("gpt2"), device_checks="record")
    (hook,) = model._forward_pre_hooks.values()
    cache = model(input_ids=_IDS, use_cache=True).past_key_values
    step = {"input_ids": _IDS[:, -1:], "attention_mask": torch.ones(2, 4), "past_key_values": cache}
    with Operators() as ran:
        hook(model, (), step)
    assert ran.names == []


@pytest.mark.usefixtures("recorded")
def test_generating_is_recorded_once_by_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[snapshot.Snapshot] = []
    monkeypatch.setattr(record, "keep", lambda model, lengths, taken: kept.append(taken))
    model = st.guard(tiny("t5"), device_checks="record")
    model.generate(_IDS, max_new_tokens=4, min_new_tokens=4)
    (one,) = kept
    assert torch.equal(one.values()["input_ids"], _IDS)


@pytest.mark.usefixtures("recorded")
def test_a_call_of_a_lost_device_is_noted_with_the_value_that_the_kernel_stopped_at() -> None:
    model = st.guard(tiny("bert-classifier"), device_checks="record")
    for ids in (with_value(71, 0, 0), with_value(72, 1, 1)):
        with pytest.raises(IndexError):
            model(input_ids=ids)
    model.register_forward_pre_hook(lambda *_: _unarrive(record._records[-1].snapshot))
    with pytest.raises(RuntimeError) as info:  # launched after it: neither its kernels ran, nor its copy
        model(input_ids=_IDS, attention_mask=_Dead.tensor())
    note = note_of(info.value)
    assert "input_ids holds 72 at row 1, column 1" in note
    assert "start Python anew" in note and 'model.to("cpu")(**batch.to("cpu"))' in note
    assert len(note.splitlines()) <= 10


def _unarrive(one: snapshot.Snapshot) -> None:
    for buffer in one.buffers:
        buffer.data[-1] = snapshot._MARK


class _Dead(Tensor):
    """Any operator on it fails as all do on a device that is lost."""

    @staticmethod
    def tensor() -> Tensor:
        return torch.ones(2, 3).as_subclass(_Dead)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(_LOST)


@pytest.mark.usefixtures("recorded")
def test_a_call_that_ran_to_its_end_is_not_blamed_for_the_loss_of_a_later_one() -> None:
    model = st.guard(PlaceholderModel(tiny("bert").config), device_checks="record")
    model(input_ids=with_value(500, 0, 0))
    assert st.explain(RuntimeError(_LOST)).code == "ST-ASSERT-001"  # type: ignore[union-attr]  # it may be the one
    model(input_ids=_IDS)
    assert st.explain(RuntimeError(_LOST)).code == "ST-ASSERT-501"  # type: ignore[union-attr]


@pytest.mark.usefixtures("recorded")
def test_a_later_sync_that_shows_the_loss_is_explained_by_the_record() -> None:
    model = st.guard(tiny("bert-classifier"), device_checks="record")
    (hook,) = model._forward_pre_hooks.values()
    hook(model, (), {"input_ids": _IDS, "labels": torch.tensor([0, 7])})
    told = st.explain(RuntimeError(_LOST))
    assert told is not None and told.code == "ST-ASSERT-002"
    assert "labels holds 7 at row 1" in told.what
    assert st.explain(_LOST).code == "ST-ASSERT-501"  # type: ignore[union-attr]  # a text may be of another process
    assert st.explain(RuntimeError("something else")) is None


def test_a_copy_that_never_arrived_says_nothing() -> None:
    arrived = snapshot.take({"input_ids": _IDS, "labels": with_value(1000, 0, 0)})
    values = arrived.values()
    assert values is not None
    assert torch.equal(values["labels"], with_value(1000, 0, 0)) and torch.equal(values["input_ids"], _IDS)
    waiting = snapshot.take({"input_ids": _IDS})
    _unarrive(waiting)
    assert waiting.values() is None


def test_a_record_keeps_neither_the_model_nor_more_than_a_few_calls() -> None:
    model = tiny("gpt2")
    for _ in range(100):
        record.keep(model, {}, snapshot.take({"input_ids": with_value(99, 0, 0)}))
    assert len(record._records) == record._KEPT
    assert st.explain(RuntimeError(_LOST)).code == "ST-ASSERT-001"  # type: ignore[union-attr]
    gone = weakref.ref(model)
    del model
    assert gone() is None
    assert st.explain(RuntimeError(_LOST)).code == "ST-ASSERT-501"  # type: ignore[union-attr]


def test_strict_mode_records() -> None:
    model = st.guard(tiny("gpt2"))
    kwargs = {"input_ids": with_value(99, 0, 0), "attention_mask": torch.ones_like(_IDS)}
    with st.strict(), pytest.raises(IndexError) as info:
        model(**kwargs)
    assert info.value.args == ("index out of range in self",)
