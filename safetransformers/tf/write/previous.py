"""Whether a destination holds what a conversion would write: the bytes that it was made from are in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..config.configs import CONFIG
from ..match import classes
from ..report import ConversionReport
from . import files

SOURCE = "source_sha256"
"""The key in the metadata of each shard: digests of the files that were read, as JSON."""


def is_ours(destination: Path) -> bool:
    """Whether a folder has weights under the names that a conversion gives them."""
    return (destination / files.WEIGHTS).is_file() or (destination / files.INDEX).is_file()


def _weights_of(destination: Path) -> set[str]:
    if not (destination / files.INDEX).is_file():
        return {files.WEIGHTS}
    try:
        return set(json.loads((destination / files.INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def done_before(destination: Path, digests: Mapping[str, str], dtype: str | None) -> ConversionReport | None:
    """The report of what lies in the destination, where it was made from the same bytes in the same way."""
    from safetensors import SafetensorError, safe_open

    names = sorted(set(os.listdir(destination)) & _weights_of(destination))
    try:
        metadata: dict[str, str] = {}
        tensors, parameters, size, kind = 0, 0, 0, "float32"
        for name in names:
            with safe_open(destination / name, framework="pt") as shard:
                metadata = shard.metadata() or {}
                if metadata.get(SOURCE) != json.dumps(digests, sort_keys=True):
                    return None
                for key in shard.keys():  # noqa: SIM118 - not a mapping
                    value = shard.get_tensor(key)
                    tensors, parameters = tensors + 1, parameters + value.numel()
                    size += value.numel() * value.element_size()
                    if value.is_floating_point():
                        kind = str(value.dtype).removeprefix("torch.")
        config = json.loads((destination / CONFIG).read_text(encoding="utf-8"))
        name = config["architectures"][0]
    except (SafetensorError, OSError, ValueError, KeyError, IndexError):
        return None
    if dtype is not None and dtype != kind:
        return None
    return ConversionReport(
        source=metadata.get("source", ""),
        destination="",
        format=metadata.get("converted_from", ""),
        model_class=name,
        auto_classes=classes.auto_classes(name, config["model_type"]),
        config_from=CONFIG,
        tensors=tensors,
        parameters=parameters,
        size_bytes=size,
        dtype=kind,
        files=tuple(sorted(os.listdir(destination))),
        sha256=digests,
        was_done_before=True,
    )
