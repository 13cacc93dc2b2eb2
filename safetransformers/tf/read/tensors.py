"""One tensor of a save: what it is called and how large it is, read only when its values are asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_BFLOAT16: Final = "bfloat16"


@dataclass(frozen=True)
class Tensor:
    """A weight as the save has it.

    Attributes:
        name: for people: as the file calls it.
        path: scopes and, last, the variable; for Keras 3 files the attributes and the position of the variable.
        shape: as stored.
        dtype: numpy's name for the stored type, or ``bfloat16``, which is read as ``uint16`` bits.
        read: reads the values; costs one read of the tensor's bytes.
        is_positional: the last part of ``path`` is a position among the layer's variables, and no name.
        read_into: reads the values into an array of their shape and type, where the format can.
    """

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]
    is_positional: bool = False
    read_into: Callable[[Array], None] | None = None

    @property
    def size_bytes(self) -> int:
        """How many bytes the values take."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def is_bfloat16(self) -> bool:
        """Whether numpy has no type for the values, which are read as bits."""
        return self.dtype == _BFLOAT16


ITEM_BYTES: Final = {
    "float16": 2,
    _BFLOAT16: 2,
    "float32": 4,
    "float64": 8,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "bool": 1,
}
"""The types of weights, by numpy's name; anything else in a save is refused."""


def scopes(name: str) -> tuple[str, ...]:
    """The levels of a TensorFlow variable's name.

    ``a/b:0`` loses its output number; ``_._`` and a dot also separate levels; of ``one___two`` only ``two`` counts.
    (The conventions are those of transformers 4.57.6, ``modeling_tf_pytorch_utils.py``.)

    Example:
        >>> scopes("tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0")
        ('tf_bert_model', 'bert', 'encoder', 'layer', '0', 'output', 'dense', 'kernel')
        >>> scopes("tf_bert_for_pre_training/nsp___cls/seq_relationship/bias:0")
        ('tf_bert_for_pre_training', 'cls', 'seq_relationship', 'bias')
    """
    name = re.sub(r":\d+$", "", name)
    parts: list[str] = []
    for part in name.split("/"):
        parts += part.rpartition("___")[2].replace("_._", ".").split(".")
    return tuple(part for part in parts if part)
