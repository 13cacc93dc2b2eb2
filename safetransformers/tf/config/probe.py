"""Which number of a configuration decides which size of a model: found by changing one and looking at the shapes.

No table of architectures is needed: a class that is instantiated on the meta device says itself that ``hidden_size`` is
the second extent of its word embeddings, and that ``num_hidden_layers`` is how many ``encoder.layer`` there are.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..match import target as targets
from . import heads
from .heads import Field

Place = tuple[str, int]
"""A size of the model: a key with zeros for its numbers and an axis; or a list of modules and -1, for its length."""

_NOT_SIZES: Final = re.compile(
    r"(_id|_ids|_token_id|seed|_every|_index|use_|stride|chunk_size|num_beam|top_k|_length)$"
)


@dataclass(frozen=True)
class Sizes:
    """All sizes of one model, by place."""

    at: Mapping[Place, int]


def sizes(cls: Any, raw: Mapping[str, Any]) -> Sizes | None:
    """The sizes of a class with a configuration; ``None`` where it refuses the configuration. Costs about 0.1 s."""
    try:
        wanted = targets.target(cls, cls.config_class.from_dict(accepted(raw, cls)))
    except Exception:  # noqa: BLE001 - a class refuses a number with whatever its own code or validator raises
        return None
    return Sizes(dict(of_shapes((slot.key, slot.shape) for slot in wanted.slots.values())))


def accepted(raw: Mapping[str, Any], cls: Any) -> dict[str, Any]:
    """The configuration with what a class refuses beside the sizes put right: numbers of heads, special tokens.

    A special token keeps its distance from the end of the vocabulary, where published vocabularies have theirs.
    """
    return _with_tokens(heads.dividing(raw), cls.config_class().to_dict())


def _with_tokens(raw: dict[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    words, before = raw.get("vocab_size"), default.get("vocab_size")
    for name, value in raw.items():
        inner = default.get(name)
        if isinstance(value, dict) and "model_type" in value and isinstance(inner, dict):
            raw[name] = _with_tokens(value, inner)
        elif name.endswith("_token_id") and isinstance(value, int) and isinstance(words, int) and value >= words:
            moved = value - before + words if isinstance(before, int) else -1
            raw[name] = moved if 0 <= moved < words else _NO_TOKEN.get(name)
    return raw


_NO_TOKEN: Final = {"decoder_start_token_id": 0}  # some classes take no None there; 0 begins nearly all others


def of_shapes(shapes: Iterator[tuple[str, tuple[int, ...]]]) -> Iterator[tuple[Place, int]]:
    """The places of some keys and shapes; of a list's elements the first that has a key speaks for all."""
    lengths: dict[str, int] = {}
    seen: set[Place] = set()
    for key, shape in shapes:
        for listed, number in lists(key):
            lengths[listed] = max(lengths.get(listed, 0), number + 1)
        for axis, extent in enumerate(shape):
            place = (key, axis)
            if place not in seen:
                seen.add(place)
                yield place, extent
    for listed, length in lengths.items():
        yield (listed, -1), length


def lists(key: str) -> Iterator[tuple[str, int]]:
    """The lists of modules that a key lies in, and its number in each.

    Example:
        >>> list(lists("block.2.layer.1.weight"))
        [('block', 2), ('block.2.layer', 1)]
    """
    parts = key.split(".")
    for at, part in enumerate(parts):
        if part.isdigit():
            yield ".".join(parts[:at]), int(part)


