"""``generate()`` of a guarded model: padded prompts go on as they do alone, and an explicit mask always wins."""

from __future__ import annotations

import inspect
import queue
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import transformers
from models import BOS, EOS, PAD, ROWS, mask_of, padded_rows, tiny
from torch import Tensor

import safetransformers as st
from safetransformers import notices
from safetransformers.errors import AmbiguousPaddingWarning, PaddingError, RightPaddedPromptWarning

DECODERS = ("gpt2", "llama", "mistral", "bloom")
GREEDY = {"do_sample": False, "max_new_tokens": 8}
Rows = Sequence[Sequence[int]]


@pytest.fixture(autouse=True)
def each_warning_is_given_again() -> Iterator[None]:
    notices.forget()
    yield
    notices.forget()


def continued(model: Any, ids: Tensor, ends: Sequence[int] = (EOS,), **kwargs: Any) -> list[list[int]]:
    """What generate adds to each row, up to the eos token that ends it."""
    output = model.generate(ids, **{**GREEDY, **kwargs})
    start = 1 if model.config.is_encoder_decoder else ids.shape[1]
    rows = output[:, start:].tolist()
    return [row[: next((at + 1 for at, token in enumerate(row) if token in ends), None)] for row in rows]


def alone(plain: Any, rows: Rows = ROWS, ends: Sequence[int] = (EOS,), **kwargs: Any) -> list[list[int]]:
    """The continuation of each prompt by itself, by a plain model."""
    prompts = [torch.tensor([row]) for row in rows]
    return [continued(plain, ids, ends, attention_mask=torch.ones_like(ids), **kwargs)[0] for ids in prompts]


# Continuations


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"cache_implementation": "dynamic"},
        {"num_beams": 3},
        {"num_beams": 3, "use_cache": False},
        {"repetition_penalty": 1.5},
        {"min_new_tokens": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", DECODERS)
def test_a_user_who_left_pads_prompts_gets_the_continuations_of_the_prompts_alone(
    name: str, how: dict[str, Any]
) -> None:
    # A repetition penalty reads the pads too, with any mask: there the plain run with the right mask is the reference.
    ids = padded_rows("left")
    model = st.guard(tiny(name))
    if "repetition_penalty" in how:
        expected = continued(tiny(name), ids, attention_mask=mask_of(ids), **how)
    else:
        expected = alone(tiny(name), **how)
    assert continued(model, ids, **how) == expected


@pytest.mark.parametrize("name", DECODERS)
def test_a_plain_model_that_attends_to_the_padding_goes_on_differently_so_these_tests_can_fail(name: str) -> None:
    ids = padded_rows("left")
    assert continued(tiny(name), ids, attention_mask=torch.ones_like(ids)) != alone(tiny(name))


@pytest.mark.parametrize("name", DECODERS[:3])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"cache_implementation": "static"}], ids=str)
def test_rows_that_finish_at_different_steps_go_on_as_alone_also_where_pad_is_eos(
    name: str, how: dict[str, Any]
) -> None:
    # An eos token that one row meets early and another late or never.
    for eos in _tokens_met(name):
        expected = alone(tiny(name), ends=(eos,), eos_token_id=eos, pad_token_id=eos, **how)
        if len({len(row) for row in expected}) > 1:
            break
    else:
        pytest.fail("no token ends the rows at different steps")
    for pad in (PAD, eos):
        model = st.guard(tiny(name))
        ids = padded_rows("left", pad=pad)
        assert continued(model, ids, (eos,), eos_token_id=eos, pad_token_id=pad, **how) == expected


def _tokens_met(name: str) -> list[int]:
    """Tokens that the rows go on with and that no prompt holds, the early ones first."""
    rows = alone(tiny(name), ends=(), eos_token_id=None)
    return [token for step in zip(*rows, strict=True) for token in step if all(token not in prompt for prompt in ROWS)]


@pytest.mark.parametrize("name", DECODERS)
def test_a_user_whose_pad_token_is_the_eos_token_gets_the_continuations_of_the_prompts_alone(name: str) -> None:
    model = st.guard(tiny(name, pad_token_id=EOS))
    assert continued(model, padded_rows("left", pad=EOS)) == alone(tiny(name))
    assert continued(st.guard(tiny(name, pad_token_id=None)), padded_rows("left", pad=EOS), pad_token_id=EOS) == alone(
        tiny(name)
    )


