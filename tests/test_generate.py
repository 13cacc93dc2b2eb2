"""``generate()`` of a guarded model: padded prompts go on as they do alone, and an explicit mask always wins."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from models import BOS, EOS, PAD, mask_of, padded_rows, tiny
from torch import Tensor

import safetransformers as st
from safetransformers import notices
from safetransformers.errors import PaddingError, PaddingWarning, RightPaddedPromptWarning

DECODERS = ("gpt2", "llama", "mistral")
GREEDY = {"do_sample": False, "max_new_tokens": 8}


@pytest.fixture(autouse=True)
def each_warning_is_given_again() -> Iterator[None]:
    notices.forget()
    yield
    notices.forget()


def new_tokens(model: Any, ids: Tensor, **kwargs: Any) -> list[list[int]]:
    """What each row was continued with, without the padding of rows that finished early."""
    output = model.generate(ids, **{**GREEDY, **kwargs})
    start = 0 if model.config.is_encoder_decoder else ids.shape[1]
    return [finished(row) for row in output[:, start:].tolist()]


def finished(row: list[int]) -> list[int]:
    """A row up to the token that it really ended with, which generate follows with padding."""
    ends = [at for at, token in enumerate(row) if token in (EOS, PAD) and at > 0]
    return row[: ends[0] + (row[ends[0]] == EOS)] if ends else row


def alone(plain: Any, ids: Tensor, **kwargs: Any) -> list[list[int]]:
    """The continuation of each prompt by itself, without its padding."""
    prompts = [row[row != PAD][None] for row in ids]
    return [new_tokens(plain, row, attention_mask=torch.ones_like(row), **kwargs)[0] for row in prompts]


# Continuations


@pytest.mark.parametrize("name", DECODERS)
def test_a_user_who_left_pads_prompts_gets_the_continuations_of_the_prompts_alone(name: str) -> None:
    ids = padded_rows("left")
    assert new_tokens(st.guard(tiny(name)), ids) == alone(tiny(name), ids)


@pytest.mark.parametrize("name", DECODERS)
def test_plain_transformers_goes_on_wrongly_without_pad_token_so_these_tests_can_fail(name: str) -> None:
    ids = padded_rows("left")
    ones = torch.ones_like(ids)
    assert new_tokens(tiny(name), ids, attention_mask=ones) != alone(tiny(name), ids)


@pytest.mark.parametrize(
    "how",
    [
        {"use_cache": False},
        {"cache_implementation": "static", "disable_compile": True},
        {"cache_implementation": "dynamic"},
        {"num_beams": 3},
        {"num_beams": 3, "use_cache": False},
        {"prefill_chunk_size": 2},
        {"repetition_penalty": 1.3},
        {"min_new_tokens": 4},
    ],
    ids=lambda how: "-".join(map(str, how)),
)
@pytest.mark.parametrize("name", DECODERS)
def test_every_way_of_decoding_continues_padded_prompts_as_it_does_with_the_right_mask(
    name: str, how: dict[str, Any]
) -> None:
    ids = padded_rows("left")
    expected = tiny(name).generate(ids, attention_mask=mask_of(ids), **GREEDY, **how)
    assert st.guard(tiny(name)).generate(ids, **GREEDY, **how).tolist() == expected.tolist()


@pytest.mark.parametrize("how", [{"use_cache": False}, {"cache_implementation": "static", "disable_compile": True}, {"num_beams": 3}], ids=["no cache", "static cache", "beams"])
@pytest.mark.parametrize("name", DECODERS)
def test_without_and_with_a_static_cache_and_with_beams_prompts_go_on_as_alone(name: str, how: dict[str, Any]) -> None:
    ids = padded_rows("left")
    assert new_tokens(st.guard(tiny(name)), ids, **how) == alone(tiny(name), ids, **how)
