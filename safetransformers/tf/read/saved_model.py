"""What a SavedModel says about itself beside its variables: Keras's metadata, and the constants of its graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .protobuf import WireError, fields, message, signed, text, varint
from .refusals import broken, parse_json, refuse_code
from .sources import KERAS_METADATA, SAVED_MODEL

_DEEPEST_SHAPE: Final = 4  # elements of a constant that are kept


def keras_config(folder: Path) -> Any:
    """The configurations of the layers in ``keras_metadata.pb``, the model's own first; ``None`` without that file.

    Raises:
        BrokenSaveError: where the file is damaged.
        UnsafeSaveError: where a layer carries code.
    """
    file = folder / KERAS_METADATA
    if not file.is_file():
        return None
    configs = []
    try:
        # SavedMetadata: nodes 1; of a SavedObject: identifier 4 and metadata 5, which is JSON
        for number, node in fields(memoryview(file.read_bytes())):
            if number == 1:
                parts = dict(fields(message(node)))
                if parts.get(5):
                    configs.append(parse_json(file, text(parts[5])))
    except WireError as error:
        raise broken(file, str(error)) from None
    refuse_code(file, configs)
    return configs[0] if configs else None


def constants(folder: Path) -> dict[str, tuple[int, ...]]:
    """Whole numbers that the graphs hold as constants, by the name of their node.

    They say what no weight does, such as the number of attention heads. Costs one pass over ``saved_model.pb``.

    Raises:
        BrokenSaveError: where the file is damaged.
    """
    file = folder / SAVED_MODEL
    found: dict[str, tuple[int, ...]] = {}
    try:
        for node in _nodes(memoryview(file.read_bytes())):
            parts = list(fields(node))
            named = dict(parts)
            if named.get(2) is not None and text(named[2]) == "Const":
                values = [value for number, value in parts if number == 5]
                numbers = next((got for value in values if (got := _integers(message(value)))), None)
                if numbers is not None:
                    found[text(named[1])] = numbers
    except (WireError, KeyError) as error:
        raise broken(file, f"{error}") from None
    return found


def _nodes(data: memoryview) -> Iterator[memoryview]:
    # SavedModel: meta_graphs 2; MetaGraphDef: graph_def 2; GraphDef: node 1, library 2;
    # FunctionDefLibrary: function 1; FunctionDef: node_def 3
    for graph in _below(data, 2, 2):
        yield from _below(graph, 1)
        yield from _below(graph, 2, 1, 3)


def _below(data: memoryview, *numbers: int) -> Iterator[memoryview]:
    if not numbers:
        yield data
        return
    for number, value in fields(data):
        if number == numbers[0]:
            yield from _below(message(value), *numbers[1:])


def _integers(entry: memoryview) -> tuple[int, ...] | None:
    # AttrValue in a map entry: key 1, value 2; tensor 8; TensorProto: dtype 1, tensor_content 4, int_val 7
    parts = dict(fields(entry))
    if 1 not in parts or text(parts[1]) != "value" or 2 not in parts:
        return None
    tensor = dict(fields(message(parts[2]))).get(8)
    if tensor is None:
        return None
    inside = list(fields(message(tensor)))
    dtype = dict(inside).get(1)
    if dtype != 3:
        return None
    content = dict(inside).get(4)
    if content is not None:
        data = bytes(message(content))[: 4 * _DEEPEST_SHAPE]
        return tuple(int.from_bytes(data[at : at + 4], "little", signed=True) for at in range(0, len(data), 4))
    found: list[int] = []
    for number, value in inside:
        if number == 7:
            found += [value] if isinstance(value, int) else _packed(value)
    return tuple(signed(value) for value in found[:_DEEPEST_SHAPE]) or None


def _packed(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value
