"""What the guard adds to a call, in operators and reads of device values, against the table in docs/padding.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from models import mask_of, padded_rows, tiny
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from safetransformers import guard

_DOCS = Path(__file__).parents[1] / "docs" / "padding.md"
_VIEWS = ("slice", "select", "view", "lift_fresh", "detach", "unsqueeze", "expand", "t.default", "transpose", "alias")


class _Counted(TorchDispatchMode):
    """Counts operators that launch a kernel, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        self.kernels += not name.startswith(_VIEWS)
        return func(*args, **(kwargs or {}))


@contextmanager
def _counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every method call that brings a value to the host, which on a GPU is a sync."""
    reads: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("tolist", "item", "__bool__"):
            original = getattr(Tensor, name)

            def read(self: Tensor, *args: Any, _name: str = name, _original: Any = original) -> Any:
                reads.append(_name)
                return _original(self, *args)

            patch.setattr(Tensor, name, read)
        yield reads


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
def test_a_call_costs_no_more_than_the_docs_say(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = guard(tiny("gpt2"))
    (hook,) = model._forward_pre_hooks.values()
    kwargs = _CALLS[call]()
    with _counted_reads(monkeypatch) as reads, _Counted() as counted:
        changed = hook(model, (), kwargs)
    assert (counted.kernels, len(reads)) == _documented()[call]
    assert (changed is None) == (call in ("a mask is passed", "no mask, no padding"))
