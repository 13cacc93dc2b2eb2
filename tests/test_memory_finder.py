"""A batch size that fits, found by trying."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest
import torch
from models import tiny

from safetransformers import fit_batch_size
from safetransformers.errors import BatchSizeError


class _Fitting:
    """A function with which so many rows fit; it keeps what it was called with, and refers to what it allocated."""

    def __init__(self, rows: int, error: BaseException | None = None) -> None:
        self.rows, self.error, self.tried = rows, error, list[int]()
        self.allocated: list[weakref.ref[Any]] = []

    def __call__(self, batch_size: int) -> str:
        assert all(tensor() is None for tensor in self.allocated)  # what the last try held is gone
        tensor = torch.zeros(batch_size)
        self.allocated.append(weakref.ref(tensor))
        self.tried.append(batch_size)
        if batch_size > self.rows:
            raise self.error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return "done"


def test_halves_are_tried_until_one_fits_and_what_a_failed_try_held_is_freed() -> None:
    run = _Fitting(20)
    assert fit_batch_size(run, 64) == ("done", 16)
    assert run.tried == [64, 32, 16]


def test_every_size_is_a_multiple_and_none_is_below_the_floor() -> None:
    run = _Fitting(9)
    with pytest.raises(torch.OutOfMemoryError):
        fit_batch_size(run, 47, minimum=10, multiple_of=8)
    assert run.tried == [40, 16]


def test_the_last_real_error_is_raised_at_the_floor() -> None:
    error = MemoryError("no more")
    with pytest.raises(MemoryError, match="no more") as raised:
        fit_batch_size(_Fitting(0, error), 4)
    assert raised.value is error


def test_an_error_that_is_not_about_memory_is_raised_at_once() -> None:
    run = _Fitting(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        fit_batch_size(run, 64)
    assert run.tried == [64]


def test_a_size_is_remembered_for_model_and_shapes_and_the_model_is_not_kept_alive() -> None:
    model = tiny("bert")
    ids = torch.zeros(64, 7)
    fit_batch_size(_Fitting(20), 64, key=(model, ids))
    again, other = _Fitting(20), _Fitting(64)
    assert fit_batch_size(again, 64, key=(model, torch.ones(64, 7))).batch_size == 16
    assert again.tried == [16]
    assert fit_batch_size(other, 64, key=(model, torch.zeros(64, 9))).batch_size == 64
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_each_step_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="safetransformers"):
        fit_batch_size(_Fitting(4), 8)
    assert [record.getMessage() for record in caplog.records] == [
        "batch size 8 runs out of memory; trying 4",
        "batch size 4 fits",
    ]


@pytest.mark.parametrize("bad", [{"start": 0}, {"start": 4, "minimum": 5}, {"start": 4, "multiple_of": 8}])
def test_a_range_without_a_size_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(BatchSizeError, match="ST-OOM-006"):
        fit_batch_size(_Fitting(1), **bad)
