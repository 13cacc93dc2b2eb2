"""What each argument of a call may hold: limits that are known on the host before anything is launched."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Literal

from torch import Tensor, nn

from ..padding.call import Call
from .tables import Tables, row_count, said, tables_of

IGNORED_LABEL: Final = -100
"""The label that losses leave out (``ignore_index`` of ``cross_entropy``, torch 2.13; loss/loss_utils.py, 5.23)."""

Kind = Literal["id", "token type", "position", "length", "label"]


@dataclass(frozen=True)
class Limit:
    """What one argument may hold.

    Attributes:
        kind: of what it holds. A ``length`` limits its columns, every other kind its values.
        argument: its name.
        table: what it indexes: the module's path in the model, or in words.
        count: values go from 0 to ``count - 1``; the most columns of a ``length``.
    """

    kind: Kind
    argument: str
    table: str
    count: int


def limits_of(model: Any, call: Call) -> list[Limit]:
    """The limits of the arguments that this call passes; what no rule finds has none.

    Cost: microseconds on the host; rows are read anew each time, for ``resize_token_embeddings`` changes them.
    """
    limits: list[Limit] = []
    for side, tables in tables_of(model).items():
        limits += _of_side(model, call, side, tables)
    classes, table = _classes(model, call)
    if classes:
        limits.append(Limit("label", "labels", table, classes))
    return limits


def length_of(call: Call, side: str = "") -> int:
    """How many positions a side of the call needs: its columns, and those in the cache that it goes on from.

    A cache whose length is on a device is left out: to read it is a sync, and after a device-side assert impossible.
    """
    embeds = call.get(f"{side}inputs_embeds")
    ids = call.get(f"{side}input_ids") if embeds is None else embeds
    if not isinstance(ids, Tensor) or ids.dim() < 2:
        return 0
    cache: Any = call.get("past_key_values") if side or call.get("decoder_input_ids") is None else None
    is_on_device = getattr(cache, "is_compileable", True)  # static caches count on the device; a tuple is no cache
    return ids.shape[1] + (0 if is_on_device else int(cache.get_seq_length()))


def is_decoding(call: Call) -> bool:
    """Whether the call is a step of decoding: one column, and a cache. Its id is one that the model itself gave."""
    ids = call.get("input_ids")
    ids = call.get("decoder_input_ids") if ids is None else ids
    return isinstance(ids, Tensor) and ids.shape[-1] == 1 and call.get("past_key_values") is not None


def _of_side(model: nn.Module, call: Call, side: str, tables: Tables) -> list[Limit]:
    limits = []
    if rows := _rows(model, tables.ids):
        limits.append(Limit("id", f"{side}input_ids", tables.ids, rows))
    types = call.get("token_type_ids")
    is_one_type = isinstance(types, Tensor) and types.dim() == 2  # TAPAS has seven a token, each with its table
    if not side and is_one_type and (rows := _rows(model, tables.token_types)):
        limits.append(Limit("token type", "token_type_ids", tables.token_types, rows))
    if rows := _rows(model, tables.positions):
        table = attrgetter(tables.positions)(model)
        offset = int(getattr(table, "offset", 0))  # OPT, BART: added to the position inside the table's own forward
        limits.append(Limit("position", f"{side}position_ids", tables.positions, rows - offset))
        if call.get(f"{side}position_ids") is None:
            longest = _longest(model, table, rows - offset)
            limits.append(Limit("length", f"{side}input_ids", tables.positions, longest))
    return limits


def _longest(model: Any, table: nn.Module, rows: int) -> int:
    """How long a row may be whose positions the model counts itself.

    RoBERTa and its kin count from ``padding_idx + 1`` (``create_position_ids_from_input_ids``, modeling_roberta.py,
    5.23); others leave the first rows unused, which shows in a table that is larger than the configuration says.
    """
    padding = getattr(table, "padding_idx", None)
    if padding is not None:
        return int(rows - padding - 1)
    configured = getattr(said(model.config, "get_text_config"), "max_position_embeddings", None)
    return min(rows, configured) if isinstance(configured, int) and configured > 0 else rows


def _classes(model: Any, call: Call) -> tuple[int, str]:
    """How many classes the labels are of, and what gives their number; 0 where labels are no classes."""
    labels, ids = call.get("labels"), call.get("input_ids")
    if not isinstance(labels, Tensor) or labels.dim() > 2:  # a class for each pixel has an ignored one of its own
        return 0, ""
    if isinstance(ids, Tensor) and ids.dim() == 3 and labels.dim() == 1:
        return ids.shape[1], "the choices of each row"
    if isinstance(head := said(model, "get_output_embeddings"), nn.Module):
        return row_count(head), "the vocabulary of the head"
    count = getattr(model, "num_labels", 0)  # of a class with a head of classes; every configuration has the number
    if count == 1 or getattr(model.config, "problem_type", None) in ("regression", "multi_label_classification"):
        return 0, ""
    return count, "num_labels"


def _rows(model: nn.Module, path: str) -> int:
    try:
        return row_count(attrgetter(path)(model)) if path else 0
    except AttributeError:  # somebody has put another module in its place
        return 0
