"""Errors that only a CUDA device makes, each in a process of its own: after most of them the context is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import safetransformers as st

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none is here"),
]
_SCRIPTS = {
    "memory": ("ST-OOM-501", "torch.empty(2**45, dtype=torch.uint8, device='cuda')", ("GPU 0",)),
    "a label": (
        "ST-ASSERT-503",
        "torch.nn.functional.cross_entropy(torch.zeros(1, 2, device='cuda'), torch.tensor([7], device='cuda')).item()",
        ("num_labels",),
    ),
    "an id": (
        "ST-ASSERT-502",
        "torch.nn.Embedding(2, 2, device='cuda')(torch.tensor([99], device='cuda')).sum().item()",
        ("num_embeddings",),
    ),
    "a probability": (
        "ST-ASSERT-504",
        "torch.multinomial(torch.full((4,), float('nan'), device='cuda'), 1).item()",
        ("nan",),
    ),
    "two devices": ("ST-ASSERT-508", "torch.zeros(2, device='cuda')[None] @ torch.zeros(2, 2)", ("cuda:0", "cpu")),
}


@pytest.mark.parametrize("name", _SCRIPTS)
def test_a_failure_of_the_gpu_is_explained_from_what_is_printed_and_by_the_note(name: str) -> None:
    code, script, says = _SCRIPTS[name]
    plain = subprocess.run(
        [sys.executable, "-c", f"import torch; {script}"], capture_output=True, text=True, check=False
    )
    assert plain.returncode != 0
    told = st.explain(plain.stderr)
    assert told is not None and told.code == code, plain.stderr
    for words in says:
        assert words in str(told)
    patched = f"import torch, safetransformers; safetransformers.patch(); {script}"
    noted = subprocess.run([sys.executable, "-c", patched], capture_output=True, text=True, check=False)
    assert f"[{code}]" in noted.stderr or "[ST-ASSERT-501]" in noted.stderr  # the kernel's own line is not in Python
