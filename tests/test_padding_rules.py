"""The padding rules as pure functions, against a reference in plain Python."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from safetransformers import infer_attention_mask, position_ids_from_mask
from safetransformers.padding.mask import mask_decoder

PAD = 0


def by_hand(row: list[int], eos: bool = False, bos: bool = False) -> list[int]:
    """Rules 1 and 2 for one row, token by token."""
    leading = next((i for i, token in enumerate(row) if token != PAD), len(row))
    trailing = next((i for i, token in enumerate(reversed(row)) if token != PAD), len(row))
    if leading == len(row):  # a row of pads alone: one run, of which eos keeps the first and bos the last
        kept = {0} if eos else {len(row) - 1} if bos else set()
        return [int(i in kept) for i in range(len(row))]
    start = leading - 1 if bos and leading else leading
    end = len(row) - trailing + (1 if eos and trailing else 0)
    return [int(start <= i < end) for i in range(len(row))]


ROWS = [list(row) for row in itertools.product((PAD, 7), repeat=5)]  # every pattern of five tokens


@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("bos", [False, True])
def test_every_pattern_of_pads_is_masked_as_the_rules_say(eos: bool, bos: bool) -> None:
    rows = [row for row in ROWS if any(row)] if eos and bos else ROWS  # both in a row of pads alone: not defined
    mask = infer_attention_mask(
        torch.tensor(rows), PAD, eos_token_id=PAD if eos else 5, bos_token_id=PAD if bos else None
    )
    assert mask.tolist() == [by_hand(row, eos, bos) for row in rows]
    assert mask.dtype is torch.int64


def test_a_pad_in_the_middle_of_a_row_is_a_token() -> None:
    assert infer_attention_mask(torch.tensor([[7, PAD, PAD, 8]]), PAD).tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("eos", [PAD, [3, PAD], (PAD,), torch.tensor([3, PAD])])
def test_the_eos_token_may_be_one_of_several(eos: object) -> None:
    mask = infer_attention_mask(torch.tensor([[7, PAD, PAD]]), PAD, eos_token_id=eos)  # type: ignore[arg-type]
    assert mask.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_every_integer_type_of_ids_is_taken(dtype: torch.dtype) -> None:
    assert infer_attention_mask(torch.tensor([[7, PAD]], dtype=dtype), PAD).tolist() == [[1, 0]]


@pytest.mark.parametrize("ids", [torch.zeros(3), torch.zeros(2, 3), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_what_is_no_batch_of_ids_is_refused_by_shape_and_dtype(ids: Tensor) -> None:
    with pytest.raises(ValueError, match="2-D integer"):
        infer_attention_mask(ids, PAD)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (2, 1)])
def test_empty_and_one_column_batches_have_masks_of_their_shape(shape: tuple[int, int]) -> None:
    assert infer_attention_mask(torch.full(shape, 7), PAD).shape == shape


def test_positions_count_the_real_tokens_from_zero() -> None:
    rows = [by_hand(row) for row in ROWS]
    expected = [[max(sum(row[: i + 1]) - 1, 0) for i in range(len(row))] for row in rows]
    assert position_ids_from_mask(torch.tensor(rows)).tolist() == expected


def test_a_decoders_start_token_is_never_padding_and_neither_is_a_leading_run() -> None:
    ids = torch.tensor([[PAD, 7, 8, PAD], [PAD, PAD, 7, PAD], [PAD, PAD, PAD, PAD]])
    assert mask_decoder(ids, PAD).tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
    assert mask_decoder(ids, PAD, eos_token_id=PAD).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]


def test_the_rules_compile_whole_and_give_the_same() -> None:
    ids = torch.tensor([row for row in ROWS if any(row)])

    def rules(ids: Tensor) -> Tensor:
        return position_ids_from_mask(infer_attention_mask(ids, PAD, eos_token_id=PAD, bos_token_id=PAD))

    assert torch.equal(torch.compile(rules, fullgraph=True, backend="eager")(ids), rules(ids))
