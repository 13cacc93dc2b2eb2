"""Which axes of a model's outputs are the batch and the sequence, found by running it on two small inputs.

Names and sizes of outputs do not tell: a hidden size can equal a sequence length, XLNet's memories have the batch
second, Funnel's hidden states shrink. Two runs that differ in batch size and length do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import PaddingError

Axis = Literal["batch", "sequence", "target", "fixed", "ragged"]
Path = tuple[str | int, ...]
Layout = dict[Path, tuple[Axis, ...]]

# (batch, sequence, target length) of the two runs: no size of one is a size of the other. The batch shrinks while the
# lengths grow, so that no length that is derived from a length (a pooled or strided one) can be taken for the batch.
PROBES = ((3, 5, 4), (2, 7, 9))


def leaves(output: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf of a model's output with its path; containers are dicts (``ModelOutput`` too), tuples and lists."""
    if isinstance(output, dict):
        for name, value in output.items():
            yield from leaves(value, (*path, name))
    elif isinstance(output, (tuple, list)):
        for index, value in enumerate(output):
            yield from leaves(value, (*path, index))
    else:
        yield path, output


def rebuild(output: Any, change: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """The same containers with every leaf changed."""
    if isinstance(output, dict):
        changed = {name: rebuild(value, change, (*path, name)) for name, value in output.items()}
        return type(output)(**changed)
    if isinstance(output, (tuple, list)):
        items = [rebuild(value, change, (*path, index)) for index, value in enumerate(output)]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    return change(path, output)


def probe(model: nn.Module, inputs: Callable[[int, int, int], dict[str, Any]]) -> Layout:
    """Run the model on both probe sizes and read off the axes of each output tensor.

    Args:
        model: the model; put into eval mode for the two runs, and back.
        inputs: makes the arguments for a batch size, a sequence length and a target length.

    Raises:
        PaddingError: where the model fails on the probes.

    Cost: two forwards of at most 3 x 9 tokens; the random state is kept.
    """
    outputs = []
    with torch.no_grad(), torch.random.fork_rng(devices=_devices(model)), _evaluating(model):
        for sizes in PROBES:
            try:
                outputs.append(dict(leaves(model.forward(**inputs(*sizes)))))  # past the user's hooks on it
            except Exception as error:
                raise PaddingError(
                    "ST-MASK-007",
                    f"{type(model).__name__} could not be run on {sizes[0]} rows of {sizes[1]} tokens",
                    why=f"its outputs' sequence axes are found that way; it said: {type(error).__name__}: {error}",
                    do="pass an attention_mask yourself, or run the rows one by one",
                    off='safetransformers.configure(padding="off")',
                ) from error
    first, second = outputs
    return {
        path: tuple(_axis(path, sizes) for sizes in zip(tensor.shape, second[path].shape, strict=True))
        for path, tensor in first.items()
        if isinstance(tensor, Tensor) and isinstance(second.get(path), Tensor)
    }


def _axis(path: Path, sizes: tuple[int, int]) -> Axis:
    kinds: tuple[Axis, Axis, Axis] = ("batch", "sequence", "target")
    for kind, pair in zip(kinds, zip(*PROBES, strict=True), strict=True):
        if sizes == pair:
            return kind
    return "fixed" if sizes[0] == sizes[1] else "ragged"


def _devices(model: nn.Module) -> list[int]:
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
