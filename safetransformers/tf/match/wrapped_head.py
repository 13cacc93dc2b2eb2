"""A functional Keras model that wraps one of transformers' models: which torch class has the head that lies on top.

Keras's own configuration is a graph, so it says which output of the encoder goes through which layers. A head is mapped
only where a torch class computes exactly that; any other stays beside the model, named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from ..read.tensors import Tensor

_LAST_HIDDEN_STATE, _POOLED = 0, 1  # outputs of an encoder, in the order in which Keras counts them
_KEPT: Final = frozenset(
    {"linear", "softmax", "sigmoid"}
)  # of the last layer: torch's classes give the logits before it


class Head(NamedTuple):
    """A head that a torch class has.

    Attributes:
        model_types: the architectures.
        suffix: of the class, after the name of the base class without its ``Model``.
        output: of the encoder that goes in.
        is_first_token: only the first token of it.
        activations: of the layers but the last.
        keys: of the layers in torch.
    """

    model_types: tuple[str, ...]
    suffix: str
    output: int
    is_first_token: bool
    activations: tuple[str, ...]
    keys: tuple[str, ...]


# From the forward of each class (transformers 4.57.6 and 5.23, models/*/modeling_*.py); tests/convert/test_heads.py
# runs every one of them. TFBertModel and its like always pool, torch's token classifiers never do.
HEADS: Final[tuple[Head, ...]] = (
    Head(("bert", "albert", "mobilebert"), "ForSequenceClassification", _POOLED, False, (), ("classifier",)),
    Head(
        ("bert", "albert", "camembert", "distilbert", "electra", "mobilebert", "mpnet", "roberta", "xlm-roberta"),
        "ForTokenClassification",
        _LAST_HIDDEN_STATE,
        False,
        (),
        ("classifier",),
    ),
    Head(
        ("distilbert",),
        "ForSequenceClassification",
        _LAST_HIDDEN_STATE,
        True,
        ("relu",),
        ("pre_classifier", "classifier"),
    ),
    Head(
        ("camembert", "mpnet", "roberta", "xlm-roberta"),
        "ForSequenceClassification",
        _LAST_HIDDEN_STATE,
        True,
        ("tanh",),
        ("classifier.dense", "classifier.out_proj"),
    ),
    Head(
        ("electra",),
        "ForSequenceClassification",
        _LAST_HIDDEN_STATE,
        True,
        ("gelu",),
        ("classifier.dense", "classifier.out_proj"),
    ),
    Head(("vit",), "ForImageClassification", _LAST_HIDDEN_STATE, True, (), ("classifier",)),
)


@dataclass(frozen=True)
class Mapped:
    """A head with its counterpart.

    Attributes:
        architecture: the torch class.
        tensors: all weights of the save, those of the head under torch's names.
        text: for people: which layers became which.
    """

    architecture: str
    tensors: list[Tensor]
    text: str


def mapped(keras: Any, tensors: Sequence[Tensor], config: Any) -> Mapped | None:
    """The torch counterpart of the head of a wrapping model; ``None`` where there is no head, or none for it.

    Args:
        keras: Keras's configuration of the model.
        tensors: the weights of the save.
        config: of the encoder.
    """
    graph = _Graph.of(keras)
    chain = None if graph is None else graph.chain()
    if graph is None or chain is None or config.output_hidden_states or config.output_attentions:
        return None  # further outputs of the encoder would be counted too
    *inner, last = chain.layers
    shape = (chain.output, chain.is_first_token, tuple(str(one["activation"]) for one in inner))
    found = next((one for one in HEADS if config.model_type in one.model_types and one[2:5] == shape), None)
    if found is None or last["activation"] not in _KEPT or not all(one.get("use_bias") for one in chain.layers):
        return None
    places = dict(zip((str(one["name"]) for one in chain.layers), found.keys, strict=True))
    renamed = list(_renamed(tensors, places, graph.dense_layers()))
    if sum(before is not after for before, after in zip(tensors, renamed, strict=True)) != 2 * len(places):
        return None
    encoder = graph.encoder.removeprefix("TF").removesuffix("Model")
    text = ", ".join(f"{name} became {key}" for name, key in places.items())
    if last["activation"] != "linear":
        text += f"; the torch class gives what goes into the {last['activation']}"
    return Mapped(encoder + found.suffix, renamed, text)


def _renamed(tensors: Sequence[Tensor], places: Mapping[str, str], dense: Sequence[str]) -> Iterator[Tensor]:
    """The weights of the layers under torch's names; archives call layers by class and count, in their order."""
    counted = {f"dense_{number}" if number else "dense": name for number, name in enumerate(dense)}
    for tensor in tensors:
        *levels, leaf = tensor.path
        if tensor.is_positional and levels[:1] == ["layers"] and len(levels) == 2:
            name, leaf = counted.get(levels[1], ""), {"0": "kernel", "1": "bias"}.get(leaf, "")
        else:
            name = levels[0] if len(levels) == 1 else ""
        if name in places and leaf in {"kernel", "bias"}:
            yield replace(tensor, path=(*places[name].split("."), leaf), is_positional=False)
        else:
            yield tensor


