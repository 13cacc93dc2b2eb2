"""A configuration for a save that has none: the sizes from the shapes of its weights, the rest shown as assumed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ... import compat
from ...errors import UnknownSaveError
from ...notices import relative
from ..match import classes, exceptions, naming
from ..match import target as targets
from ..match.orient import stored_as
from ..match.target import Slot, Target
from ..read import saved_model
from ..read.opening import Opened
from ..read.sources import Save
from ..read.tensors import Tensor
from . import heads, probe
from .configs import Recovered, made

_ROUNDS: Final = 6


def infer(save: Save, content: Opened, model_type: str | None, architecture: str | None) -> Recovered:
    """Take the class from the names of the weights, and its sizes from their shapes.

    Costs some dozens of instantiations on the meta device, a few seconds.

    Raises:
        UnknownSaveError: where the names do not say the class, and the user does not either; or there are no names.
    """
    if any(tensor.is_positional for tensor in content.tensors):
        raise UnknownSaveError(
            "ST-TF-005",
            f"{relative(save.folder)} has no config.json, and its weights have numbers instead of names",
            why="a Keras file of this kind keeps the order of a layer's weights: which is which, only sizes can tell",
            do="put config.json beside the weights, or name it: safetransformers convert SRC DST --config FILE",
        )
    cls = _class(content, model_type, architecture)
    if cls is None:
        raise UnknownSaveError(
            "ST-TF-005",
            f"{relative(save.folder)} has no config.json, and its weights do not say what model they are of",
            why=f"they are called {', '.join(tensor.name for tensor in content.tensors[:3])}",
            do="put config.json beside the weights, or say --config FILE, or --architecture BertModel",
        )
    raw = dict(cls.config_class().to_dict())
    raw["model_type"] = cls.config_class.model_type
    known: set[heads.Field] = set()
    for _ in range(_ROUNDS):
        found = _round(cls, raw, content.tensors, known)
        if not found:
            break
        raw = probe.accepted(_with(raw, found), cls)
    evidence = saved_model.constants(save.folder) if save.format == "SavedModel" else {}
    raw, assumed = _with_heads(raw, known, evidence)
    _note_shared_layers(raw, evidence, assumed)
    labels = _labels(cls, raw, content.tensors)
    raw |= labels
    raw["architectures"] = [cls.__name__]
    origin = f"the names and shapes of the weights ({cls.__name__})"
    assumed[f"everything else of {cls.config_class.__name__}"] = "its defaults"
    return Recovered(raw, made(raw, origin), origin, cls.__name__, assumed)


def _class(content: Opened, model_type: str | None, architecture: str | None) -> Any:
    import transformers

    name = architecture or classes.by_scope(content.root)
    if name is None and model_type is not None:
        name = next((one for one, types in compat.model_class_names().items() if model_type in types), None)
    cls = getattr(transformers, name, None) if name is not None else None
    return cls if isinstance(cls, type) else None


def _round(
    cls: Any, raw: Mapping[str, Any], tensors: Sequence[Tensor], known: set[heads.Field]
) -> dict[heads.Field, int]:
    """Fields with other values that the shapes decide. Adds to ``known`` those that are decided, right already or now.

    A field that moves a size alone is decided by that. One that moves only sizes which others move too waits until
    those are decided; where none is left but such, they are decided in their order.
    """
    before = probe.sizes(cls, raw)
    if before is None:
        return {}
    wanted = _sizes(tensors, targets.target(cls, cls.config_class.from_dict(dict(raw))))
    places = {place: (before.at[place], size) for place, size in wanted.at.items() if place in before.at}
    levers = [
        one for field, value in probe.fields(raw) if (one := probe.lever(cls, raw, field, value, before)) is not None
    ]
    found: dict[heads.Field, int] = {}
    for one in levers:
        moved = places.keys() & one.moved.keys()
        others = [other for other in levers if other is not one and other.field not in known]
        alone = {place for place in moved if not any(place in other.moved for other in others)}
        if not alone:
            continue
        if all(places[place][0] == places[place][1] for place in alone):
            known.add(one.field)
            continue
        value = probe.solved(cls, raw, one, {place: places[place] for place in alone})
        if value is not None:
            known.add(one.field)
            found[one.field] = value
    return found


def _sizes(tensors: Sequence[Tensor], target: Target) -> probe.Sizes:
    """The sizes that the save has, at the places of a model of other sizes."""
    by_pattern: dict[str, list[Slot]] = {}
    for slot in target.slots.values():
        by_pattern.setdefault(_pattern(slot.key), []).append(slot)

    def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
        for tensor in tensors:
            numbers = [part for part in tensor.path if part.isdigit()]
            for key in naming.candidates(tensor.path, target):
                likely = by_pattern.get(_pattern(key))
                if likely is not None and len(re.findall(r"(?:^|\.)\d+(?=\.)", key)) == len(numbers):
                    slot = target.slots.get(key, likely[0])
                    yield key, stored_as(tensor, slot)
                    break

    return probe.Sizes(dict(probe.of_shapes(shapes())))


def _pattern(key: str) -> str:
    return re.sub(r"(^|\.)\d+(?=\.)", r"\1#", key)


def _with(raw: Mapping[str, Any], found: Mapping[heads.Field, int]) -> dict[str, Any]:
    result = dict(raw)
    for field, value in found.items():
        result = probe.changed(result, field, value)
    return result


def _with_heads(
    raw: dict[str, Any], known: set[heads.Field], constants: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    assumed: dict[str, Any] = {}
    for field, _, width in list(heads.fields(raw)):
        if field in known:
            continue
        count = heads.in_graph(constants, width, field)
        if count is None:
            count = heads.usual(width)
            assumed[".".join(str(part) for part in field)] = count
        heads.put(raw, field, count)
    return raw, assumed


def _note_shared_layers(raw: dict[str, Any], constants: Mapping[str, tuple[int, ...]], assumed: dict[str, Any]) -> None:
    """Layers that share their weights leave no trace in them; a graph has a node for each time that one is run."""
    shared = exceptions.SHARED_LAYERS.get(raw["model_type"])
    if shared is None:
        return
    runs = [found for name in constants if (found := re.search(shared.node, name))]
    if runs:
        raw[shared.field] = 1 + max(int(found[1] or 0) for found in runs)
    else:
        assumed[shared.field] = raw[shared.field]


def _labels(cls: Any, raw: Mapping[str, Any], tensors: Sequence[Tensor]) -> dict[str, Any]:
    """As many labels as the head has outputs."""
    config = cls.config_class.from_dict(dict(raw))
    wanted = targets.target(cls, config)
    now = config.num_labels
    for tensor in tensors:
        for key in naming.candidates(tensor.path, wanted):
            slot = wanted.slots.get(key)
            if slot is None:
                continue
            shape = stored_as(tensor, slot)
            if not key.startswith(f"{wanted.base}.") and slot.shape[:1] == (now,) and shape[:1] != slot.shape[:1]:
                names = [f"LABEL_{number}" for number in range(shape[0])]
                return {
                    "id2label": {str(number): name for number, name in enumerate(names)},
                    "label2id": {name: number for number, name in enumerate(names)},
                }
            break
    return {}
