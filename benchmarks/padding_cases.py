"""Padded batches, and the comparison of their outputs with every row run alone.

Pure functions on tensors and models: no command line, no files, and nothing of the library under test.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetransformers.testing.configs import EOS_TOKEN_ID, FIRST_TOKEN_ID, LAST_TOKEN_ID, PAD_TOKEN_ID

Side = Literal["right", "left"]
T = TypeVar("T")
ROW_LENGTHS = (5, 9, 12)
DECODER_LENGTH = 4
DECODER_ROW_LENGTHS = (3, 5, 7)
TOLERANCE = 1e-4
"""Largest accepted difference, as a share of the largest absolute value of the reference."""

_NOT_PER_ROW = re.compile(r".*(past|cache|loss|attentions|rope_deltas|_mems).*|mems|states?")
"""Outputs that carry a sequence on to the next call, or say nothing about a single row."""


class Batch(NamedTuple):
    """Rows of different lengths in one tensor: `ids`, `mask` (both `[batch, length]`) and where each row begins."""

    ids: Tensor
    mask: Tensor
    starts: tuple[int, ...]


Fields = dict[str, Tensor]


class CallForm(NamedTuple):
    """One way to call a class: with decoder tokens given or not, and the further arguments that it needs."""

    name: str
    decoder: bool
    options: dict[str, Any]


def random_rows(lengths: tuple[int, ...] = ROW_LENGTHS, seed: int = 0) -> list[Tensor]:
    """Draw rows of ordinary tokens, each closed by one eos, as a tokenizer would write them."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(FIRST_TOKEN_ID, LAST_TOKEN_ID, (length,), generator=generator) for length in lengths]
    for row in rows:
        row[-1] = EOS_TOKEN_ID
    return rows


def pad_rows(rows: list[Tensor], side: Side, pad_token_id: int = PAD_TOKEN_ID) -> Batch:
    """Pad rows to the longest one."""
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), pad_token_id)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    starts = tuple(length - len(row) if side == "left" else 0 for row in rows)
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[index, start : start + len(row)] = row
        mask[index, start : start + len(row)] = 1
    return Batch(ids, mask, starts)


def rolled(batch: Batch) -> Batch:
    """Move each row's leading padding to its end."""
    shift = torch.tensor(batch.starts)[:, None]
    index = (torch.arange(batch.ids.shape[1]) + shift) % batch.ids.shape[1]
    return Batch(batch.ids.gather(1, index), batch.mask.gather(1, index), (0,) * len(batch.starts))


def positions(mask: Tensor) -> Tensor:
    """Number the real tokens of each row from 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def decoder_ids(batch_size: int, first_row: int = 0) -> Tensor:
    """Draw decoder tokens by the row's number, so that a row alone gets the same ones as in a batch."""
    rows = random_rows((DECODER_LENGTH,) * (first_row + batch_size), seed=1)
    return torch.stack(rows[first_row:])


def takes(model: PreTrainedModel, name: str) -> bool:
    """Tell whether the model's forward has a parameter of that name."""
    return name in inspect.signature(model.forward).parameters


def _bounding_boxes(model: PreTrainedModel, ids: Tensor) -> dict[str, Any]:
    if model.config.model_type not in ("bros", "udop"):
        return {}
    return {"bbox": torch.zeros(*ids.shape, 4, dtype=next(model.parameters()).dtype)}


