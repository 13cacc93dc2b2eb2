"""Runs of the Trainer that really run out of memory, and go on with the same effective batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from memory_runs import happened, needs_a_limit

import safetransformers as st
from safetransformers.errors import BatchSizeError

pytestmark = pytest.mark.xdist_group("memory-training")  # one process runs all cases


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return happened("training")


@needs_a_limit
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_note_of_a_run_names_the_arguments_that_keep_its_batch(cases: dict[str, Any], name: str) -> None:
    (note,) = cases[f"{name} fails"]["notes"]
    assert note.startswith("[ST-OOM-002]") and len(note.splitlines()) <= 10
    assert "per_device_train_batch_size=8, gradient_accumulation_steps=2" in note


@needs_a_limit
@pytest.mark.parametrize("name", ["bert", "gpt2"])  # one ignores num_items_in_batch, one divides by it
def test_a_run_that_starts_again_has_the_loss_curve_of_one_that_fitted(cases: dict[str, Any], name: str) -> None:
    disturbed, undisturbed = cases[name], cases[f"{name} undisturbed"]
    assert disturbed["batch"] < undisturbed["batch"]
    assert disturbed["batch"] * disturbed["accumulation"] == undisturbed["batch"]
    assert disturbed["losses"] == pytest.approx(undisturbed["losses"], abs=2e-4)  # 4.57 logs four digits
    assert len(disturbed["losses"]) == 4
    assert disturbed["weights"] == pytest.approx(undisturbed["weights"], abs=1e-2)
    assert all(told.startswith("[ST-OOM-004]") for told in cases[f"{name} told"])


@needs_a_limit
@pytest.mark.parametrize(("name", "start"), [("late", "the beginning"), ("late, saved", "checkpoint-2")])
def test_a_run_that_fails_after_some_steps_goes_on_from_what_it_saved_or_from_its_beginning(
    cases: dict[str, Any], name: str, start: str
) -> None:
    assert cases[name]["batch"] * cases[name]["accumulation"] == 16 > cases[name]["batch"]
    assert cases[name]["losses"] == pytest.approx(cases["bert undisturbed"]["losses"], abs=2e-4)
    assert cases[name]["weights"] == pytest.approx(cases["bert undisturbed"]["weights"], abs=1e-2)
    assert start in cases[f"{name} told"][0]


@needs_a_limit
def test_a_run_of_one_row_that_does_not_fit_raises_as_ever(cases: dict[str, Any]) -> None:
    assert cases["one row"]["type"]


def _args(batch: int, accumulation: int) -> Any:
    return SimpleNamespace(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)


def test_another_batch_size_keeps_the_effective_one_and_leaves_the_arguments_as_they_were() -> None:
    args = _args(32, 2)
    changed = st.keep_effective_batch(args, per_device_train_batch_size=4)
    assert (changed.per_device_train_batch_size, changed.gradient_accumulation_steps) == (4, 16)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (32, 2)


@pytest.mark.parametrize(("wanted", "choices"), [(24, (16, 32)), (0, (1,)), (100, (64,))])
def test_a_batch_size_that_would_change_the_effective_one_is_refused_with_the_nearest(
    wanted: int, choices: tuple[int, ...]
) -> None:
    with pytest.raises(BatchSizeError) as raised:
        st.keep_effective_batch(_args(32, 2), per_device_train_batch_size=wanted)
    assert raised.value.details["choices"] == choices


def test_the_training_loop_is_patched_and_comes_back() -> None:
    from transformers import Trainer

    before = vars(Trainer)["_inner_training_loop"]
    with st.patched():
        assert vars(Trainer)["_inner_training_loop"] is not before
    assert vars(Trainer)["_inner_training_loop"] is before
