"""Keys for weights that have no names: Keras's ``.keras`` and ``*.weights.h5`` keep the tree of Python attributes.

A path such as ``layers/tf_bert_main_layer/encoder/layer/tf_bert_layer_1/attention/self_attention/query/vars/0`` says
three things: attributes of TensorFlow's classes, which mostly are torch's names; classes with a count, for the elements
of lists; and the position of a variable among those that its layer made. The tree is laid over torch's: first by equal
names, then by the few attributes that differ (``exceptions.ATTRIBUTES``), last, for classes with a count, by what fits
there with the least left over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..read.refusals import natural
from ..read.tensors import Tensor
from . import exceptions
from .matching import Match, put
from .orient import Turn, is_integer, turn
from .target import Slot, Target

Assignment = list[tuple[Tensor, Slot, Turn]]


@dataclass
class _Node:
    """A layer of the save: its variables, and the layers in it."""

    variables: list[Tensor] = field(default_factory=list)
    layers: dict[str, _Node] = field(default_factory=dict)

    def count(self) -> int:
        return len(self.variables) + sum(layer.count() for layer in self.layers.values())


def match_positions(tensors: Sequence[Tensor], target: Target) -> Match:
    """Lay the tree of a save over that of the target. Costs no read of a weight."""
    laid = _Layout(target)
    root = _tree(tensors)
    fitted = laid.fit(root, "")
    found = Match()
    if fitted is None:
        fitted = _Layout(target, is_lenient=True).fit(root, "") or []
    for tensor, slot, turned in fitted:
        put(tensor, slot, turned, target, found)
    placed = {id(tensor) for tensor, _, _ in fitted}
    found.by_order = laid.by_order
    found.unused = [tensor for tensor in tensors if id(tensor) not in placed]
    found.missing = [slot for slot in target.written() if slot.key not in found.placed]
    return found


def _tree(tensors: Sequence[Tensor]) -> _Node:
    root = _Node()
    for tensor in tensors:
        node = root
        for level in tensor.path[:-1]:
            node = node.layers.setdefault(level, _Node())
        node.variables.append(tensor)
    return root


class _Layout:
    """The target as a tree of modules, and how a tree of layers fits it."""

    def __init__(self, target: Target, *, is_lenient: bool = False) -> None:
        self._target, self._is_lenient = target, is_lenient
        self.by_order: dict[str, str] = {}
        self._children: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}
        for slot in target.slots.values():
            self._add(slot)

    def _add(self, slot: Slot) -> None:
        modules = slot.key.split(".")[:-1]
        prefix = ""
        is_written = slot.key == slot.group[0] and slot.is_from_the_save
        self._counts[prefix] = self._counts.get(prefix, 0) + is_written
        for module in modules:
            children = self._children.setdefault(prefix, [])
            if module not in children:
                children.append(module)
            prefix += f"{module}."
            self._counts[prefix] = self._counts.get(prefix, 0) + is_written

    def fit(self, node: _Node, prefix: str) -> Assignment | None:
        """Places below ``prefix`` for all weights of a layer and of those in it, or ``None``.

        A lenient layout leaves out the layers that have no place, and places the others.
        """
        found: Assignment = []
        used: set[str] = set()
        is_plain = self._has(prefix, "layers") or self._has(prefix, "layer")
        plain = {name: layer for name, layer in node.layers.items() if name != "layers" or is_plain}
        lists = [layer for name, layer in node.layers.items() if name not in plain]
        pending = list(plain.items())
        for layer in lists:  # what an attribute does not name, Keras lists by class under ``layers``
            pending += _largest_first(layer.layers)
        is_class = {id(layer) for one in lists for layer in one.layers.values()}
        for name, layer in sorted(pending, key=lambda one: not self._has(prefix, one[0])):
            places = self._places(name, prefix, used, in_list=id(layer) in is_class or _is_list(node, prefix, self))
            best = self._above(name, layer, prefix) or self._best(name, layer, places)
            if best is None and not self._is_lenient:
                return None
            if best is None:
                continue
            used.add(best[0])
            found += best[1]
        own = self._own(node.variables, prefix, used, {slot.key for _, slot, _ in found})
        if own is None:
            return None
        keys = [slot.key for _, slot, _ in found + own]
        return found + own if len(set(keys)) == len(keys) else None

    def _has(self, prefix: str, name: str) -> bool:
        return name in self._children.get(prefix, ())

    def _places(self, name: str, prefix: str, used: set[str], *, in_list: bool) -> Iterator[str]:
        """Where a layer of this name may belong, the likeliest first."""
        children = self._children.get(prefix, [])
        named = [name, *exceptions.attributes(name, self._target.model_type)]
        for one in named:
            place = f"{prefix}{one}."
            if place in self._counts and place not in used:
                yield place
            if f"{prefix}{one}" in self._target.slots:
                yield f"{prefix}{one}"
        if prefix.endswith(f"{name}."):
            yield prefix  # the same level twice
        if in_list:
            ordered = natural(children) if all(child.isdigit() for child in children) else children
            yield from (f"{prefix}{child}." for child in ordered if f"{prefix}{child}." not in used)
        if self._target.embeddings and name in exceptions.HELD_EMBEDDINGS:
            own = prefix.partition(".")[0]  # of the models in a model, the one that the head belongs to
            yield f"{max(self._target.embeddings, key=lambda one: one.partition('.')[0] == own)}."
        if in_list or not prefix or name in self._target.parts:
            yield prefix  # a main layer is the whole of a model without a head

    def _best(self, name: str, layer: _Node, places: Iterator[str]) -> tuple[str, Assignment] | None:
        """The place that the layer fills with the least left over; of equals the first, in torch's own order."""
        best: tuple[int, str, Assignment] | None = None
        for place in places:
            if best is not None and best[0] == 0 and (_is_numbered(place) or name in best[1].split(".")):
                break  # elements of a list are in their order, and equal names need no comparison
            fitted = self._as_parameter(layer, place) if place in self._target.slots else self.fit(layer, place)
            if not fitted:
                continue
            filled = sum(slot.is_from_the_save for _, slot, _ in fitted)
            left = layer.count() - len(fitted) if self._is_lenient else self._counts.get(place, 1) - filled
            if best is not None and left == best[0] == 0 and not self._is_lenient:
                if {slot.key for _, slot, _ in fitted} != {slot.key for _, slot, _ in best[2]}:
                    self.by_order[name] = best[1].rstrip(".")
            elif best is None or left < best[0]:
                best = (left, place, fitted)
        return None if best is None else best[1:]

    def _above(self, name: str, layer: _Node, prefix: str) -> tuple[str, Assignment] | None:
        """The parameters of the module above that a layer's class is known to hold."""
        leaves = exceptions.PARAMETERS_ABOVE.get(name, ())
        slots = [self._target.slots.get(f"{prefix}{leaf}") for leaf in leaves]
        if not leaves or layer.layers or len(layer.variables) != len(slots):
            return None
        found: Assignment = []
        for tensor, slot in zip(layer.variables, slots, strict=True):
            turned = None if slot is None else turn(tensor, slot)
            if slot is None or turned is None:
                return None
            found.append((tensor, slot, turned))
        return found[0][1].key, found

    def _as_parameter(self, layer: _Node, key: str) -> Assignment | None:
        slot = self._target.slots[key]
        turned = turn(layer.variables[0], slot) if len(layer.variables) == 1 and not layer.layers else None
        return None if turned is None else [(layer.variables[0], slot, turned)]

    def _own(self, variables: Sequence[Tensor], prefix: str, used: set[str], taken: set[str]) -> Assignment | None:
        """Places for the variables that a layer made itself: its parameters, or those of modules with one weight."""
        model_type = self._target.model_type
        order = exceptions.variable_order(model_type, prefix)

        def made_when(slot: Slot) -> tuple[tuple[int, int], int]:
            leaf = _last(slot.key)
            named = order.index(leaf) if leaf in order else len(order)
            return exceptions.made_in_turn(model_type, slot.key), named

        free = sorted((slot for slot in self._free(prefix, used) if slot.key not in taken), key=made_when)
        found: Assignment = []
        for tensor in variables:
            fitting = ((one, turn(tensor, one, is_inner=_is_inner(one.key[len(prefix) :]))) for one in free)
            slot, turned = next(((one, turned) for one, turned in fitting if turned is not None), (None, None))
            if slot is None and is_integer(tensor):
                continue  # an index that torch computes, or keeps out of its checkpoints
            if slot is None or turned is None:
                return None
            free.remove(slot)
            found.append((tensor, slot, turned))
        return found

    def _free(self, prefix: str, used: set[str]) -> Iterator[Slot]:
        for slot in self._target.slots.values():
            if not slot.key.startswith(prefix) or slot.computed is not None:
                continue
            inner = slot.key[len(prefix) :].split(".")
            module = f"{prefix}{inner[0]}."
            is_small = self._counts.get(module, 0) <= 2 or self._is_list_of_weights(module)
            if len(inner) == 1 or (module not in used and is_small and len(inner) <= 4):
                yield slot

    def _is_list_of_weights(self, prefix: str) -> bool:
        children = self._children.get(prefix, [])
        is_made_above = exceptions.made_in_turn(self._target.model_type, f"{prefix}0.")[0] >= 0
        return is_made_above or all(child.isdigit() and self._counts[f"{prefix}{child}."] == 1 for child in children)


def _is_inner(key: str) -> bool:
    """Whether torch has a weight in a named module below; the elements of a sequence are layers as others."""
    module, _, rest = key.partition(".")
    return bool(rest) and not module.isdigit()


def _last(key: str) -> str:
    parts = [part for part in key.split(".") if part not in {"weight", "bias"}]
    return parts[-1] if parts else key


def _largest_first(layers: dict[str, _Node]) -> list[tuple[str, _Node]]:
    ordered = natural(layers)
    return sorted(((name, layers[name]) for name in ordered), key=lambda one: -one[1].count())


def _is_numbered(place: str) -> bool:
    return place.rstrip(".").rpartition(".")[2].isdigit()


def _is_list(node: _Node, prefix: str, layout: _Layout) -> bool:
    """Whether the layers of a node are the elements of a list, which torch numbers, or of a dictionary."""
    children = layout._children.get(prefix, [])
    is_dictionary = not node.variables and not any(layout._has(prefix, name) for name in node.layers)
    return bool(children) and (is_dictionary or all(child.isdigit() for child in children))
