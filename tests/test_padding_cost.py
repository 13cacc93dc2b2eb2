"""What the guard adds to a call, in operators and reads of device values, against the table in docs/padding.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from costs.counting import Operators, reads
from models import mask_of, padded_rows, tiny

from safetransformers import guard

_DOCS = Path(__file__).parents[1] / "docs" / "padding.md"


def _documented() -> dict[str, tuple[int, int]]:
    rows = re.findall(
        r"^\| (a mask is passed|no mask, .*?) \| (\d+) \| (\d+) \|$", _DOCS.read_text("utf-8"), re.MULTILINE
    )
    return {name: (int(kernels), int(syncs)) for name, kernels, syncs in rows}


_FULL = torch.tensor([[5, 6, 7], [8, 9, 4]])
_CALLS = {
    "a mask is passed": lambda: {"input_ids": padded_rows("right"), "attention_mask": mask_of(padded_rows("right"))},
    "no mask, no padding": lambda: {"input_ids": _FULL},
    "no mask, right padding": lambda: {"input_ids": padded_rows("right")},
    "no mask, left padding, with position ids": lambda: {"input_ids": padded_rows("left")},
}


def test_the_table_speaks_of_these_calls() -> None:
    assert set(_documented()) == set(_CALLS)


@pytest.mark.parametrize("call", _CALLS)
def test_a_call_costs_no_more_than_the_docs_say(call: str) -> None:
    model = guard(tiny("gpt2"))
    (hook,) = model._forward_pre_hooks.values()
    kwargs = _CALLS[call]()
    with reads() as found, Operators() as operators:
        changed = hook(model, (), kwargs)
    assert (operators.kernels, len(found)) == _documented()[call]
    assert (changed is None) == (call in ("a mask is passed", "no mask, no padding"))
