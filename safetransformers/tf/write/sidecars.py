"""The files beside the weights that belong to the model: tokenizer, processor, generation settings, its card."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

from ..read.sources import check_links

# Weights of any library, and what a training run leaves; code is never carried over.
_LEFT: Final = re.compile(
    r"(\.(h5|hdf5|keras|pb|index|meta|msgpack|bin|pt|pth|ckpt|pkl|pickle|joblib|safetensors|onnx|gguf|tflite|ot|npz|npy)"
    r"|\.data-\d{5}-of-\d{5}|\.index\.json|\.py|\.pyc|\.lock|\.tmp)$"
    r"|^(config\.json|checkpoint|\..*|events\.out\..*)$"
)
_LARGEST_BYTES: Final = 512 * 2**20


def names(folder: Path) -> list[str]:
    """The names of the files to carry over, which lie in the folder itself.

    Raises:
        UnsafeSaveError: where one is a link that leaves the folder.
    """
    found = []
    for name in sorted(os.listdir(folder)):
        file = folder / name
        if _LEFT.search(name) or not file.is_file() or file.stat().st_size > _LARGEST_BYTES:
            continue
        check_links(file, folder)
        found.append(name)
    return found


def carry(folder: Path, chosen: list[str], to: Path) -> None:
    """Copy files byte for byte."""
    for name in chosen:
        shutil.copyfile(folder / name, to / name)
