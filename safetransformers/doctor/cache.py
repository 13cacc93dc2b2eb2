"""Is the hub cache sound: broken and partial commits, refs that lead nowhere, what fills the disk for nothing?"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import compat
from ..errors import SafeTransformersError
from ..hub.completeness import Need
from ..hub.integrity import Damage
from ..hub.prefetch import cached
from ..hub.snapshots import Snapshot, commits, lacks, refs
from ..hub.texts import is_missing
from .environment import can_write
from .finding import Finding

TOPIC: Final = "cache"
_UNFINISHED: Final = ".incomplete"
_GOING_ON_S: Final = 600.0
_FULL_BYTES: Final = 2**30
_NEARLY_FULL_BYTES: Final = 10 * 2**30
_SHOWN: Final = 3
_HASH_SHOWN: Final = 12


@dataclass(frozen=True)
class Commit:
    """One commit of a repository in the cache.

    Attributes:
        hash: its name.
        named: the branches and tags that mean it.
        broken: what is wrong with the files that are there, and what its own index names and is not.
    """

    hash: str
    named: tuple[str, ...]
    broken: tuple[Damage, ...]


@dataclass(frozen=True)
class Repo:
    """One model repository in the cache.

    Attributes:
        repo_id: such as ``"org/name"``.
        commits: that are there or that a ref names.
        garbled: refs that name no commit.
        lacks: what an offline start of ``main`` would miss though nothing there is broken.
        orphans: blobs that no commit has: name in the repository's folder, and size.
        unfinished: downloads that did not end: name, size and seconds since the last byte.
        unreadable: whether some of it cannot be read.
    """

    repo_id: str
    commits: tuple[Commit, ...] = ()
    garbled: tuple[str, ...] = ()
    lacks: tuple[Damage, ...] = ()
    orphans: tuple[tuple[str, int], ...] = ()
    unfinished: tuple[tuple[str, int, float], ...] = ()
    unreadable: bool = False


@dataclass(frozen=True)
class Facts:
    """The whole cache.

    Attributes:
        folder: as it is shown and pasted, with ``~`` for the user's home.
        exists: whether it is there.
        is_writable: whether it can be written, or made.
        size_bytes: of all files in it.
        free_bytes: of its disk.
        repos: the model repositories.
        hashed: whether every file was compared with its hash.
    """

    folder: str
    exists: bool
    is_writable: bool
    size_bytes: int = 0
    free_bytes: int = 2**60
    repos: tuple[Repo, ...] = ()
    hashed: bool = False


def look(cache_dir: str | os.PathLike[str] | None = None, *, verify: str = "size") -> Facts:
    """Look at the cache; nothing is changed and nothing is asked.

    Args:
        cache_dir: the hub cache; ``None`` for the one that transformers reads.
        verify: ``"hash"`` reads every byte, ``"size"`` of large files no more than their headers.
    """
    cache = Path(cache_dir or compat.hub_cache())
    shown = _shown(cache)
    if not cache.is_dir():
        return Facts(shown, False, can_write(cache))
    names = sorted(entry.name for entry in os.scandir(cache) if entry.name.startswith("models--"))
    repos = tuple(_repo(cache, name, verify) for name in names)
    free = shutil.disk_usage(cache).free
    return Facts(shown, True, can_write(cache), _size(cache), free, repos, verify == "hash")


def findings(facts: Facts) -> Iterator[Finding]:
    """What there is to say about it."""
    if not facts.is_writable:
        why = "nothing can be downloaded; a load of what is cached works where nothing has to be written"
        do = f"chmod -R u+rwX {facts.folder}, or HF_HUB_CACHE=FOLDER that you may write"
        yield Finding(TOPIC, "problem", f"{facts.folder} cannot be written", why, do)
    if not facts.exists:
        yield Finding(TOPIC, "ok", f"{facts.folder} is not there yet: the first download makes it")
        return
    looked = "every file compared with its hash" if facts.hashed else "headers and small files looked at"
    of = f"{len(facts.repos)} model{'' if len(facts.repos) == 1 else 's'}, {_bytes(facts.size_bytes)}"
    free = f"{facts.folder}: {of}; {_bytes(facts.free_bytes)} free on its disk"
    if facts.free_bytes < _NEARLY_FULL_BYTES:
        why = "a download that finds no room stops in the middle"
        is_full = facts.free_bytes < _FULL_BYTES
        yield Finding(TOPIC, "problem" if is_full else "note", free, why, "hf cache ls; hf cache rm REPO")
    else:
        yield Finding(TOPIC, "ok", free)
    found = [finding for repo in facts.repos for finding in _of_repo(repo, facts.folder)]
    yield from found
    if facts.repos and all(finding.level != "problem" for finding in found):
        yield Finding(TOPIC, "ok", f"no cached file is broken ({looked})")


def _of_repo(repo: Repo, cache: str) -> Iterator[Finding]:
    fetch = f"safetransformers prefetch {repo.repo_id}"
    if repo.unreadable:
        do = f"chmod -R u+rX {cache}/{_folder(repo)}"
        yield Finding(TOPIC, "problem", f"{repo.repo_id} cannot be read", "its folder or files in it are locked", do)
    for name in repo.garbled:
        yield Finding(
            TOPIC, "problem", f"{repo.repo_id}: refs/{name} names no commit", "its name does not load offline", fetch
        )
    for commit in repo.commits:
        if not commit.broken:
            continue
        named = " and ".join(commit.named)
        what = f"{repo.repo_id} at {named or commit.hash[:_HASH_SHOWN]} is broken: {_listed(commit.broken)}"
        if named:
            why = f"a load of {commit.named[0]!r} without a network fails, or loads what is wrong"
            at = "" if "main" in commit.named else f" --revision {commit.named[0]}"
            yield Finding(TOPIC, "problem", what, why, fetch + at)
        else:
            why = "no branch or tag means this commit: only a load by its hash reads it"
            yield Finding(TOPIC, "note", what, why, f"{fetch} --revision {commit.hash}, or: hf cache prune")
    if repo.commits and not any(commit.named for commit in repo.commits):
        why = "without refs/main a load by its plain name finds nothing offline; by a commit hash it does"
        yield Finding(TOPIC, "note", f"{repo.repo_id}: no name means a cached commit", why, fetch)
    if repo.lacks:
        why = "an offline start of the whole model would miss it; what only reads the rest does not"
        yield Finding(TOPIC, "note", f"{repo.repo_id} is not all there: {_listed(repo.lacks)}", why, fetch)
    if repo.unfinished:
        size = sum(size for _, size, _ in repo.unfinished)
        what = f"{repo.repo_id}: {_files(len(repo.unfinished), 'download')} did not end ({_bytes(size)})"
        if min(age_s for _, _, age_s in repo.unfinished) < _GOING_ON_S:
            yield Finding(TOPIC, "note", what, "one of them may still be going on", "look again in ten minutes")
        else:
            names = [name for name, _, _ in repo.unfinished]
            do = f"{fetch}, and then: {_remove(cache, repo, names)}"
            yield Finding(TOPIC, "note", what, "they take room, and a load may begin again", do)
    if repo.orphans:
        size = sum(size for _, size in repo.orphans)
        what = f"{repo.repo_id}: {_files(len(repo.orphans), 'blob')} that no commit has ({_bytes(size)})"
        do = _remove(cache, repo, [name for name, _ in repo.orphans])
        yield Finding(TOPIC, "note", what, "they take room and nothing reads them", do)


def _repo(cache: Path, name: str, verify: str) -> Repo:
    folder, repo_id = cache / name, name.removeprefix("models--").replace("--", "/")
    here, named = commits(folder), refs(folder)
    hashes = {snapshot.commit for snapshot in here}
    gone = {commit for commit in named.values() if commit is not None} - hashes
    every = [*here, *(Snapshot(commit, folder / "snapshots" / commit) for commit in sorted(gone))]
    found = tuple(
        Commit(
            snapshot.commit,
            tuple(name for name, commit in named.items() if commit == snapshot.commit),
            lacks(snapshot, Need(), here, verify=verify),
        )
        for snapshot in every
    )
    garbled = tuple(name for name, commit in named.items() if commit is None)
    orphans, unfinished = _blobs(folder, here)
    locked = any(snapshot.problem for snapshot in here) or not os.access(folder, os.R_OK | os.X_OK)
    start = _start_lacks(repo_id, cache, named.get("main"), found, verify)
    return Repo(repo_id, found, garbled, start, orphans, unfinished, locked)


def _start_lacks(
    repo_id: str, cache: Path, main: str | None, found: Sequence[Commit], verify: str
) -> tuple[Damage, ...]:
    """What an offline start of ``main`` would miss, beside what was found broken; nothing where main is not there."""
    told = {damage.file for commit in found if commit.hash == main for damage in commit.broken}
    if main is None or any(name.startswith("snapshots/") for name in told):
        return ()
    try:
        looked = cached([repo_id], cache_dir=cache, verify=verify)
    except SafeTransformersError:  # a folder whose name is none of a repository
        return ()
    own = next((damages for ready, damages in looked if ready.repo_id == repo_id and ready.commit == main), ())
    others = [
        Damage(f"{ready.repo_id} ({ready.why})", "missing")
        for ready, damages in looked
        if ready.repo_id != repo_id and damages
    ]
    return (*(damage for damage in own if is_missing(damage) and damage.file not in told), *others)


def _blobs(
    folder: Path, here: Sequence[Snapshot]
) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int, float], ...]]:
    """Blobs that no link leads to, and downloads that did not end."""
    used = {snapshot.blob_of(name) for snapshot in here for name in snapshot.files()}
    orphans, unfinished = [], []
    try:
        with os.scandir(folder / "blobs") as entries:
            blobs = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except OSError:
        return (), ()
    for name, facts in sorted(blobs):
        if name.endswith(_UNFINISHED):
            unfinished.append((f"blobs/{name}", facts.st_size, max(0.0, time.time() - facts.st_mtime)))
        elif name not in used:
            orphans.append((f"blobs/{name}", facts.st_size))
    return tuple(orphans), tuple(unfinished)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed."""
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            try:
                facts = os.lstat(os.path.join(where, name))
            except OSError:  # gone meanwhile: another process downloads
                continue
            total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total


def _shown(cache: Path) -> str:
    """A path as it can be pasted, with ``~`` for the home: whose it is is nobody's business."""
    home = os.path.expanduser("~")
    text = os.fspath(cache.absolute())
    if home != "/" and text.startswith(home + os.sep):
        return "~/" + shlex.quote(text[len(home) + 1 :])
    return shlex.quote(text)


def _remove(cache: str, repo: Repo, names: Sequence[str]) -> str:
    paths = " ".join(f"{cache}/{_folder(repo)}/{shlex.quote(name)}" for name in names[:_SHOWN])
    return f"rm {paths}" + (f" # and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _folder(repo: Repo) -> str:
    return shlex.quote("models--" + repo.repo_id.replace("/", "--"))


def _listed(damages: Sequence[Damage]) -> str:
    more = f"; and {len(damages) - _SHOWN} more" if len(damages) > _SHOWN else ""
    return "; ".join(map(str, damages[:_SHOWN])) + more


def _files(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