def fields(raw: Mapping[str, Any]) -> Iterator[tuple[Field, int]]:
    """The whole numbers of a configuration that may be sizes, also in its sub-configurations and lists."""
    for name, value in raw.items():
        if _NOT_SIZES.search(name) or name.startswith("_"):
            continue
        if isinstance(value, dict) and "model_type" in value:
            yield from (((name, *inner), number) for inner, number in fields(value))
        elif isinstance(value, list | tuple) and 0 < len(value) <= 16 and all(_is_size(one) for one in value):
            yield from (((name, at), one) for at, one in enumerate(value))
        elif _is_size(value):
            yield (name,), value


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def changed(raw: Mapping[str, Any], field: Field, value: int) -> dict[str, Any]:
    """The configuration with another number at a field; lists with one element for each layer get as many."""
    found = copy.deepcopy(dict(raw))
    inside: Any = found
    for name in field[:-1]:
        if isinstance(inside[name], tuple):
            inside[name] = list(inside[name])
        inside = inside[name]
    before = inside[field[-1]]
    inside[field[-1]] = value
    if isinstance(inside, dict):
        for name, other in inside.items():
            if isinstance(other, list | tuple) and len(other) == before and "layers" in str(field[-1]):
                inside[name] = (list(other) * value)[:value] if value > before else list(other)[:value]
    return found


@dataclass(frozen=True)
class Lever:
    """A field, and what a change of it does.

    Attributes:
        field: the field.
        value: its value now.
        other: another value that the class takes.
        moved: the places whose size differs with that, and by how much.
    """

    field: Field
    value: int
    other: int
    moved: Mapping[Place, int]


def lever(cls: Any, raw: Mapping[str, Any], field: Field, value: int, before: Sizes) -> Lever | None:
    """Change a field and see what moves; ``None`` where the class takes no other value that was tried."""
    for other in (2 * value, 3 * value, value + 1, value - 1, value // 2):
        after = sizes(cls, changed(raw, field, other)) if other > 0 else None
        if after is not None:
            places = before.at.keys() & after.at.keys()
            moved = {place: after.at[place] - before.at[place] for place in places}
            return Lever(field, value, other, {place: by for place, by in moved.items() if by})
    return None


def solved(cls: Any, raw: Mapping[str, Any], one: Lever, places: Mapping[Place, tuple[int, int]]) -> int | None:
    """What a field must be for some places to have the sizes wanted; ``None`` where they do not agree on it.

    Most sizes grow in a straight line with their field. Where the straight line misses, as with the number of patches
    of an image, the value is searched for.

    Args:
        cls: the class.
        raw: the configuration now.
        one: the field.
        places: size now and size wanted, of places that the field moves.
    """
    votes: set[int] = set()
    for place, (now, wanted) in places.items():
        guess = one.value + (wanted - now) * (one.other - one.value) / one.moved[place]
        vote = int(guess) if guess == int(guess) and guess > 0 else None
        if vote is None or _size(cls, raw, one.field, vote, place) != wanted:
            vote = _searched(cls, raw, one, place, wanted)
        if vote is None:
            return None
        votes.add(vote)
    return votes.pop() if len(votes) == 1 else None


def _searched(cls: Any, raw: Mapping[str, Any], one: Lever, place: Place, wanted: int) -> int | None:
    if one.moved[place] * (one.other - one.value) < 0:  # a size that falls, as with groups: few values, some refused
        tried = range(1, min(one.value, _LARGEST_SCANNED) + 1)
        return next((value for value in tried if _size(cls, raw, one.field, value, place) == wanted), None)
    low, high = 1, _LARGEST_FACTOR * one.value
    while low <= high:
        middle = (low + high) // 2
        size = _size(cls, raw, one.field, middle, place)
        if size == wanted:
            return _rounded(cls, raw, one, place, wanted, middle)
        if size is None or size < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return None


def _rounded(cls: Any, raw: Mapping[str, Any], one: Lever, place: Place, wanted: int, found: int) -> int:
    """Of neighbouring values that give the same size, the smallest: 224 pixels, not 230, make 14 patches of 16."""
    while found > 1 and _size(cls, raw, one.field, found - 1, place) == wanted:
        found -= 1
    return found


def _size(cls: Any, raw: Mapping[str, Any], field: Field, value: int, place: Place) -> int | None:
    found = sizes(cls, changed(raw, field, value))
    return None if found is None else found.at.get(place)


_LARGEST_FACTOR: Final = 16
_LARGEST_SCANNED: Final = 64
