"""A hub cache as it lies on the disk: which commits of a repository are there, and which one can be served whole.

Layout: ``<cache>/models--org--name/{refs/<name>, blobs/<hash>, snapshots/<commit>/<file>, .no_exist/<commit>/<file>,
trees/<commit>.json}`` (huggingface_hub 0.36 to 2.x). It is read only, without a request and without that package.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from . import whole
from .completeness import Need as Need
from .completeness import lacks as lacks
from .integrity import Damage, inside, reason

logger = logging.getLogger(__name__)

_MAX_REF_BYTES = 4096
_MAX_TREE_BYTES = 256 * 1024 * 1024


class Listed(NamedTuple):
    """A file as the hub's listing of a commit has it; ``None`` where the listing does not say."""

    size: int | None
    blob: str | None


@dataclass(frozen=True)
class Snapshot:
    """One commit in the cache. What is on the disk is read once per object, when it is first asked for.

    Attributes:
        commit: the commit hash, which is the folder's name.
        folder: ``snapshots/<commit>``; it need not exist.
    """

    commit: str
    folder: Path

    def files(self) -> dict[str, Path]:
        """Name in the repository -> path (mostly a link), at any depth."""
        return self._listing[0]

    @property
    def modified_s(self) -> float:
        """Newest modification of the entries themselves (not of what they point at), in seconds since the epoch."""
        return self._listing[1]

    @property
    def problem(self) -> str:
        """Why the folder could not be listed; "" where it could."""
        return self._listing[2]

    def blob_of(self, name: str) -> str | None:
        """Name of the blob that an entry points at; ``None`` for a real file."""
        try:
            return os.path.basename(os.readlink(self.folder / name)) or None
        except (OSError, ValueError):
            return None

    def size_bytes(self) -> int:
        """Size of all files together, in bytes; a file that cannot be reached counts as none."""
        return sum(_size(path) for path in self.files().values())

    def known_absent(self, name: str) -> bool:
        """Whether the hub has said that this commit has no such file (``.no_exist`` or the hub's listing)."""
        if self.listed is not None:
            return name not in self.listed
        try:
            return inside(name) and (self.folder.parent.parent / ".no_exist" / self.commit / name).is_file()
        except (OSError, ValueError):
            return False

    @cached_property
    def listed(self) -> dict[str, Listed] | None:
        """The hub's listing of the commit (``trees/<commit>.json``, huggingface_hub 2), if it is sound."""
        path = self.folder.parent.parent / "trees" / f"{self.commit}.json"
        try:
            if path.stat().st_size > _MAX_TREE_BYTES:
                return None
            files = json.loads(path.read_bytes())["files"]
            return {str(name): _listed(entry) for name, entry in files.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    @cached_property
    def _listing(self) -> tuple[dict[str, Path], float, str]:
        try:
            made_s = os.lstat(self.folder).st_mtime
        except (OSError, ValueError) as error:
            return {}, 0.0, reason(error)
        found: dict[str, Path] = {}
        times_s: list[float] = []
        problem = ""
        todo = [(self.folder, "")]
        while todo:
            folder, prefix = todo.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        name = prefix + entry.name
                        if entry.is_dir(follow_symlinks=False):  # a link could lead anywhere, and round in circles
                            todo.append((folder / entry.name, name + "/"))
                        else:
                            found[name] = folder / entry.name
                            times_s.append(entry.stat(follow_symlinks=False).st_mtime)
            except OSError as error:
                problem = problem or f"{prefix}{': ' if prefix else ''}{reason(error)}"
        return found, max(times_s, default=made_s), problem


@dataclass(frozen=True)
class Choice:
    """The commit to serve.

    Attributes:
        snapshot: a commit that is whole for the load; ``None`` where there is none.
        passed_over: the commits that come before it, in order, each with all that it lacks.
    """

    snapshot: Snapshot | None
    passed_over: tuple[tuple[str, tuple[Damage, ...]], ...] = ()


def repo_folder(cache_dir: str | os.PathLike[str], repo_id: str, repo_type: str = "model") -> Path:
    """The repository's folder in a cache, such as ``<cache>/models--org--name``; it need not exist.

    Example:
        >>> repo_folder("/cache", "google-bert/bert-base-uncased").name
        'models--google-bert--bert-base-uncased'
    """
    return Path(cache_dir) / "--".join([f"{repo_type}s", *repo_id.split("/")])


def commits(folder: str | os.PathLike[str]) -> list[Snapshot]:
    """The commits in a repository's folder, whole or not, newest first."""
    snapshots = Path(folder) / "snapshots"
    try:
        with os.scandir(snapshots) as entries:
            found = [Snapshot(entry.name, snapshots / entry.name) for entry in entries if _is_folder(entry)]
    except (OSError, ValueError):
        return []
    found = [snapshot for snapshot in found if not snapshot.commit.startswith(".")]
    return sorted(found, key=lambda snapshot: (-snapshot.modified_s, snapshot.commit)) if len(found) > 1 else found


def ref(folder: str | os.PathLike[str], revision: str) -> str | None:
    """The commit that ``refs/<revision>`` names; ``None`` for a ref that is missing, garbled or outside ``refs``."""
    if not inside(revision):
        return None
    try:
        with open(Path(folder, "refs", *revision.split("/")), "rb") as file:
            commit = file.read(_MAX_REF_BYTES).strip().decode("ascii")
    except (OSError, ValueError):
        return None
    return commit if re.fullmatch(r"[0-9a-f]{40}", commit) else None


def put_ref(folder: str | os.PathLike[str], revision: str, commit: str | None) -> None:
    """Make ``refs/<revision>`` name a commit, or none; a cache that cannot be written is left as it is."""
    if not inside(revision):
        return
    path = Path(folder, "refs", *revision.split("/"))
    try:
        if commit is None:
            path.unlink(missing_ok=True)
            return
        whole.put(path, commit.encode("ascii"), beside=Path(folder))  # in refs/ itself it would be read as a name
    except OSError as error:
        logger.warning("refs/%s of %s cannot be written: %s", revision, Path(folder).name, reason(error))


def choose(
    cache_dir: str | os.PathLike[str],
    repo_id: str,
    revision: str | None,
    need: Need,
    *,
    verify: str = "size",
    repo_type: str = "model",
    barred: Collection[str] = (),
) -> Choice:
    """The commit of a repository that can be served from the cache for a load. Never raises for what is on the disk.

    A commit hash, whole or of at least 7 digits, means that commit; any other name means what its ref says. Only the
    default branch falls back: to the newest whole commit that no other ref names.

    Args:
        cache_dir: the hub cache.
        repo_id: such as ``"org/name"``.
        revision: a branch, tag, ``refs/pr/<number>`` or commit hash; ``None`` for the default branch.
        need: what the load reads.
        verify: ``"hash"`` also compares every file that the load reads with the hash that names its blob.
        repo_type: ``"model"``, ``"dataset"`` or ``"space"``.
        barred: commits that must not be served.
    """
    folder = repo_folder(cache_dir, repo_id, repo_type)
    repo = commits(folder)
    passed_over: list[tuple[str, tuple[Damage, ...]]] = []
    for snapshot in _candidates(folder, repo, revision or "main"):
        if snapshot.commit in barred:
            continue
        damages = lacks(snapshot, need, repo, verify=verify)
        if not damages:
            return Choice(snapshot, tuple(passed_over))
        passed_over.append((snapshot.commit, damages))
    return Choice(None, tuple(passed_over))


def similar_repos(cache_dir: str | os.PathLike[str], repo_id: str, repo_type: str = "model") -> list[str]:
    """Up to three cached repositories with a name like this one, the most alike first."""
    start = f"{repo_type}s--"
    try:
        names = sorted(entry for entry in os.listdir(cache_dir) if entry.startswith(start))
    except (OSError, ValueError):
        return []
    by_name = {name.removeprefix(start).replace("--", "/"): None for name in names}
    by_name.pop(repo_id, None)
    lowered = {name.lower(): name for name in by_name}
    close = difflib.get_close_matches(repo_id.lower(), lowered, n=3, cutoff=0.6)
    same = [name for name in lowered if name.rpartition("/")[2] == repo_id.lower().rpartition("/")[2]]
    return [lowered[name] for name in dict.fromkeys([*same, *close])][:3]


def _candidates(folder: Path, repo: Sequence[Snapshot], revision: str) -> list[Snapshot]:
    known = {snapshot.commit: snapshot for snapshot in repo}

    def of(commit: str) -> Snapshot:
        return known.get(commit) or Snapshot(commit, folder / "snapshots" / commit)

    if re.fullmatch(r"[0-9a-fA-F]{40}", revision):
        return [of(revision.lower())]
    commit = ref(folder, revision)
    found = [] if commit is None else [of(commit)]
    if revision == "main":
        named = set(refs(folder).values())
        found += [snapshot for snapshot in repo if snapshot.commit not in named]
    elif not found and re.fullmatch(r"[0-9a-fA-F]{7,39}", revision):
        matches = [snapshot for snapshot in repo if snapshot.commit.startswith(revision.lower())]
        found = matches if len(matches) == 1 else []
    return found


def refs(folder: str | os.PathLike[str]) -> dict[str, str | None]:
    """The commit of each branch and tag that the cache has a ref of; ``None`` for a garbled one."""
    root, names = Path(folder) / "refs", []
    try:
        for where, _, files in os.walk(root):
            names += [os.path.relpath(os.path.join(where, file), root).replace(os.sep, "/") for file in files]
    except (OSError, ValueError):
        pass
    return {name: ref(folder, name) for name in sorted(names)}


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _listed(entry: dict[str, Any]) -> Listed:
    size = entry.get("lfs_size", entry.get("size"))
    blob = entry.get("lfs_sha256", entry.get("blob_id"))
    return Listed(size if type(size) is int else None, blob if isinstance(blob, str) else None)
