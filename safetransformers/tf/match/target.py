"""What a torch model wants to be given: each key of its checkpoint, with shape, without a byte of memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ... import compat
from ..read.tensors import Array
from . import exceptions


class Kind(Enum):
    """How a torch module keeps a weight, which decides whether TensorFlow's is transposed."""

    DENSE = "dense"
    """``nn.Linear`` and convolutions: the last axis of TensorFlow's kernel, the outputs, comes first."""
    PLAIN = "plain"
    """Embeddings, norms, parameters, the ``Conv1D`` of GPT-2, and ``exceptions.NEVER_TURNED``: as in TensorFlow."""
    TIED = "tied"
    """A linear layer that shares an embedding's weight: TensorFlow has it as the embedding does, or has no such tie."""
    TURNED = "turned"
    """``exceptions.ALWAYS_TURNED``: parameters that TensorFlow keeps as it keeps kernels."""


@dataclass(frozen=True)
class Slot:
    """One place for a weight.

    Attributes:
        key: in the checkpoint that is written.
        shape: of the torch tensor.
        kind: how the module keeps it.
        group: keys that share one tensor; the first of them is the one that is written.
        is_integer: a count or an index, not a weight.
        depthwise: the channels of a depthwise convolution, whose kernel TensorFlow keeps in another order; else 0.
        computed: the values of a buffer that no save has and torch's module computes (``exceptions.COMPUTED``).
    """

    key: str
    shape: tuple[int, ...]
    kind: Kind
    group: tuple[str, ...]
    is_integer: bool = False
    depthwise: int = 0
    computed: Array | None = field(default=None, compare=False)

    @property
    def is_from_the_save(self) -> bool:
        """Whether the save must have a weight for it: it is not counted, and not computed."""
        return not self.is_integer and self.computed is None


@dataclass(frozen=True)
class Target:
    """A torch class on the meta device.

    Attributes:
        name: of the class, such as ``BertModel``.
        model_type: of its configuration.
        base: the prefix of the model without its head, such as ``bert``.
        parts: names that TensorFlow gives to main layers, which torch's keys may lack.
        slots: by key, in the order of definition.
        embeddings: the modules that hold the word embeddings, as prefixes: one for each model in the model.
        may_lack: patterns of keys that transformers itself lets a checkpoint lack.
    """

    name: str
    model_type: str
    base: str
    parts: frozenset[str]
    slots: dict[str, Slot]
    embeddings: tuple[str, ...] = ()
    may_lack: tuple[str, ...] = field(default=())

    def written(self) -> Iterator[Slot]:
        """The places that a checkpoint must fill: one of each group of tied ones."""
        return (slot for slot in self.slots.values() if slot.key == slot.group[0])


def target(cls: type, config: Any) -> Target:
    """Instantiate a class on the meta device and list what it wants. Costs no memory for weights, and about 0.1 s.

    Raises:
        Exception: whatever the class raises for a configuration that it does not take.
    """
    import torch

    with torch.device("meta"):
        model: Any = cls(config)
    model.tie_weights()
    names = compat.checkpoint_keys(model)
    state = model.state_dict(keep_vars=True)
    modules = dict(model.named_modules(remove_duplicate=False))
    copies = compat.tied_names(model)
    shared: dict[int, list[str]] = {}
    for key, value in state.items():
        shared.setdefault(id(value), []).append(key)
    slots = {}
    for key, value in state.items():
        owner = modules[key.rpartition(".")[0]]
        group = sorted(shared[id(value)], key=lambda one: _is_copy(modules, one, copies))
        is_turned = exceptions.is_turned(config.model_type, key)
        kind = Kind.TURNED if is_turned else _kind(modules, key, group, value.dim())
        slots[names[key]] = Slot(
            names[key],
            tuple(value.shape),
            kind,
            tuple(names[one] for one in group),
            is_integer=not value.is_floating_point(),
            depthwise=_depthwise(owner, key),
            computed=_computed(owner, key, exceptions.computed_from(config.model_type, key)),
        )
    return Target(
        cls.__name__,
        config.model_type,
        getattr(model, "base_model_prefix", ""),
        frozenset(_parts(model, config)),
        slots,
        tuple(dict.fromkeys(_embeddings(model, names))),
        tuple(getattr(model, "_keys_to_ignore_on_load_missing", None) or ()),
    )


def _is_copy(modules: dict[str, Any], key: str, copies: frozenset[str]) -> tuple[bool, bool]:
    """Of tied entries the embedding is written, whatever transformers says; of several the one that is no copy."""
    from torch import nn

    is_embedding = isinstance(modules[key.rpartition(".")[0]], nn.Embedding)
    return not is_embedding, key in copies


def _kind(modules: dict[str, Any], key: str, group: list[str], dimensions: int) -> Kind:
    from torch import nn

    dense = (nn.Linear, nn.modules.conv._ConvNd)
    owner = modules[key.rpartition(".")[0]]
    if dimensions < 2 or not isinstance(owner, dense) or not key.endswith("weight"):
        return Kind.PLAIN
    if type(owner).__name__ in exceptions.NEVER_TURNED:
        return Kind.PLAIN
    is_tied = any(isinstance(modules[one.rpartition(".")[0]], nn.Embedding) for one in group)
    return Kind.TIED if is_tied else Kind.DENSE


def _computed(owner: Any, key: str, arguments: tuple[str, ...] | None) -> Array | None:
    """A buffer's values, from its module made again where there is memory for them: as exact as torch's class is."""
    import torch

    if arguments is None:
        return None
    with torch.device("cpu"):
        made = type(owner)(*(getattr(owner, name) for name in arguments))
    values: Array = made.state_dict()[key.rpartition(".")[2]].float().numpy()
    return values


def _depthwise(owner: Any, key: str) -> int:
    groups = getattr(owner, "groups", 1)
    return int(groups) if groups > 1 and groups == getattr(owner, "in_channels", 0) and key.endswith("weight") else 0


def _parts(model: Any, config: Any) -> Iterator[str]:
    from transformers import PreTrainedModel

    for name, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            yield module.base_model_prefix
            yield module.config.model_type.replace("-", "_")
            if not name:
                yield config.model_type


def _embeddings(model: Any, names: dict[str, str]) -> Iterator[str]:
    """The modules around the input embeddings of a model and of those in it, in the checkpoint's names."""
    from transformers import PreTrainedModel

    keys = {id(value): key for key, value in reversed(model.state_dict(keep_vars=True).items())}
    for module in model.modules():
        if not isinstance(module, PreTrainedModel):
            continue
        try:
            weight = getattr(module.get_input_embeddings(), "weight", None)
        except (NotImplementedError, AttributeError):
            continue
        if id(weight) in keys:
            yield names[keys[id(weight)]].rpartition(".")[0].rpartition(".")[0]
