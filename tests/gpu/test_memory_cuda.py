"""A GPU that is full: the allocator's own numbers in the note, and halves that fit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import BertConfig, BertModel

import safetransformers as st
from safetransformers.memory.room import room_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none is here"),
]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Two GiB of the GPU for this process."""
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2 * 2**30 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.fixture
def model() -> BertModel:
    config = BertConfig(hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=4096)
    return st.guard(BertModel(config).eval().cuda())


def _ids(rows: int) -> torch.Tensor:
    return torch.randint(5, 100, (rows, 512), device="cuda")


@pytest.mark.usefixtures("little_memory")
def test_the_note_has_the_allocators_numbers_and_allocates_nothing(model: BertModel) -> None:
    ids = _ids(1024)
    with torch.no_grad(), pytest.raises(torch.OutOfMemoryError) as raised:
        model(ids, attention_mask=torch.ones_like(ids))
    (note,) = raised.value.__notes__
    assert note.startswith("[ST-OOM-001] BertModel ran out of cuda:0's memory: input_ids 1024 x 512")
    for words in ("more were asked for", "held of", "parameters", "probably"):
        assert words in note
    before = torch.cuda.memory_allocated()
    assert room_of(torch.device("cuda")).held == before == torch.cuda.memory_allocated()


@pytest.mark.usefixtures("little_memory")
def test_halves_give_the_numbers_of_the_batches_that_fit(model: BertModel) -> None:
    ids = _ids(512)
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = torch.cat([model(rows, attention_mask=mask[:32])[0].cpu() for rows in ids.split(32)])
        with st.policy(on_oom="split"):
            found = model(ids, attention_mask=mask)[0].cpu()
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.usefixtures("little_memory")
def test_a_batch_size_that_fits_is_found() -> None:
    def run(rows: int) -> int:
        return torch.empty(rows * 2**20, dtype=torch.uint8, device="cuda").numel()

    assert st.fit_batch_size(run, 4096).batch_size == 1024
