"""Every text by which memory that has run out is known, also those that accelerate does not know."""

from __future__ import annotations

import pytest
import torch
from accelerate.utils import memory as accelerates

import safetransformers as st
from safetransformers.memory.texts import asked_bytes, kind_of

_TEXTS = {
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB": ("cuda"),
    "HIP out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 64.00 GiB": "cuda",
    "XPU out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 16.00 GiB": "xpu",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported": "cuda",
    "HIP error: out of memory": "cuda",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": "cuda",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED": "cuda",
    "Unable to find a valid cuDNN algorithm to run convolution": "cuda",
    "GET was unable to find an engine to execute this computation": "cuda",
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)": "xpu",
    "FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::1024": "hpu",
    "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB). Tried to "
    "allocate 256.00 MB on private pool.": "mps",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "33554432 bytes. Error code 12 (Cannot allocate memory)": "cpu",
    "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 33554432 "
    "bytes.": "cpu",
    "could not create a primitive": "cpu",
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


def test_what_was_asked_for_is_read_in_any_unit() -> None:
    asked = [asked_bytes(text) for text, kind in _TEXTS.items() if "allocate" in text]
    assert asked == [2 * 2**30, 20 * 2**20, 20 * 2**20, 256 * 2**20, 33554432, 33554432]


def test_explain_and_the_note_speak_of_the_same_texts() -> None:
    unsure = ("could not create", "Unable to find", "GET was", "level_zero", "FATAL")  # explain leaves these alone
    for text in _TEXTS:
        if not text.startswith(unsure):
            told = st.explain(RuntimeError(text))
            assert told is not None and told.family == "memory"
