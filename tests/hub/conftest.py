"""One repository on a test hub, and the cache of a user who has downloaded it with plain transformers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from checkpoints import save
from hub_caches import Repo
from hub_server import Hub
from models import tiny

from safetransformers.hub import integrity, learned

REPO = "me/bert"


@pytest.fixture(autouse=True)
def nothing_learned_yet() -> None:
    learned.forget()
    integrity.forget()


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save(tiny("bert"), tmp_path_factory.mktemp("bert"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def downloaded(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache into which plain transformers has downloaded the repository."""
    cache = tmp_path_factory.mktemp("downloaded")
    with Hub() as hub:
        hub.add(REPO, files)
        with hub.applied(cache):
            transformers.AutoModel.from_pretrained(REPO)
            transformers.AutoTokenizer.from_pretrained(REPO)
    return cache


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def commit(hub: Hub, cache: Path, files: dict[str, bytes], downloaded: Path) -> str:
    """The commit of the hub's main branch, in the cache as plain transformers downloads it."""
    shutil.copytree(downloaded, cache, symlinks=True)
    return hub.add(REPO, files)


@pytest.fixture
def snapshot(cache: Path, commit: str) -> Path:
    """The folder of that commit."""
    return cache / "models--me--bert" / "snapshots" / commit