@pytest.mark.parametrize("name", DECODERS)
def test_a_user_who_set_no_pad_token_at_all_gets_the_continuations_of_the_prompts_alone(name: str) -> None:
    # transformers takes the eos token for padding then (GenerationMixin._prepare_special_tokens); so did the tokenizer.
    model = st.guard(tiny(name, pad_token_id=None))
    assert continued(model, padded_rows("left", pad=EOS)) == alone(tiny(name))


@pytest.mark.parametrize("name", DECODERS)
def test_a_user_whose_pad_eos_and_bos_are_one_token_keeps_the_genuine_bos_of_each_row(name: str) -> None:
    special = {"pad_token_id": BOS, "eos_token_id": BOS, "bos_token_id": BOS}
    with_bos = [(BOS, *row) for row in ROWS]
    model = st.guard(tiny(name, **special))
    assert continued(model, padded_rows("left", with_bos, BOS), (BOS,)) == alone(
        tiny(name, **special), with_bos, (BOS,)
    )
    # One row does not begin with it, so no row was given one.
    assert continued(model, padded_rows("left", pad=BOS), (BOS,)) == alone(tiny(name, **special), ROWS, (BOS,))


@pytest.mark.parametrize("name", DECODERS)
def test_a_pad_token_in_the_middle_of_a_prompt_is_a_token(name: str) -> None:
    prompts = [(5, PAD, 7, 9, 11), (8, PAD, PAD, 21), (6, 3)]
    model = st.guard(tiny(name))
    assert continued(model, padded_rows("left", prompts)) == alone(tiny(name), prompts)
    unpadded = torch.tensor([prompts[0]])
    assert continued(model, unpadded) == alone(tiny(name), prompts[:1])


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("how", [{}, {"use_cache": False}, {"num_beams": 3}], ids=str)
def test_an_explicit_mask_wins_also_one_of_ones_on_a_padded_prompt(name: str, how: dict[str, Any]) -> None:
    ids = padded_rows("left")
    for mask in (torch.ones_like(ids), mask_of(ids), mask_of(ids).flip(0)):
        expected = tiny(name).generate(ids, attention_mask=mask, **GREEDY, **how)
        assert torch.equal(st.guard(tiny(name)).generate(ids, attention_mask=mask, **GREEDY, **how), expected)


