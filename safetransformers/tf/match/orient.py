"""Which way round a weight lies in TensorFlow and in torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..read.tensors import Array, Tensor
from .target import Kind, Slot

Turn = Callable[[Array], Array]

_KERNELS = frozenset({"kernel", "pointwise_kernel", "depthwise_kernel"})


def turn(tensor: Tensor, slot: Slot, *, is_inner: bool = False) -> Turn | None:
    """How a stored weight becomes the one that torch wants, or ``None`` where it cannot be that one.

    A named kernel is always turned; so is one that is known by its position only, where torch's module is a linear
    layer or a convolution, and what the table of exceptions says. What is left may differ by axes of length one. Two
    shapes of the same size that differ in more are not the same weight.

    Args:
        tensor: as stored.
        slot: where it should go.
        is_inner: the layer made the variable itself that torch has in a module of its own, such as the decoder of a
            head, which TensorFlow then keeps as torch does.
    """
    leaf = tensor.path[-1]
    if slot.is_integer != is_integer(tensor):
        return None
    is_decoder = is_inner and slot.kind is Kind.DENSE and len(slot.shape) == 2
    is_kernel = _is_kernel(tensor, slot) and not is_decoder
    plain = None if is_kernel else _reshaped(tensor.shape, slot.shape, tuple(range(len(tensor.shape))))
    if is_kernel or (plain is None and tensor.is_positional and slot.kind is Kind.TIED):
        return _kernel(tensor, slot, is_depthwise=leaf == "depthwise_kernel")
    return plain


def stored_as(tensor: Tensor, slot: Slot) -> tuple[int, ...]:
    """The shape that torch would have of a stored weight at a place, whatever the place's own shape is."""
    shape = tensor.shape
    if _is_kernel(tensor, slot):
        shape = (shape[-1], *shape[-2:-1], *shape[:-2])
    while len(shape) > len(slot.shape) and 1 in shape:
        at = shape.index(1)
        shape = (*shape[:at], *shape[at + 1 :])
    long = [extent for extent in shape if extent != 1]
    axes = [axis for axis, extent in enumerate(slot.shape) if extent != 1]
    if len(shape) == len(slot.shape) and len(long) == len(axes) == 1:  # axes of length one may stand elsewhere
        return tuple(long[0] if axis == axes[0] else 1 for axis in range(len(shape)))
    return shape


def is_integer(tensor: Tensor) -> bool:
    """Whether a stored value is a count, an index or a switch, and no weight."""
    return "int" in tensor.dtype or tensor.dtype == "bool"


def _is_kernel(tensor: Tensor, slot: Slot) -> bool:
    is_dense = tensor.is_positional and slot.kind is Kind.DENSE
    return tensor.path[-1] in _KERNELS or is_dense or slot.kind is Kind.TURNED


def _kernel(tensor: Tensor, slot: Slot, *, is_depthwise: bool) -> Turn | None:
    rank = len(tensor.shape)
    if rank < 2:
        return _reshaped(tensor.shape, slot.shape, tuple(range(rank)))
    # Keras: the window, input channels, output channels; torch: outputs, inputs, the window.
    axes = (rank - 1, rank - 2, *range(rank - 2))
    turned = None if is_depthwise else _reshaped(tensor.shape, slot.shape, axes)
    if turned is None and slot.depthwise:
        # Keras's depthwise kernel: the window, channels, multiplier; torch: channels * multiplier, 1, the window.
        axes = (rank - 2, rank - 1, *range(rank - 2))
        if math.prod(tensor.shape[-2:]) == slot.shape[0]:
            turned = _regrouped(tensor.shape, slot.shape, axes)
    return turned


def _reshaped(shape: tuple[int, ...], wanted: tuple[int, ...], axes: tuple[int, ...]) -> Turn | None:
    turned = tuple(shape[axis] for axis in axes)
    if [extent for extent in turned if extent != 1] != [extent for extent in wanted if extent != 1]:
        return None
    return lambda values: values.transpose(axes).reshape(wanted)


def _regrouped(shape: tuple[int, ...], wanted: tuple[int, ...], axes: tuple[int, ...]) -> Turn | None:
    if math.prod(shape) != math.prod(wanted):
        return None
    return lambda values: values.transpose(axes).reshape(wanted)
