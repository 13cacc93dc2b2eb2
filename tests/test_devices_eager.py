"""``device_checks="eager"``: a value beyond its limit is refused before its kernel, and nothing else is."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
import torch
from device_models import PlaceholderModel
from models import padded_rows, tiny
from test_devices_notes import FAILURES, with_value
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

import safetransformers as st
from safetransformers.errors import IndexOutOfRangeError

_IDS = torch.tensor([[5, 6, 7], [8, 9, 10]])
_BAD = with_value(99, 1, 2)
# BERT's own check of sizes stops it on the host, with the context intact.
_SAID_BY_TORCH = "a row longer than a BERT has positions"


class Launched(TorchDispatchMode):
    """The indices of each lookup that was launched."""

    def __init__(self) -> None:
        super().__init__()
        self.indices: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.embedding.default:
            self.indices.append(args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FAILURES)
def test_what_torch_would_fail_at_is_refused_with_an_error_that_both_old_clauses_catch(name: str) -> None:
    make, kwargs, code, says = FAILURES[name]
    with torch.no_grad(), st.policy(device_checks="eager"), pytest.raises((IndexError, RuntimeError)) as info:
        st.guard(make())(**kwargs)
    if name == _SAID_BY_TORCH:
        return
    error = info.value
    assert isinstance(error, IndexOutOfRangeError) and isinstance(error, IndexError) and isinstance(error, RuntimeError)
    assert error.code == code and says in str(error)
    assert len(str(error).splitlines()) <= 10
    argument = kwargs[error.details["argument"]]
    assert error.details["place"] == () or argument[error.details["place"]] == error.details["value"]


def test_the_lookup_that_would_have_failed_is_not_launched() -> None:
    model = st.guard(tiny("gpt2"), device_checks="eager")
    with Launched() as launched, pytest.raises(IndexOutOfRangeError):
        model(input_ids=_BAD)
    assert not [indices for indices in launched.indices if bool((indices == 99).any())]
    with Launched() as launched:
        model(input_ids=_IDS)
    assert any(torch.equal(indices, _IDS) for indices in launched.indices)


def test_an_id_that_the_model_replaces_before_it_is_looked_up_is_not_refused() -> None:
    model = st.guard(PlaceholderModel(tiny("bert").config), device_checks="eager").eval()
    ids = with_value(500, 0, 1)
    assert torch.equal(model(ids)[0], st.unguard(copy.deepcopy(model))(ids)[0])
    with pytest.raises(IndexOutOfRangeError, match="holds 501 at row 1, column 0"):
        model(with_value(501, 1, 0, like=ids))


def test_what_is_within_the_limits_gives_the_numbers_of_plain_transformers() -> None:
    ids = with_value(63, 1, 2)  # a tokenizer of fewer tokens than the table has rows may add tokens of its own
    labels = with_value(-100, 0, 1, like=ids)
    plain, model = tiny("gpt2"), st.guard(tiny("gpt2"), device_checks="eager")
    assert torch.equal(model(input_ids=ids, labels=labels).loss, plain(input_ids=ids, labels=labels).loss)


@pytest.mark.parametrize("ids", [_BAD, _IDS])
def test_no_look_outlives_the_call(ids: Tensor) -> None:
    model = st.guard(tiny("gpt2"), device_checks="eager")
    try:
        model(input_ids=ids)
    except IndexOutOfRangeError:
        assert ids is _BAD
    assert _get_current_dispatch_mode() is None
    placeholders = st.guard(PlaceholderModel(tiny("bert").config), device_checks="eager")
    placeholders(with_value(500, 0, 0))
    assert _get_current_dispatch_mode() is None


def test_taking_the_guard_off_leaves_nothing_behind() -> None:
    model, plain = st.guard(tiny("gpt2"), device_checks="eager"), tiny("gpt2")
    with pytest.raises(IndexOutOfRangeError):
        model(input_ids=_BAD)
    st.unguard(model)
    assert vars(model).keys() == vars(plain).keys()
    assert not model._forward_hooks and not model._forward_pre_hooks and not model._forward_hooks_always_called


def test_a_prompt_is_looked_at_once_and_decoding_never() -> None:
    for name in ("gpt2", "t5"):
        model = st.guard(tiny(name), device_checks="eager")
        with pytest.raises(IndexOutOfRangeError, match="input_ids holds 99 at row 1, column 2"):
            model.generate(_BAD, max_new_tokens=2)
        kwargs = {"max_new_tokens": 4, "do_sample": False}
        assert torch.equal(model.generate(_IDS, **kwargs), tiny(name).generate(_IDS, **kwargs))


def test_a_decoding_loop_of_ones_own_is_looked_at_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    from safetransformers.devices import check

    looks: list[Any] = []
    monkeypatch.setattr(check, "beyond", lambda limits, values, lengths: looks.append(values) or [])
    model = st.guard(tiny("gpt2"), device_checks="eager")
    cache = model(input_ids=_IDS, use_cache=True).past_key_values
    for _ in range(3):
        model(input_ids=_IDS[:, -1:], past_key_values=cache, use_cache=True)
    assert len(looks) == 1


def test_a_compiled_model_is_compiled_whole_and_not_looked_at() -> None:
    torch.compiler.reset()
    model = st.guard(tiny("bert"), device_checks="eager")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    mask = torch.ones_like(_IDS)
    assert torch.equal(compiled(input_ids=_IDS, attention_mask=mask)[0], tiny("bert")(input_ids=_IDS)[0])
    with pytest.raises(IndexError) as info:
        compiled(input_ids=_BAD, attention_mask=mask)
    assert not isinstance(info.value, IndexOutOfRangeError)


@pytest.mark.parametrize("carry", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_models_own_field_goes_with_it(carry: Any) -> None:
    model = st.guard(tiny("gpt2"), device_checks="eager")
    with pytest.raises(IndexOutOfRangeError):
        model(input_ids=_BAD)  # what a call leaves on the model goes along too
    for one in (carry(model), nn.DataParallel(model)):
        with pytest.raises(IndexOutOfRangeError):
            one(input_ids=_BAD, attention_mask=torch.ones_like(_BAD))


def _in_a_block() -> Any:
    with st.policy(device_checks="eager"):
        return _failure(st.guard(tiny("gpt2")))


def _in_the_process() -> Any:
    model = st.guard(tiny("gpt2"))
    st.configure(device_checks="eager")
    return _failure(model)


def _in_the_environment() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFETRANSFORMERS_DEVICE_CHECKS", "eager")
        return _failure(st.guard(tiny("gpt2")))


def _of_the_model() -> Any:
    return _failure(st.guard(tiny("gpt2"), device_checks="eager"))


def _failure(model: Any) -> Any:
    with pytest.raises(IndexError) as info:
        model(input_ids=_BAD, attention_mask=torch.ones_like(_BAD))
    return info.value


@pytest.mark.parametrize("failure", [_in_a_block, _in_the_process, _in_the_environment, _of_the_model])
def test_each_layer_of_the_policy_alone_reaches_a_call_that_has_a_mask(failure: Any) -> None:
    assert not isinstance(_failure(st.guard(tiny("gpt2"))), IndexOutOfRangeError)
    assert isinstance(failure(), IndexOutOfRangeError)
    with st.policy(device_checks="off"):
        assert not isinstance(_failure(st.guard(tiny("gpt2"), device_checks="eager")), IndexOutOfRangeError)


def test_a_task_that_outlives_the_block_that_started_it_keeps_its_policy() -> None:
    model = st.guard(tiny("gpt2"))

    async def main() -> None:
        is_over = asyncio.Event()

        async def later() -> None:
            await is_over.wait()
            with pytest.raises(IndexOutOfRangeError):
                model(input_ids=_BAD, attention_mask=torch.ones_like(_BAD))

        with st.policy(device_checks="eager"):
            task = asyncio.create_task(later())
        st.configure(padding="warn")  # asks for nothing, and takes nothing back
        is_over.set()
        await task

    asyncio.run(main())


def test_rows_that_are_moved_are_looked_at_as_they_stood() -> None:
    for padding in ("infer", "exact"):
        model = st.guard(tiny("bert"), device_checks="eager", padding=padding)
        with pytest.raises(IndexOutOfRangeError, match="holds 99 at row 1, column 5"):
            model(input_ids=with_value(99, 1, 5, like=padded_rows("left")))


def test_a_check_that_fails_itself_does_not_break_the_call_except_in_strict_mode(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from safetransformers.devices import check

    def broken(*args: Any) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(check, "limits_of", broken)
    model = st.guard(tiny("gpt2"))
    with st.policy(device_checks="eager"):
        assert torch.equal(model(input_ids=_IDS).logits, tiny("gpt2")(input_ids=_IDS).logits)
    assert "device_checks" in caplog.text
    with st.strict(device_checks="eager"), pytest.raises(st.errors.GuardError, match="device_checks"):
        model(input_ids=_IDS)