@pytest.mark.parametrize("name", DECODERS)
def test_unpadded_prompts_go_on_exactly_as_in_plain_transformers(name: str) -> None:
    ids = torch.tensor([ROWS[2], ROWS[2][::-1]])
    expected = tiny(name).generate(ids, **GREEDY, return_dict_in_generate=True, output_scores=True)
    output = st.guard(tiny(name)).generate(ids, **GREEDY, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(output.sequences, expected.sequences)
    assert all(map(torch.equal, output.scores, expected.scores))


@pytest.mark.parametrize("name", DECODERS)
def test_a_user_who_asks_for_scores_gets_those_of_the_right_mask(name: str) -> None:
    ids = padded_rows("left")
    options = {**GREEDY, "return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    expected = tiny(name).generate(ids, attention_mask=mask_of(ids), **options)
    output = st.guard(tiny(name)).generate(ids, **options)
    assert type(output) is type(expected)
    assert torch.equal(output.sequences, expected.sequences)
    assert all(map(torch.equal, output.scores, expected.scores))
    for row, prompt in enumerate(ROWS):
        first = tiny(name).generate(torch.tensor([prompt]), **options).logits[0][0]
        torch.testing.assert_close(output.logits[0][row], first, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", DECODERS)
def test_sampling_with_a_seed_gives_what_plain_transformers_samples_with_the_right_mask(name: str) -> None:
    ids = padded_rows("left")

    def sampled(model: Any, **kwargs: Any) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            return model.generate(ids, do_sample=True, top_k=20, max_new_tokens=8, **kwargs)

    assert torch.equal(sampled(st.guard(tiny(name))), sampled(tiny(name), attention_mask=mask_of(ids)))


@pytest.mark.parametrize("assistant", ["guarded", "plain", "prompt lookup"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_assisted_generation_continues_a_padded_prompt_as_alone(name: str, assistant: str) -> None:
    def helper() -> dict[str, Any]:
        if assistant == "prompt lookup":
            return {"prompt_lookup_num_tokens": 2}
        other = tiny(name, seed=1)
        return {"assistant_model": st.guard(other) if assistant == "guarded" else other}

    ids = torch.tensor([[PAD, PAD, *ROWS[2]]])
    expected = tiny(name).generate(ids, attention_mask=mask_of(ids), **GREEDY, **helper())
    output = st.guard(tiny(name)).generate(ids, **GREEDY, **helper())
    assert output.tolist() == expected.tolist()
    assert continued(st.guard(tiny(name)), ids, **helper()) == alone(tiny(name), ROWS[2:])


# Ways to pass things


@pytest.mark.parametrize("pad", [EOS, 60])
def test_a_pad_token_that_is_known_only_to_the_call_is_used(pad: int) -> None:
    ids = padded_rows("left", pad=pad)
    expected = alone(tiny("gpt2"))
    config = transformers.GenerationConfig(**GREEDY, pad_token_id=pad, eos_token_id=EOS)
    model = st.guard(tiny("gpt2", pad_token_id=None))
    assert continued(model, ids, pad_token_id=pad) == expected
    assert continued(model, ids, generation_config=config) == expected
    model.generation_config.pad_token_id = pad
    assert continued(model, ids) == expected


def test_prompts_are_guarded_however_they_are_passed() -> None:
    ids = padded_rows("left")
    model = st.guard(tiny("gpt2"))
    options = {**GREEDY, "use_cache": True}
    expected = tiny("gpt2").generate(ids, attention_mask=mask_of(ids), **options).tolist()
    assert model.generate(ids, **options).tolist() == expected
    assert model.generate(input_ids=ids, **options).tolist() == expected
    assert model.generate(inputs=ids, **options).tolist() == expected
    assert model.generate(ids, attention_mask=None, **options).tolist() == expected
    assert (
        model.generate(ids, transformers.GenerationConfig(**options, pad_token_id=PAD, eos_token_id=EOS)).tolist()
        == expected
    )


def test_inputs_embeds_are_left_alone() -> None:
    model, plain = st.guard(tiny("llama")), tiny("llama")
    with torch.no_grad():
        embeds = plain.get_input_embeddings()(padded_rows("left"))
    expected = plain.generate(inputs_embeds=embeds, **GREEDY)
    assert torch.equal(model.generate(inputs_embeds=embeds, **GREEDY), expected)


def test_a_conversation_that_goes_on_with_its_cache_is_left_alone() -> None:
    ids = padded_rows("left", pad=EOS)
    mask = mask_of(padded_rows("left"))

    def two_turns(model: Any, first_mask: Tensor | None, *, masks_second: bool) -> Tensor:
        options = {**GREEDY, "min_new_tokens": 8, "pad_token_id": EOS}
        first = model.generate(ids, attention_mask=first_mask, return_dict_in_generate=True, **options)
        turn = torch.cat([first.sequences, torch.full((3, 2), 9)], dim=1)
        rest = torch.ones(3, turn.shape[1] - ids.shape[1], dtype=torch.int64)
        second_mask = torch.cat([mask, rest], dim=1) if masks_second else None
        return model.generate(turn, attention_mask=second_mask, past_key_values=first.past_key_values, **options)

    for masks_second in (True, False):
        expected = two_turns(tiny("llama"), mask, masks_second=masks_second)
        assert torch.equal(two_turns(st.guard(tiny("llama")), None, masks_second=masks_second), expected)


@pytest.mark.parametrize("name", DECODERS)
def test_a_policy_of_exact_runs_decides_the_mask_of_generate_and_nothing_inside_it(name: str) -> None:
    with st.policy(padding="exact"):
        assert continued(st.guard(tiny(name)), padded_rows("left")) == alone(tiny(name))


def test_the_signature_and_name_of_generate_are_the_plain_models() -> None:
    model, plain = st.guard(tiny("gpt2")), tiny("gpt2")
    assert inspect.signature(model.generate) == inspect.signature(plain.generate)
    assert model.generate.__doc__ == plain.generate.__doc__
    assert model.generate.__name__ == "generate"
    assert model.can_generate()


def test_a_user_who_streams_from_a_thread_gets_the_tokens_of_the_prompt_alone() -> None:
    class Tokens(transformers.generation.streamers.BaseStreamer):
        def __init__(self) -> None:
            self.queue: queue.Queue[list[int] | None] = queue.Queue()

        def put(self, value: Tensor) -> None:
            self.queue.put(value.flatten().tolist())

        def end(self) -> None:
            self.queue.put(None)

    def streamed(model: Any, ids: Tensor) -> list[int]:
        streamer = Tokens()
        thread = threading.Thread(target=model.generate, args=(ids,), kwargs={**GREEDY, "streamer": streamer})
        thread.start()
        parts = list(iter(lambda: streamer.queue.get(timeout=60), None))
        thread.join(60)
        return [token for part in parts[1:] for token in part]

    prompt = torch.tensor([ROWS[1]])
    padded = torch.tensor([[PAD, PAD, PAD, *ROWS[1]]])
    assert streamed(st.guard(tiny("gpt2")), padded) == streamed(tiny("gpt2"), prompt)


# Policies and warnings


def test_strict_mode_raises_before_anything_is_run() -> None:
    model = st.guard(tiny("gpt2"))
    runs: list[Any] = []
    model.transformer.register_forward_pre_hook(lambda *_: runs.append(1))
    ids = padded_rows("left")
    with st.strict(), pytest.raises(PaddingError, match="ST-MASK-001"):
        model.generate(ids, **GREEDY)
    assert not runs
    with st.strict():
        model.generate(ids, attention_mask=mask_of(ids), **GREEDY)
    assert runs


def test_with_the_guard_off_generate_is_plain() -> None:
    ids = padded_rows("left", pad=EOS)
    expected = tiny("gpt2", pad_token_id=EOS).generate(ids, **GREEDY)
    with st.policy(padding="off"):
        assert torch.equal(st.guard(tiny("gpt2", pad_token_id=EOS)).generate(ids, **GREEDY), expected)
    assert continued(tiny("gpt2"), ids) != alone(tiny("gpt2"))


def test_a_user_who_right_pads_prompts_of_a_decoder_is_told_so_and_gets_the_right_mask() -> None:
    ids = padded_rows("right")
    with pytest.warns(RightPaddedPromptWarning, match='padding_side = "left"'):
        output = st.guard(tiny("gpt2")).generate(ids, **GREEDY)
    assert torch.equal(output, tiny("gpt2").generate(ids, attention_mask=mask_of(ids), **GREEDY))


def test_prompts_that_end_with_their_own_eos_token_are_not_called_right_padded() -> None:
    rows = [(*row, EOS) for row in ROWS]
    model = st.guard(tiny("gpt2", pad_token_id=EOS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RightPaddedPromptWarning)
        found = continued(model, padded_rows("left", rows, pad=EOS))
    assert found == alone(tiny("gpt2"), rows)


def test_a_user_whose_pad_token_is_the_eos_token_is_not_warned_about_left_padding() -> None:
    model = st.guard(tiny("gpt2", pad_token_id=EOS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", AmbiguousPaddingWarning)
        model.generate(padded_rows("left", pad=EOS), **GREEDY)


def test_after_generate_and_after_one_that_fails_forward_is_guarded_again() -> None:
    class Fails(transformers.LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            raise RuntimeError("of the user's own")

    model = st.guard(tiny("gpt2"))
    ids = padded_rows("left")
    with pytest.raises(RuntimeError, match="of the user's own"):
        model.generate(ids, logits_processor=transformers.LogitsProcessorList([Fails()]), **GREEDY)
    with st.policy(padding="raise"), pytest.raises(PaddingError):
        model(input_ids=ids)


# Encoder-decoder models


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pad", [PAD, EOS])
@pytest.mark.parametrize(
    "how", [{}, {"num_beams": 3}, {"cache_implementation": "static"}, {"use_cache": False}], ids=str
)
def test_padded_rows_of_an_encoder_are_decoded_as_alone(side: str, pad: int, how: dict[str, Any]) -> None:
    rows = [(*row, EOS) for row in ROWS] if pad == EOS else ROWS
    model, plain = (tiny("t5", pad_token_id=pad) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RightPaddedPromptWarning)
        assert continued(st.guard(model), padded_rows(side, rows, pad), **how) == alone(plain, rows, **how)


def test_decoding_of_padded_encoder_rows_can_fail() -> None:
    ids = padded_rows("right")
    assert continued(tiny("t5"), ids, attention_mask=torch.ones_like(ids)) != alone(tiny("t5"))


def test_a_decoder_prompt_beside_padded_encoder_rows_is_kept() -> None:
    prompt = torch.tensor([[PAD, 7]])
    expected = alone(tiny("t5"), decoder_input_ids=prompt)
    assert continued(st.guard(tiny("t5")), padded_rows("right"), decoder_input_ids=prompt.expand(3, 2)) == expected
