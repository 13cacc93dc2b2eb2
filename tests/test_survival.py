"""A guarded model goes through everything that a model goes through, and is guarded and right afterwards."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import io
import multiprocessing
import pickle
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from models import EOS, PAD, alone, error, mask_of, numbers, padded_rows, tiny
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import safetransformers as st
from safetransformers.errors import PaddingError

CLOSE = 1e-4
VISIBLE = 0.1
NAMES = ("bert", "gpt2", "llama")
SIDES = ("right", "left")
ONE_LAYER = {"bert": {"num_hidden_layers": 1}, "gpt2": {"n_layer": 1}, "llama": {"num_hidden_layers": 1}}
NO_CACHE: dict[str, dict[str, Any]] = {"bert": {}, "gpt2": {"use_cache": False}, "llama": {"use_cache": False}}


def saved_and_loaded(model: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


CARRIED: dict[str, Callable[[nn.Module], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


def assert_guarded_and_right(model: Any, name: str) -> None:
    assert st.is_guarded(model)
    for side in SIDES:
        assert error(model, tiny(name), padded_rows(side)) < CLOSE


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_model_is_visibly_wrong_on_left_padded_rows_so_these_tests_can_fail(name: str) -> None:
    assert error(tiny(name), tiny(name), padded_rows("left")) > VISIBLE


# Copies and files


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("carry", CARRIED)
def test_a_user_who_copies_or_saves_a_guarded_model_has_two_guarded_models(carry: str, name: str) -> None:
    model = st.guard(tiny(name))
    model(input_ids=padded_rows("left"))
    carried = CARRIED[carry](model)
    assert carried is not model
    assert_guarded_and_right(carried, name)
    assert_guarded_and_right(model, name)
    if hasattr(type(model), "generate"):
        assert carried.generate.__self__ is carried


@pytest.mark.parametrize("carry", CARRIED)
def test_a_user_who_copies_a_model_that_was_told_to_raise_has_a_copy_that_raises(carry: str) -> None:
    carried = CARRIED[carry](st.guard(tiny("bert"), padding="raise"))
    with pytest.raises(PaddingError):
        carried(input_ids=padded_rows("right"))


@pytest.mark.parametrize("carry", CARRIED)
def test_a_user_who_unguards_the_copy_keeps_the_original_guarded(carry: str) -> None:
    model = st.guard(tiny("bert"))
    carried = st.unguard(CARRIED[carry](model))
    assert not st.is_guarded(carried)
    assert error(carried, tiny("bert"), padded_rows("right")) > VISIBLE
    assert_guarded_and_right(model, "bert")


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_a_user_who_saves_a_guarded_model_writes_the_files_of_a_plain_one(name: str, tmp_path: Path) -> None:
    tiny(name).save_pretrained(tmp_path / "plain")
    model = st.guard(tiny(name), padding="exact")
    decoder = {"decoder_input_ids": torch.tensor([[PAD, 3]] * 3)} if name == "t5" else {}
    model(input_ids=padded_rows("left"), **decoder)
    model.save_pretrained(tmp_path / "guarded")
    assert {file.name: file.read_bytes() for file in (tmp_path / "guarded").iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "plain").iterdir()
    }


def test_a_user_who_loads_the_saved_folder_gets_a_guard_from_us_and_none_from_transformers(tmp_path: Path) -> None:
    st.guard(tiny("gpt2")).save_pretrained(tmp_path)
    assert not st.is_guarded(transformers.AutoModelForCausalLM.from_pretrained(tmp_path))
    assert_guarded_and_right(st.AutoModelForCausalLM.from_pretrained(tmp_path).eval(), "gpt2")


def test_a_guarded_models_state_dict_and_module_tree_are_a_plain_models() -> None:
    model, plain = st.guard(tiny("gpt2")), tiny("gpt2")
    model(input_ids=padded_rows("left"))
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert inspect.signature(model.forward) == inspect.signature(plain.forward)
    assert model.config.to_dict() == plain.config.to_dict()
    assert model.generation_config.to_dict() == plain.generation_config.to_dict()


def outputs_in_a_new_process(model: Any) -> tuple[bool, list[Any]]:
    torch.set_num_threads(1)
    with torch.no_grad():
        return st.is_guarded(model), [numbers(model(input_ids=padded_rows(side))).tolist() for side in SIDES]


@pytest.mark.slow
def test_a_user_who_sends_a_guarded_model_to_a_spawned_process_gets_right_numbers_there() -> None:
    model = st.guard(tiny("bert"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        is_guarded, outputs = pool.submit(outputs_in_a_new_process, model).result(timeout=120)
    assert is_guarded
    for side, output in zip(SIDES, outputs, strict=True):
        ids = padded_rows(side)
        for row, row_ids, expected in zip(torch.tensor(output), ids, alone(tiny("bert"), ids), strict=True):
            torch.testing.assert_close(row[row_ids != 0], expected, atol=CLOSE, rtol=0)


# Compilers and exporters


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_user_who_compiles_a_guarded_model_whole_gets_right_numbers_on_both_sides(backend: str, name: str) -> None:
    model = torch.compile(st.guard(tiny(name, **ONE_LAYER[name])), fullgraph=True, backend=backend)
    plain = tiny(name, **ONE_LAYER[name])
    for side in SIDES:
        assert error(model, plain, padded_rows(side), **NO_CACHE[name]) < CLOSE


def graphs_of_a_users_function(model: nn.Module) -> int:
    torch._dynamo.reset()
    counter = CompileCounter()
    function = torch.compile(lambda ids: numbers(model(input_ids=ids)), fullgraph=True, backend=counter)
    with torch.no_grad():
        for ids in map(padded_rows, SIDES):
            function(ids)
            function(ids[:, :5])
    return counter.frame_count


def test_a_guarded_model_inside_a_compiled_function_is_compiled_as_often_as_a_plain_one() -> None:
    plain, model = (tiny("bert", num_hidden_layers=1) for _ in range(2))
    assert graphs_of_a_users_function(st.guard(model)) == graphs_of_a_users_function(plain)


def test_a_compiled_guarded_model_is_not_compiled_again_for_other_padding_or_a_policy_scope() -> None:
    counter = CompileCounter()
    model = st.guard(tiny("bert", num_hidden_layers=1))
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    with torch.no_grad():
        compiled(input_ids=padded_rows("right"))
        first = counter.frame_count
        for ids in (padded_rows("left"), padded_rows("left").flip(0), padded_rows("right")[[1, 1, 1]]):
            compiled(input_ids=ids)
        with st.policy(loading="off"):
            compiled(input_ids=padded_rows("left"))
    assert first > 0
    assert counter.frame_count == first


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler, and there is none")
def test_a_user_who_compiles_with_inductor_gets_right_numbers() -> None:
    model = torch.compile(st.guard(tiny("bert", num_hidden_layers=1)), fullgraph=True)
    for side in SIDES:
        assert error(model, tiny("bert", num_hidden_layers=1), padded_rows(side)) < CLOSE


def test_a_user_who_compiles_a_guarded_model_in_place_gets_right_numbers() -> None:
    model = st.guard(tiny("bert"))
    model.compile(fullgraph=True, backend="eager")
    assert_guarded_and_right(model, "bert")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strict", [True, False])
def test_a_user_who_exports_a_guarded_model_exports_the_guard(strict: bool, name: str) -> None:
    model, plain = st.guard(tiny(name, **ONE_LAYER[name])), tiny(name, **ONE_LAYER[name])
    inputs = {"input_ids": padded_rows("right"), **NO_CACHE[name]}
    with torch.no_grad():
        program = torch.export.export(model, (), inputs, strict=strict).module()
    for side in SIDES:
        assert error(program, plain, padded_rows(side), **NO_CACHE[name]) < CLOSE


def test_a_user_who_traces_a_guarded_model_on_one_side_can_run_it_on_the_other() -> None:
    model = st.guard(tiny("bert"))
    with torch.no_grad():
        traced = torch.jit.trace(model, (padded_rows("right"),), strict=False)
    for side in SIDES:
        ids = padded_rows(side)
        for row, row_ids, expected in zip(numbers(traced(ids)), ids, alone(tiny("bert"), ids), strict=True):
            torch.testing.assert_close(row[row_ids != 0], expected, atol=CLOSE, rtol=0)


# Moving, casting, training


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_user_who_casts_a_guarded_model_gets_the_numbers_of_that_precision(name: str, dtype: torch.dtype) -> None:
    model = st.guard(tiny(name)).to("cpu").to(dtype)
    assert st.is_guarded(model)
    for side in SIDES:
        ids = padded_rows(side)
        plain = tiny(name).to(dtype)
        scale = max(row.abs().max().item() for row in alone(plain, ids))
        assert error(model, plain, ids) <= 32 * torch.finfo(dtype).eps * scale
        assert error(plain, plain, padded_rows("left")) > 64 * torch.finfo(dtype).eps * scale


@pytest.mark.parametrize("call", ["half", "bfloat16", "double", "cpu"])
def test_the_shorthands_for_casting_return_the_same_guarded_model(call: str) -> None:
    model = st.guard(tiny("gpt2"))
    assert getattr(model, call)() is model
    assert st.is_guarded(model)
    assert model.generate.__self__ is model


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_user_who_trains_with_gradient_checkpointing_gets_the_gradients_of_the_right_mask(
    name: str, side: str, use_reentrant: bool
) -> None:
    ids = padded_rows(side)
    mask = mask_of(ids)

    def gradients(model: Any, **inputs: Tensor) -> dict[str, Tensor]:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        numbers(model(input_ids=ids, **inputs))[mask.bool()].square().sum().backward()
        return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}

    expected = gradients(tiny(name), attention_mask=mask, position_ids=st.position_ids_from_mask(mask))
    found = gradients(st.guard(tiny(name)))
    assert found.keys() == expected.keys()
    # Some gradients are zero but for rounding (a key's bias), so the scale is that of all of them.
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, atol=CLOSE * scale, rtol=0, msg=key)


@pytest.mark.parametrize("is_guarded_first", [True, False])
def test_a_user_of_data_parallel_gets_right_numbers(is_guarded_first: bool) -> None:
    model = tiny("bert")
    parallel = nn.DataParallel(st.guard(model)) if is_guarded_first else st.guard(nn.DataParallel(model))
    assert st.is_guarded(model)
    assert_guarded_and_right(parallel, "bert")
    assert st.is_guarded(model._replicate_for_data_parallel())
    st.unguard(parallel)
    assert not st.is_guarded(model)


# Taking the guard off, other people's hooks, memory


def state_of(module: nn.Module) -> dict[str, Any]:
    """Everything that a guard could leave behind: names of attributes, and the content of the hook tables."""
    return {
        name: dict(value) if "hooks" in name and isinstance(value, dict) else "" for name, value in vars(module).items()
    }


@pytest.mark.parametrize("padding", ["infer", "exact"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_a_user_who_unguards_has_a_model_as_if_it_had_never_been_guarded(name: str, padding: str) -> None:
    model = tiny(name)
    before = state_of(model)
    st.guard(model, padding=padding)
    assert state_of(model) != before
    decoder = {"decoder_input_ids": torch.tensor([[PAD, 3]] * 3)} if name == "t5" else {}
    model(input_ids=padded_rows("left"), **decoder)
    assert st.unguard(model) is model
    assert state_of(model) == before
    assert not st.is_guarded(model)
    assert "generate" not in vars(model)


def test_a_user_who_guards_twice_has_one_guard_and_the_later_policy() -> None:
    model = st.guard(tiny("gpt2"))
    once = state_of(model)
    generate = model.generate
    assert st.guard(model, padding="raise") is model
    assert state_of(model).keys() == once.keys()
    assert len(model._forward_pre_hooks) == 1
    assert model.generate is generate
    with pytest.raises(PaddingError):
        model(input_ids=padded_rows("left"))
    st.unguard(model)
    assert len(model._forward_pre_hooks) == 0


def test_unguarding_a_plain_model_leaves_it_alone() -> None:
    model = tiny("gpt2")
    before = state_of(model)
    assert st.unguard(model) is model
    assert state_of(model) == before


def test_a_users_own_hooks_work_beside_the_guard_and_outlive_it() -> None:
    calls: list[str] = []
    seen: list[Any] = []

    def note(what: str) -> Callable[..., None]:
        return lambda *_: calls.append(what)

    def see(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs.get("attention_mask"))

    model = tiny("bert")
    handles = [
        model.register_forward_pre_hook(note("pre before")),
        model.register_forward_hook(note("post before")),
        model.register_forward_pre_hook(see, with_kwargs=True),
    ]
    st.guard(model, padding="infer")
    handles += [model.register_forward_pre_hook(note("pre after")), model.register_forward_hook(note("post after"))]
    everything = ["pre before", "pre after", "post before", "post after"]

    assert error(model, tiny("bert"), padded_rows("right")) < CLOSE
    assert calls == everything
    assert torch.equal(seen[-1], mask_of(padded_rows("right"))), "a user's hook sees what forward gets"

    st.unguard(model)
    calls.clear()
    model(input_ids=padded_rows("right"))
    assert calls == everything
    assert seen[-1] is None
    for handle in handles:
        handle.remove()
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_a_users_own_generate_on_the_model_is_called_by_the_guard_and_put_back() -> None:
    model = tiny("gpt2")
    plain, given = model.generate, []

    def mine(*args: Any, **kwargs: Any) -> Any:
        given.append(kwargs.get("attention_mask"))
        return plain(*args, **kwargs)

    model.generate = mine
    st.guard(model)
    ids = padded_rows("left")
    model.generate(ids, max_new_tokens=2)
    assert torch.equal(given[-1], mask_of(ids))
    st.unguard(model)
    assert vars(model)["generate"] is mine


def test_a_user_who_guards_a_whole_with_a_guarded_part_has_one_guard() -> None:
    whole = tiny("gpt2")
    st.guard(whole.transformer)
    st.guard(whole)
    assert not st.is_guarded(whole.transformer)
    assert_guarded_and_right(whole, "gpt2")


@pytest.mark.parametrize("padding", ["infer", "exact"])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_deleting_a_guarded_model_frees_it_at_once(name: str, padding: str) -> None:
    model = st.guard(tiny(name), padding=padding)
    with torch.no_grad():
        model(input_ids=padded_rows("left"))
        if name == "gpt2":
            model.generate(padded_rows("left"), max_new_tokens=2)
    gc.collect()
    gc.disable()
    try:
        gone, weights = weakref.ref(model), weakref.ref(next(model.parameters()))
        del model
        assert gone() is None
        assert weights() is None
    finally:
        gc.enable()


def test_a_user_who_keeps_only_generate_keeps_the_model_as_it_was_last() -> None:
    ids, last = padded_rows("left"), {"max_new_tokens": 3, "do_sample": False}
    expected = tiny("gpt2").generate(ids, attention_mask=mask_of(ids), **last)
    assert torch.equal(st.guard(tiny("gpt2")).generate(ids, **last), expected)

    def load() -> Callable[..., Any]:
        model = st.guard(tiny("gpt2"))
        model.generation_config = transformers.GenerationConfig(**last, pad_token_id=PAD, eos_token_id=EOS)
        return model.generate

    generate = load()
    assert torch.equal(generate(ids), expected)
    assert torch.equal(generate(ids), expected)
    assert type(generate.__self__) is transformers.GPT2LMHeadModel


# Threads, tasks, wrong things


@pytest.mark.parametrize("padding", ["infer", "exact"])
def test_eight_threads_that_call_one_guarded_model_each_get_their_own_right_numbers(padding: str) -> None:
    plain, model = tiny("bert"), st.guard(tiny("bert"), padding=padding)
    batches = [(padded_rows(side)[:rows, first:], side) for side in SIDES for rows in (2, 3) for first in (0, 1)]
    batches = [(ids, side) for ids, side in batches if (ids != 0).any(1).all()]

    def worst_of_many(ids: Tensor) -> float:
        return max(error(model, plain, ids) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(worst_of_many, [ids for ids, _ in batches]))
    assert len(errors) == 8
    assert max(errors) < CLOSE


def test_eight_threads_that_generate_with_one_guarded_model_each_get_their_own_continuation() -> None:
    model = st.guard(tiny("gpt2"))
    prompts = [torch.tensor([[0, 0, 5 + n, 7], [3, 9 + n, 11, 40 + n]]) for n in range(8)]
    one_by_one = [
        model.generate(ids, attention_mask=mask_of(ids), max_new_tokens=6, do_sample=False) for ids in prompts
    ]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda ids: model.generate(ids, max_new_tokens=6, do_sample=False), prompts))
    assert [ids.tolist() for ids in at_once] == [ids.tolist() for ids in one_by_one]


def test_a_policy_scope_of_one_task_does_not_reach_another() -> None:
    model, plain = st.guard(tiny("bert")), tiny("bert")
    ids = padded_rows("right")

    async def strictly(is_inside: asyncio.Event, is_done: asyncio.Event) -> None:
        with st.policy(padding="raise"):
            is_inside.set()
            await is_done.wait()
            with pytest.raises(PaddingError):
                model(input_ids=ids)

    async def freely(is_inside: asyncio.Event, is_done: asyncio.Event) -> float:
        await is_inside.wait()
        found = error(model, plain, ids)
        is_done.set()
        return found

    async def both() -> float:
        is_inside, is_done = asyncio.Event(), asyncio.Event()
        _, found = await asyncio.gather(strictly(is_inside, is_done), freely(is_inside, is_done))
        return found

    assert asyncio.run(both()) < CLOSE


def test_generating_in_one_thread_does_not_take_the_guard_off_forward_in_another() -> None:
    model, plain = st.guard(tiny("gpt2")), tiny("gpt2")
    found: list[float] = []

    class CallFromAnotherThread(transformers.StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
            with ThreadPoolExecutor(1) as pool:
                found.append(pool.submit(error, model, plain, padded_rows("left")).result())
            return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    criteria = transformers.StoppingCriteriaList([CallFromAnotherThread()])
    model.generate(padded_rows("left"), max_new_tokens=2, do_sample=False, stopping_criteria=criteria)
    assert found
    assert max(found) < CLOSE


def test_a_user_who_guards_something_else_is_told_that_it_is_no_model() -> None:
    with pytest.raises(TypeError, match="Linear"):
        st.guard(nn.Linear(2, 2))
