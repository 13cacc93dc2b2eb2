"""The keys that a TensorFlow variable's name can mean in a torch checkpoint: rules on names, nothing else.

TensorFlow's layers carry the names of torch's modules (transformers 4.57.6, ``modeling_tf_*.py``), below scopes of the
model and of whatever wraps it. So a key is the end of a name; how much of the beginning to leave out is what the target
decides: the longest end that is one of its keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from . import exceptions
from .target import Target

# What Keras, TensorFlow 1 and Flax call a layer's variables: what torch calls them.
LEAVES: Final[dict[str, tuple[str, ...]]] = {
    "kernel": ("weight",),
    "pointwise_kernel": ("pointwise.weight",),
    "depthwise_kernel": ("depthwise.weight",),
    "embeddings": ("weight",),
    "embedding": ("weight",),
    "gamma": ("weight", "gamma"),
    "scale": ("weight", "scale"),
    "beta": ("bias", "beta"),
    "moving_mean": ("running_mean",),
    "moving_variance": ("running_var",),
    "mean": ("running_mean", "mean"),
    "var": ("running_var", "var"),
}


def candidates(path: tuple[str, ...], target: Target) -> Iterator[str]:
    """Keys that a variable can mean, the likeliest first.

    Args:
        path: the levels of its name.
        target: whose prefixes may be added, and whose main layers left out.
    """
    for levels in _renamed(path, target):
        *modules, leaf = levels
        leaves = (*LEAVES.get(leaf, (leaf,)), leaf)
        for start in range(len(modules) + 1):
            for inner in _without_main_layers(modules[start:], target):
                prefix = "".join(f"{module}." for module in inner)
                # A layer of one variable may be a plain parameter in torch, and the other way round.
                ends = [*dict.fromkeys(leaves), f"{leaf}.weight", ""]
                for key in (f"{prefix}{end}".rstrip(".") for end in ends):
                    yield key
                    if target.base:
                        yield f"{target.base}.{key}"


def _renamed(path: tuple[str, ...], target: Target) -> Iterator[tuple[str, ...]]:
    renamed = exceptions.renamed(target.model_type, "/".join(path))
    if renamed is not None:
        yield tuple(part for part in renamed.split("/") if part)
    yield path


def _without_main_layers(modules: list[str], target: Target) -> Iterator[list[str]]:
    """The path itself, then without one level inside it that only names a main layer of TensorFlow's."""
    yield modules
    for at in range(1, len(modules)):
        if modules[at] in target.parts:
            yield [*modules[:at], *modules[at + 1 :]]
