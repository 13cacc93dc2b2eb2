"""Every text by which memory that has run out is known, also those that accelerate does not know."""

from __future__ import annotations

import re

import pytest
import torch
from accelerate.utils import memory as accelerates
from explain_recorded_memory import LIBRARIES, MEMORY

import safetransformers as st
from safetransformers.memory.texts import asked_bytes, is_sure, kind_of

_NO_WORDS = ("NOT_INITIALIZED", "INTERNAL_ERROR")  # of cuBLAS and cuDNN: most often about memory, and too often not
_KINDS = {"Gaudi": "hpu", "XPU": "xpu", "Intel": "xpu", "MPS": "mps", "CPU": "cpu", "oneDNN": "cpu"}
# What users posted, as the message of the exception: without its name, and without what was printed before it.
_TEXTS = {
    re.sub(
        r"^(?:\[rank\d+\]: )?(?:[\w.]+Error: |terminate .*\n  what\(\):  )|^Traceback[\s\S]+Error: ", "", one.text
    ): next((kind for word, kind in _KINDS.items() if word in name), "cuda")
    for name, one in {**MEMORY, **LIBRARIES}.items()
    if one.code.startswith("ST-OOM") and not any(words in one.text for words in _NO_WORDS)
}


@pytest.mark.parametrize("text", _TEXTS)
def test_an_allocator_that_has_run_out_is_known_by_its_words(text: str) -> None:
    assert kind_of(RuntimeError(text)) == _TEXTS[text]
    assert kind_of(ValueError(text)) is None


def test_an_error_of_a_type_that_is_about_memory_needs_no_words() -> None:
    assert kind_of(torch.OutOfMemoryError("any words")) == "cuda"
    assert kind_of(MemoryError()) == "cpu"


@pytest.mark.parametrize("text", ["CUDA error: device-side assert triggered", "shape '[2]' is invalid", ""])
def test_another_failure_is_no_shortage_of_memory(text: str) -> None:
    assert kind_of(RuntimeError(text)) is None


def test_the_installed_accelerate_misses_at_least_five_of_the_texts() -> None:
    failures: list[Exception] = [*map(RuntimeError, _TEXTS), MemoryError()]
    missed = [failure for failure in failures if not accelerates.should_reduce_batch_size(failure)]
    assert len(missed) >= 5
    assert all(kind_of(failure) for failure in failures)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("CUDA memory", 22.78 * 2**30),
        ("CUDA memory beside other processes", 572 * 2**20),
        ("MPS memory in older units", 896 * 2**20),
        ("CPU memory on Windows, with the folder of the build", 2**30),
        ("Gaudi's memory", 56836702208),
        ("Gaudi's memory in older words", 14493510400),
        ("memory of the driver", None),
        ("cuDNN without a workspace", None),
    ],
)
def test_what_was_asked_for_is_read_in_any_unit(name: str, asked: float | None) -> None:
    words = {**MEMORY, **LIBRARIES}[name].text.split("Error: ", 1)[-1]
    assert asked_bytes(words) == (asked if asked is None else int(asked))


@pytest.mark.parametrize("text", _TEXTS)
def test_explain_and_the_note_speak_of_the_same_texts(text: str) -> None:
    told = st.explain(RuntimeError(text))
    assert told is not None and told.family == "memory"
    assert is_sure(RuntimeError(text)) or "probably" in told.why
