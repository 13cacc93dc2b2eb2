"""What the hub would have answered, told from a snapshot in the cache."""

from __future__ import annotations

import json
import sys
from typing import Any, Final
from urllib.parse import quote

from .. import compat
from .load import Pin
from .snapshots import Snapshot
from .urls import Asked

_JSON: Final = {"content-type": "application/json"}


def reply(request: Any, method: str, asked: Asked, pin: Pin) -> Any:
    """The hub's answer to ``request``, from the copy that ``pin`` names.

    Raises:
        huggingface_hub.errors.OfflineModeIsEnabled: for what a copy cannot tell: the bytes of a file, whether a file
            that is not in it exists, and the list that ``snapshot_download`` would keep as the whole one.
    """
    copy = pin.copy
    assert copy is not None
    if asked.kind == "info":
        return _answer(request, _info(asked, copy))
    if asked.kind == "tree":
        return _tree(request, asked, copy)
    path = copy.files().get(asked.path)
    if path is not None and method == "HEAD":
        etag = copy.blob_of(asked.path) or f"{copy.commit}-{quote(asked.path, safe='')}"
        headers = {"etag": f'"{etag}"', "content-length": str(path.stat().st_size), "x-repo-commit": copy.commit}
        return compat.wire().answer(request, 200, headers)
    if path is None and copy.known_absent(asked.path):
        return _not_found(request, copy.commit)
    raise compat.blocked(f"{asked.repo_id} is read from its cached commit {copy.commit[:8]}")


def _info(asked: Asked, copy: Snapshot) -> dict[str, Any]:
    siblings = [{"rfilename": name} for name in sorted(copy.files())]
    return {"_id": asked.repo_id, "id": asked.repo_id, "sha": copy.commit, "private": False, "siblings": siblings}


def _tree(request: Any, asked: Asked, copy: Snapshot) -> Any:
    if _called_by("snapshot_download"):
        raise compat.blocked(f"the cached commit {copy.commit[:8]} of {asked.repo_id} may not hold every file")
    folder = f"{asked.path}/" if asked.path else ""
    entries = [
        {"type": "file", "path": name, "size": path.stat().st_size, "oid": copy.blob_of(name) or ""}
        for name, path in sorted(copy.files().items())
        if name.startswith(folder)
    ]
    return _answer(request, entries) if entries else _not_found(request, copy.commit)


def _answer(request: Any, body: Any) -> Any:
    return compat.wire().answer(request, 200, _JSON, json.dumps(body).encode())


def _not_found(request: Any, commit: str) -> Any:
    headers = {"x-error-code": "EntryNotFound", "x-error-message": "Entry not found", "x-repo-commit": commit}
    return compat.wire().answer(request, 404, headers)


def _called_by(name: str) -> bool:
    frame = sys._getframe(1)
    while (outer := frame.f_back) is not None:
        if frame.f_code.co_name == name:
            return True
        frame = outer
    return False