def _call_options(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    """Give the ways to call a model that a user might need, the plainest with all outputs first."""
    for options in ({"output_hidden_states": True}, {}, {"use_cache": False}):
        if "use_cache" not in options or takes(model, "use_cache"):
            yield options


def flat_fields(output: Any, prefix: str = "") -> Fields:
    """List the floating-point tensors of a model's output by name, caches and losses left out."""
    if isinstance(output, Tensor):
        return {prefix: output} if output.is_floating_point() and output.ndim else {}
    fields: Fields = {}
    if isinstance(output, Mapping):
        for name, value in output.items():
            if not _NOT_PER_ROW.fullmatch(name):
                fields |= flat_fields(value, f"{prefix}.{name}" if prefix else name)
    elif isinstance(output, (tuple, list)):
        for index, value in enumerate(output):
            fields |= flat_fields(value, f"{prefix}[{index}]")
    return fields


@torch.no_grad()
def run(model: PreTrainedModel, ids: Tensor, first_row: int = 0, *, decoder: bool = False, **kwargs: Any) -> Fields:
    """Call the model on `ids` (and on decoder tokens of its own, if asked) and flatten what it returns."""
    kwargs = _bounding_boxes(model, ids) | kwargs
    if decoder:
        kwargs["decoder_input_ids"] = decoder_ids(len(ids), first_row)
    return flat_fields(model(input_ids=ids, **kwargs))


def attempt(function: Callable[..., T], *args: Any, **kwargs: Any) -> T | Exception:
    """Call a function, and give what it raised in place of its result: a model may fail in any way."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - that a class raises is a finding, whatever it raises
        return error


def runs_in_double(model: PreTrainedModel, row: Tensor, forms: list[CallForm]) -> bool:
    """Turn the model to float64, where rounding stays far below the tolerance; False where it does not run in it."""
    return attempt(lambda: call_forms(model.double(), row)) == forms


def call_forms(model: PreTrainedModel, row: Tensor) -> list[CallForm]:
    """Find how the class can be called on ids; an encoder-decoder counts with and without decoder tokens.

    Args:
        model: The model.
        row: Token ids, `[length]`.

    Returns:
        At least one form.

    Raises:
        Exception: What the plainest call raised, where no form works.
    """
    may_decode = model.config.is_encoder_decoder and takes(model, "decoder_input_ids")
    forms: list[CallForm] = []
    first_error: Exception | None = None
    for decoder in (False, True) if may_decode else (False,):
        for options in _call_options(model):
            found = attempt(run, model, row[None], decoder=decoder, **options)
            if isinstance(found, Exception):
                first_error = first_error or found
            elif found and not any(value.isnan().any() for value in found.values()):
                forms.append(CallForm("with decoder ids" if decoder else "ids", decoder, options))
                break
    if not forms:
        raise first_error or ValueError("no tensor in the output, or not a number")
    return forms


def is_repeatable(model: PreTrainedModel, form: CallForm, row: Tensor) -> bool:
    """Tell whether two runs of one row give the same numbers."""
    first, second = (run(model, row[None], decoder=form.decoder, **form.options) for _ in range(2))
    return all(torch.equal(first[name], second[name]) for name in first)


def _row(tensor: Tensor, row: int, batch_size: int, length: int) -> Tensor:
    """Take one row of a batch's output, also where the batch and the sequence are flattened into one axis."""
    if tensor.shape[0] == batch_size:
        return tensor[row : row + 1]
    return tensor[row * length : (row + 1) * length]


def _real_part(tensor: Tensor, alone: Tensor, length: int, start: int, real_length: int) -> Tensor | None:
    """Cut the sequence axes of a padded row down to its real tokens; None where the shapes have nothing in common."""
    if tensor.ndim != alone.ndim:
        return None
    for axis, (padded_size, size) in enumerate(zip(tensor.shape, alone.shape, strict=True)):
        if padded_size == length and size == real_length:
            tensor = tensor.narrow(axis, start, real_length)
        elif padded_size != size:
            return None
    return tensor


def _relative_error(value: Tensor, reference: Tensor) -> float:
    finite = reference.isfinite()
    if not torch.equal(value.isfinite(), finite) or not finite.any():
        return float("inf")
    value, reference = value[finite].double(), reference[finite].double()
    scale = reference.abs().max().clamp(min=1e-12)
    return float((value - reference).abs().max() / scale)


def field_errors(batch: Batch, output: Fields, alone: list[Fields], rows: list[Tensor]) -> dict[str, float]:
    """Give the largest relative error of every output field over the rows' real tokens.

    Fields whose shape depends on the padded length in another way (pooled or down-sampled sequences) are left out.
    """
    batch_size, length = batch.ids.shape
    errors: dict[str, float] = {}
    for name, tensor in output.items():
        if tensor.shape[0] not in (batch_size, batch_size * length):
            continue
        for index, row in enumerate(rows):
            reference = alone[index].get(name)
            if reference is None:
                continue
            part = _real_part(_row(tensor, index, batch_size, length), reference, length, batch.starts[index], len(row))
            if part is not None:
                errors[name] = max(errors.get(name, 0.0), _relative_error(part, reference))
    return errors