@dataclass(frozen=True)
class _Chain:
    """What lies between an output of the encoder and the output of the model."""

    output: int
    is_first_token: bool
    layers: list[dict[str, Any]]


@dataclass(frozen=True)
class _Graph:
    """A functional model: its layers by name, and the class of the one that is the encoder."""

    layers: Mapping[str, Mapping[str, Any]]
    outputs: Sequence[Any]
    encoder: str

    @classmethod
    def of(cls, keras: Any) -> _Graph | None:
        inside = keras.get("config") if isinstance(keras, dict) else None
        if not isinstance(inside, dict) or not isinstance(inside.get("layers"), list):
            return None
        layers = {str(one.get("name")): one for one in inside["layers"] if isinstance(one, dict)}
        encoders = [_class(one) for one in layers.values() if _class(one).startswith("TF")]
        outputs = inside.get("output_layers")
        if len(encoders) != 1 or not isinstance(outputs, list) or len(layers) != len(inside["layers"]):
            return None
        return cls(layers, outputs, encoders[0])

    def dense_layers(self) -> list[str]:
        return [name for name, one in self.layers.items() if _class(one) == "Dense"]

    def chain(self) -> _Chain | None:
        """The layers of the head, the first first; ``None`` where they are no chain, or others than a head has."""
        if len(self.outputs) != 1:
            return None
        found: list[dict[str, Any]] = []
        is_first_token = False
        node = self.outputs[0]
        for _ in self.layers:
            name, *_rest = node
            layer = self.layers.get(str(name), {})
            kind, inner = _class(layer), layer.get("config")
            if kind.startswith("TF"):
                return _Chain(node[2], is_first_token, found[::-1]) if found else None
            inputs = _inputs(layer)
            if len(inputs) != 1 or not isinstance(inner, dict) or (is_first_token and kind != "Dropout"):
                return None
            if kind == "Dense":
                found.append({**inner, "name": name})
            elif kind == "SlicingOpLambda" and _is_first_token(inputs[0]):
                is_first_token = True
            elif kind != "Dropout":
                return None
            node = inputs[0]
        return None


def _class(layer: Mapping[str, Any]) -> str:
    return str(layer.get("class_name", "")).rpartition(">")[2]


def _inputs(layer: Mapping[str, Any]) -> list[list[Any]]:
    """What goes into a layer: nodes of a name, a call, an output and arguments; Keras nests one that is alone."""
    nodes = layer.get("inbound_nodes")
    while isinstance(nodes, list) and len(nodes) == 1 and isinstance(nodes[0], list):
        nodes = nodes[0]
    is_one = isinstance(nodes, list) and len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[2], int)
    return [nodes] if is_one and nodes is not None else []


_EVERYTHING: Final = {"start": None, "stop": None, "step": None}


def _is_first_token(node: Sequence[Any]) -> bool:
    """Whether a slice is ``[:, 0]`` or ``[:, 0, :]``."""
    arguments = node[3] if len(node) > 3 and isinstance(node[3], dict) else {}
    spec = arguments.get("slice_spec")
    if isinstance(spec, dict):  # a SavedModel writes that it is a tuple
        spec = spec.get("items")
    return spec in ([_EVERYTHING, 0], [_EVERYTHING, 0, _EVERYTHING])
