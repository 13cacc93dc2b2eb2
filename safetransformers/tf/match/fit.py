"""Find the torch class that a save's weights fit, and say clearly where none does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ...errors import MismatchedSaveError, UnknownSaveError
from ..config.configs import Recovered
from ..read import tf1
from ..read.tensors import Tensor
from . import classes
from .matching import Match, match, place
from .structure import match_positions
from .target import Target, target

_SHOWN: Final = 3


@dataclass(frozen=True)
class Fit:
    """Weights with their class.

    Attributes:
        recovered: the configuration, with the number of labels that the head has.
        target: the class.
        match: which weight goes where.
        head: what became of the layers that a Keras model has on top of this one; for people.
    """

    recovered: Recovered
    target: Target
    match: Match
    head: str = ""


def fit(tensors: Sequence[Tensor], recovered: Recovered, root: str, architecture: str | None) -> Fit:
    """The first class that each of its keys has a weight for; of several the one with the least weights unused.

    Costs the instantiation of one class on the meta device, and of more only where the first does not fit.

    Raises:
        MismatchedSaveError: where none fits, with the faults of the likeliest.
        UnknownSaveError: where the model type has no class of that name, or the save is one of a part of a model.
    """
    tried: list[Fit] = []
    for cls, is_evident in classes.candidates(recovered.config, root, recovered.keras_class, architecture):
        one = _tried(cls, tensors, recovered)
        if one is None:
            continue
        tried.append(one)
        is_whole = not _missing(one) and not one.match.misshapen
        if is_whole and (is_evident or not one.match.unused):
            break
        if len(tried) == 1 and is_evident and not is_whole and not _is_about_the_head(one):
            break
    if not tried:
        named = f"class {architecture}" if architecture else "class that could be made"
        raise UnknownSaveError(
            "ST-TF-005",
            f"transformers has no {named} for the model type {recovered.config.model_type!r}",
            do="name one: safetransformers convert SRC DST --architecture BertModel",
        )
    whole = [one for one in tried if not _missing(one) and not one.match.misshapen]
    if whole and tried[0] not in whole and whole[-1].match.unused:
        raise _mismatch(tried[0])  # another class that leaves weights over is a guess, not a fit
    best = min(whole, key=lambda one: len(one.match.unused), default=tried[0])
    dropped = _layers_without_place(best)
    if dropped:
        raise _too_few_layers(best, dropped)
    if not whole or not _is_most(best):
        raise _mismatch(best)
    return best


def _tried(cls: Any, tensors: Sequence[Tensor], recovered: Recovered) -> Fit | None:
    try:
        wanted = target(cls, recovered.config)
    except (ValueError, TypeError, AttributeError, RuntimeError, ZeroDivisionError, KeyError, IndexError) as error:
        if recovered.config.architectures and cls.__name__ in recovered.config.architectures:
            raise UnknownSaveError(
                "ST-TF-005",
                f"{cls.__name__} cannot be made with the configuration from {recovered.origin}",
                why=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                do="correct the values in a copy, and name it: safetransformers convert SRC DST --config FILE",
            ) from error
        return None
    found = laid(tensors, wanted)
    labels = _labels(found, wanted, recovered)
    if labels is not None:
        changed = recovered.with_changes(**labels)
        wanted = target(cls, changed.config)
        return Fit(changed, wanted, laid(tensors, wanted))
    return Fit(recovered, wanted, found)


def laid(tensors: Sequence[Tensor], wanted: Target) -> Match:
    """Match by names where the save has them, and by structure where it has not."""
    positional = [tensor for tensor in tensors if tensor.is_positional]
    if positional:
        found = match_positions(positional, wanted)
        for tensor in tensors:
            if not tensor.is_positional:  # a head that the graph of a wrapping model gave names
                place(tensor, wanted, found)
        found.missing = [slot for slot in found.missing if slot.key not in found.placed]
        return found
    others = [tensor for tensor in tensors if tf1.is_generator(tensor)]
    if not others or len(others) == len(tensors):
        return match(tensors, wanted)
    found = match([tensor for tensor in tensors if not tf1.is_generator(tensor)], wanted)
    found.unused += others
    return found


def _labels(found: Match, wanted: Target, recovered: Recovered) -> dict[str, Any] | None:
    """Other labels, where only a head differs, and only in their number: the weights know how many there are."""
    now = recovered.config.num_labels
    counts = {
        tensor.shape[-1]
        for tensor, slot in found.misshapen
        if slot.shape[:1] == (now,) and not slot.key.startswith(f"{wanted.base}.")
    }
    if len(counts) != 1 or any(slot.shape[:1] != (now,) for _, slot in found.misshapen):
        return None
    count = counts.pop()
    return {
        "id2label": {str(number): f"LABEL_{number}" for number in range(count)},
        "label2id": {f"LABEL_{number}": number for number in range(count)},
        "num_labels": count,
    }


def _missing(one: Fit) -> list[str]:
    """Keys without a weight, but for those that are counted or computed, and those that transformers lets lack."""
    return [
        slot.key
        for slot in one.match.missing
        if slot.is_from_the_save and not any(re.search(pattern, slot.key) for pattern in one.target.may_lack)
    ]


def _is_most(one: Fit) -> bool:
    """Whether more fits than is left over: an encoder that lies in a larger model is not that model."""
    unused = [tensor for tensor in one.match.unused if not tf1.is_generator(tensor)]
    return len(unused) * 2 <= len(one.match.placed)


def _is_about_the_head(one: Fit) -> bool:
    """Whether another head of the same model could be what the save holds: the model below it fits."""
    base = f"{one.target.base}."
    wrong = [*_missing(one), *(slot.key for _, slot in one.match.misshapen)]
    return not any(key.startswith(base) for key in wrong) and len(wrong) < len(one.match.placed)


def _layers_without_place(one: Fit) -> list[str]:
    """Weights that are left over only because the model has fewer layers than the save."""
    found = []
    for tensor in one.match.unused:
        if tf1.is_generator(tensor):
            continue
        first = tuple("0" if part.isdigit() else part for part in tensor.path)
        if first != tensor.path and match([replace(tensor, path=first)], one.target).placed:
            found.append(tensor.name)
    return found


def _too_few_layers(one: Fit, dropped: list[str]) -> MismatchedSaveError:
    return MismatchedSaveError(
        "ST-TF-006",
        f"the save has more layers than the configuration from {one.recovered.origin}",
        why=f"{len(dropped)} weights would be lost, unused: {_some(dropped)}",
        do="give the configuration that belongs to the weights: safetransformers convert SRC DST --config FILE",
        unused=dropped,
    )


def _mismatch(one: Fit) -> MismatchedSaveError | UnknownSaveError:
    part = classes.part(one.recovered.config, one.recovered.keras_class)
    if part is not None:
        return _only_a_part(part)
    missing = _missing(one)
    misshapen = [
        f"{tensor.name} {list(tensor.shape)} for {slot.key} {list(slot.shape)}" for tensor, slot in one.match.misshapen
    ]
    unused = [tensor.name for tensor in one.match.unused]
    parts = {
        "without a weight in the save, which would be random": missing,
        "of another shape, the save's first": misshapen,
        "in the save but not in the model": unused,
    }
    why = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in parts.items() if names)
    return MismatchedSaveError(
        "ST-TF-006",
        f"the weights are not those of {one.target.name} with the configuration from {one.recovered.origin}",
        why=why,
        do="give the configuration that belongs to the weights: safetransformers convert SRC DST --config FILE",
        missing=missing,
        misshapen=misshapen,
        unused=unused,
    )


def _only_a_part(name: str) -> UnknownSaveError:
    import transformers

    return UnknownSaveError(
        "ST-TF-005",
        f"the save is one of {name}, which is only a part of a model",
        why=f"in transformers {transformers.__version__} {name} has no from_pretrained, so nothing loads it alone",
        do="convert a save of the whole model; where only the part is left, transformers 4 may load it by its class: "
        "pip install 'transformers==4.57.*', and convert there",
    )


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
