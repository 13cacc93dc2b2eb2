"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def put(target: Path, content: bytes, *, beside: Path | None = None) -> None:
    """Write a file beside its place, and move it there.

    Args:
        target: its place.
        content: of it.
        beside: the folder to write in, where another file in the target's own would be read as something.

    Raises:
        OSError: where it cannot be written; what was begun is gone.
    """
    unfinished = (beside or target.parent) / f".{target.name}.{secrets.token_hex(8)}.tmp"
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
