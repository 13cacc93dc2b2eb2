"""Which table each argument of a model indexes, found by the model's structure: paths of modules, no rows yet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import Tensor, nn

SIDES: Final = ("", "decoder_")
"""What stands before ``input_ids`` in the names of a side's arguments."""
# Learned positions, and not those of boxes, images or distances between tokens.
_POSITIONS: Final = re.compile(r"(?:embed_)?pos(?:ition)?s?(?:_emb(?:ed(?:ding)?s?)?)?|wpe")
_TOKEN_TYPES: Final = re.compile(r"token_type_emb\w*")


@dataclass(frozen=True)
class Tables:
    """The tables of one side of a model, as paths from the model; an empty path is none.

    Attributes:
        ids: what ``input_ids`` index.
        positions: learned positions. Rotary and relative positions have no table that a long row could leave.
        token_types: what ``token_type_ids`` index. Without a table of their own they go to the ids' in some classes
            (GPT-2), and nowhere in others (DeBERTa).
    """

    ids: str
    positions: str
    token_types: str


_known: WeakKeyDictionary[nn.Module, dict[str, Tables]] = WeakKeyDictionary()


def tables_of(model: nn.Module) -> dict[str, Tables]:
    """The tables of each side, by its prefix in ``SIDES``. Read once per model: a resized table stays in its place.

    Cost: the first time, one walk over the modules.
    """
    known = _known.get(model)
    if known is None:
        paths = {module: path for path, module in model.named_modules()}
        tables = {side: _ids_table(model, side) for side in SIDES}
        known = {side: _beside(paths, table) for side, table in tables.items() if table is not None and table in paths}
        _known[model] = known
    return known


def row_count(table: nn.Module) -> int:
    """How many rows a table has now, or 0 for a module that is no table.

    A sharded weight (FSDP, ZeRO) has fewer rows here than its table, and one that was set by hand may have more
    than the module says.
    """
    weight = getattr(table, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() > 2:
        return 0
    return max(int(getattr(table, "num_embeddings", 0)), weight.shape[0] if weight.dim() == 2 else 0)


def said(thing: Any, getter: str) -> Any:
    """What a method without arguments returns; None where the class has none, or does not know which of several."""
    try:
        return getattr(thing, getter)()
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None


def _ids_table(model: Any, side: str) -> nn.Module | None:
    """The table of one side's ids: the encoder's or decoder's, else the model's own, else the one of its vocabulary."""
    if side:
        return _asked(said(model, "get_decoder")) if model.config.is_encoder_decoder else None
    encoder = said(model, "get_encoder") if model.config.is_encoder_decoder else None
    found = _asked(encoder) or _asked(model)
    if found is not None:
        return found
    text = said(model.config, "get_text_config")
    size = getattr(text, "vocab_size", None)
    sized = [part for part in model.modules() if isinstance(part, nn.Embedding) and part.num_embeddings == size]
    return sized[0] if len(sized) == 1 else None


def _asked(part: Any) -> nn.Module | None:
    table = said(part, "get_input_embeddings")
    return table if isinstance(table, nn.Module) and row_count(table) else None


def _beside(paths: dict[nn.Module, str], table: nn.Module) -> Tables:
    """The ids' own table, and those that stand beside it in the same module."""
    path = paths[table]
    beside = path.rpartition(".")[0]
    parent = next(module for module, name in paths.items() if name == beside)
    names = [name for name, child in parent.named_children() if row_count(child)]
    positions = next((name for name in names if _POSITIONS.fullmatch(name)), "")
    token_types = next((name for name in names if _TOKEN_TYPES.fullmatch(name)), "")
    dotted = f"{beside}." if beside else ""
    return Tables(path, dotted + positions if positions else "", dotted + token_types if token_types else "")
