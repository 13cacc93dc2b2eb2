"""``generate()`` that really runs out of memory, and goes on in halves where each row's tokens are its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from memory_runs import happened, needs_a_limit

from safetransformers.memory.generation import _joined

pytestmark = [needs_a_limit, pytest.mark.xdist_group("memory-generation")]  # one process runs all cases

WHOLE = ("sampled", "by beams", "with states", "by the clock", "sampled by its config", "one row")


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return happened("generation")


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_prompt_that_does_not_fit_gives_the_tokens_that_it_gives_where_it_fits(
    cases: dict[str, Any], name: str
) -> None:
    assert cases[f"{name} explain"]["type"] == "RuntimeError"
    assert cases[f"{name} greedy"]
    (told,) = cases[f"{name} greedy told"]
    assert told.startswith("[ST-OOM-003] generate() of ") and "pieces" in told


@pytest.mark.parametrize(
    "case", ["sampled", "by beams", "with states", "by the clock", "sampled by its config", "one row"]
)
@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_call_whose_halves_need_not_give_the_same_raises_as_ever(cases: dict[str, Any], name: str, case: str) -> None:
    assert cases[f"{name} {case}"]["type"] == "RuntimeError"
    assert cases[f"{name} {case}"]["notes"]


def test_shorter_halves_are_padded_at_their_end_and_without_a_pad_token_they_are_not_put_together() -> None:
    parts = [torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9]])]
    whole = _joined(parts, 1)
    assert whole is not None and whole.tolist() == [[5, 6, 7], [8, 9, 1]]
    assert _joined(parts, None) is None
    assert _joined([SimpleNamespace(sequences=parts[0])], 1) is None
