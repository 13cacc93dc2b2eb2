"""The sample of TensorFlow saves that lies beside the checkout, `../shared/tfsaves`, or where `TFSAVES` says."""

from __future__ import annotations

import json
import os
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("TFSAVES") or Path(__file__).parents[3] / "shared" / "tfsaves")
MISSING = f"the sample of TensorFlow saves is not at {ROOT}"


@lru_cache
def metas() -> dict[str, dict[str, Any]]:
    """Each model's `meta.json`, by its folder's name below the architecture."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(ROOT.glob("*/*/meta.json"))}


def folder(name: str) -> Path:
    return ROOT / metas()[name]["arch"] / name


def cases() -> list[tuple[str, str]]:
    """Every model and format that has a save; a few formats of CLIP are announced and were not written."""
    return [
        (name, form)
        for name, meta in metas().items()
        for form in meta["formats"]
        if (folder(name) / f"f.{form}.tar.xz").exists()
    ]


def bad() -> dict[str, dict[str, Any]]:
    file = ROOT / "bad" / "bad.json"
    return json.loads(file.read_text()) if file.exists() else {}


def unpack(archive: Path, to: Path) -> Path:
    """Unpack a save; the filter refuses members that leave the folder."""
    to.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as opened:
        opened.extractall(to, filter="data")
    return to
