"""Calls that really run out of memory: the note on the error, and halves that are put together."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest
import torch
from memory_runs import happened, needs_a_limit
from models import tiny

import safetransformers as st
from safetransformers.memory.halves import CannotJoin, join, run_in_halves
from safetransformers.testing import limited_memory

pytestmark = [needs_a_limit, pytest.mark.xdist_group("memory-inference")]  # one process runs all cases


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return happened("inference")


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_an_error_keeps_its_type_and_arguments_and_gains_one_note(cases: dict[str, Any], name: str) -> None:
    plain, explained = cases[f"{name} plain"], cases[f"{name} explain"]
    assert plain["type"] and not plain["notes"]
    assert (explained["type"], explained["args"]) == (plain["type"], plain["args"])
    (note,) = explained["notes"]
    assert note.startswith("[ST-OOM-001]") and len(note.splitlines()) <= 10
    n_bytes = int(re.findall(r"allocate (\d+) bytes", str(plain["args"]))[0])
    for words in (
        "input_ids 32 x 512",
        f"{n_bytes / 2**20:.1f} MiB more were asked for",
        "(ulimit -v)",
        "probably",
    ):
        assert words in note
    assert 1 <= int(re.findall(r"batches of (\d+) rows", note)[0]) < 32


@pytest.mark.parametrize("switch", ["off", "errors off"])
def test_a_policy_that_is_off_leaves_no_note(cases: dict[str, Any], switch: str) -> None:
    assert cases[f"bert {switch}"] == cases["bert plain"]


@pytest.mark.parametrize("name", ["bert", "gpt2", "bert copied", "gpt2 copied"])
def test_a_batch_that_does_not_fit_gives_the_numbers_that_it_gives_where_it_fits(
    cases: dict[str, Any], name: str
) -> None:
    assert cases[f"{name} split"] < 1e-5
    (told,) = cases[f"{name} told"]
    assert cases.get(f"{name} pickled", True)
    assert told.startswith("[ST-OOM-003]") and "pieces" in told


def test_one_row_that_does_not_fit_raises_as_ever(cases: dict[str, Any]) -> None:
    assert cases["bert one row"]["type"] == "RuntimeError"
    assert cases["bert one row"]["notes"][0].startswith("[ST-OOM-001]")


@pytest.mark.parametrize("case", ["bert with gradients", "gpt2 in training", "gpt2 with labels"])
def test_a_call_whose_halves_are_not_the_whole_is_never_split(cases: dict[str, Any], case: str) -> None:
    assert cases[case]["type"] == "RuntimeError"
    assert cases[case]["notes"]


def test_generate_is_told_with_its_cache_and_with_what_helps_there(cases: dict[str, Any]) -> None:
    (note,) = cases["generate"]["notes"]
    assert "cache " in note and "max_new_tokens" in note


def test_memory_that_keeps_gradients_is_told_first(cases: dict[str, Any]) -> None:
    (note,) = cases["training"]["notes"]
    assert "Do: with torch.no_grad()" in note


def test_the_forward_is_there_only_where_halves_are_asked_for() -> None:
    plain = tiny("bert")
    model = st.guard(copy.deepcopy(plain))
    assert "forward" not in vars(model)
    with st.policy(on_oom="split"):
        assert "forward" in vars(model)
        assert inspect.signature(model.forward) == inspect.signature(plain.forward)
        assert "forward" in vars(st.guard(tiny("bert")))
        later = copy.deepcopy(model)
    assert vars(later)["forward"].__self__ is later
    st.unguard(model)
    assert vars(model).keys() == vars(plain).keys()
    assert not model._forward_hooks and not model._forward_hooks_always_called and not model._forward_hooks_with_kwargs


def test_a_model_that_was_copied_before_halves_were_asked_for_gets_them_too() -> None:
    model = st.guard(tiny("bert"))
    copies = (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))
    with st.policy(on_oom="split"):
        assert all("forward" in vars(each) and each.forward.__self__ is each for each in copies)


def test_a_forward_of_somebody_else_is_kept_below_and_comes_back() -> None:
    model = tiny("bert")
    theirs = model.forward
    model.forward = theirs
    st.guard(model, on_oom="split")
    assert model.forward is not theirs
    assert vars(st.unguard(model))["forward"] is theirs


def test_a_compiled_model_is_one_graph_under_split() -> None:
    plain = tiny("bert")
    model = st.guard(copy.deepcopy(plain), on_oom="split")
    ids = torch.tensor([[5, 6, 7], [8, 9, 4]])
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(ids)[0], plain(ids)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_rank_never_runs_more_than_those_that_share_its_weights(name: str) -> None:
    model, ids = st.guard(tiny(name), on_oom="split"), torch.tensor([[5, 6, 7]] * 4)

    def call() -> Any:
        return model(ids) if name == "bert" else model.generate(ids, do_sample=False, max_new_tokens=2)

    with limited_memory(model, rows=3), torch.no_grad():
        call()  # alone it is run in halves
        model._tp_size = 2  # as from_pretrained(tp_plan="auto") on two ranks leaves it
        with pytest.raises(torch.OutOfMemoryError):
            call()


def test_an_output_without_a_batch_axis_is_not_put_together() -> None:
    parts = [{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(3.0)}]
    with pytest.raises(CannotJoin, match="loss"):
        join(parts, {("loss",): ()})


def test_halves_are_halved_in_order_and_another_error_is_raised_at_once() -> None:
    def run(start: int, stop: int) -> tuple[int, int]:
        if stop - start > 2:
            raise MemoryError
        return start, stop

    parts = run_in_halves(run, 7, lambda error: isinstance(error, MemoryError), lambda error: None)
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(7))
    with pytest.raises(MemoryError):
        run_in_halves(run, 7, lambda error: False, lambda error: None)


def test_a_forward_that_returns_nothing_while_its_caller_handles_an_error_leaves_that_error_alone() -> None:
    model = st.guard(tiny("bert"))
    model.forward = lambda *args, **kwargs: None
    failure = MemoryError()
    try:
        raise failure
    except MemoryError:
        model(torch.tensor([[5, 6]]))
    assert not getattr(failure, "__notes__", [])
