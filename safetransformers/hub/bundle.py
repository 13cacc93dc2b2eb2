"""The list of what was made ready, its check, and the bundle that carries it over an air gap.

A bundle is a folder of plain files, for disks without links: ``safetransformers-prefetch.json`` and ``files/<hash>``.
It comes from a disk that anybody may have held, so nothing in it is believed: names are checked before a path is made
of them, and each file is hashed in the cache's own folder before it gets its name there.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from .. import compat
from .._version import __version__
from ..errors import CorruptCacheError, HubError, SafeTransformersError
from ..notices import relative
from . import texts, whole
from .integrity import Damage, check_content, inside, verifiable
from .prefetch import File, Ready, disk_error, need_room, on_disk, problems, publish
from .snapshots import ref, repo_folder
from .wanted import is_repo_id, unusable

LIST_NAME: Final = "safetransformers-prefetch.json"
_VERSION: Final = 1
_FILES: Final = "files"
_MAX_LIST_BYTES: Final = 64 * 2**20
_AGAIN: Final = "make it again where there is a network: safetransformers prefetch REPO --to DIR"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def write_list(ready: Iterable[Ready], path: str | os.PathLike[str]) -> None:
    """Writes the list, beside the target and then into its place.

    Raises:
        HubError: a file is there that is no such list (ST-HUB-103), or the disk does not take it (ST-HUB-106).
    """
    target = Path(path)
    if os.path.lexists(target):
        try:
            read_list(target)
        except SafeTransformersError:
            what = f"{relative(target)!r} is there, and it is not a list of safetransformers"
            raise unusable(what, "--list FILE with another name") from None
    repos = []
    for repo in ready:
        files = [{**asdict(file), "algorithm": file.algorithm} for file in repo.files]
        repos.append({**asdict(repo), "files": files, "absent": list(repo.absent)})
    content = {"version": _VERSION, "made_by": f"safetransformers {__version__}", "repos": repos}
    with on_disk(relative(target)):
        whole.put(target, json.dumps(content, indent=1).encode())


def read_list(path: str | os.PathLike[str]) -> list[Ready]:
    """Reads a list; nothing that it names can lead outside the folder it is used in.

    Raises:
        HubError: there is no file (ST-HUB-103), or it is not such a list (ST-HUB-104).
    """
    name = relative(path)
    try:
        if os.stat(path).st_size > _MAX_LIST_BYTES:
            raise _invalid(name, f"it is larger than {_MAX_LIST_BYTES // 2**20} MiB")
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        do = "name the file that --list wrote, or the folder that --to made"
        raise unusable(f"there is no list {name!r}", do) from None
    except SafeTransformersError:
        raise
    except OSError as error:
        raise disk_error(name, error) from error
    except (ValueError, RecursionError):
        raise _invalid(name, "it is not JSON, or only part of it") from None
    if not isinstance(content, dict) or not isinstance(content.get("repos"), list):
        raise _invalid(name, "it has no 'repos'")
    if content.get("version") != _VERSION:
        raise _invalid(name, f"its version is {content.get('version')!r}, and this release reads {_VERSION}")
    ready = [_repo(name, entry) for entry in content["repos"]]
    hashes: dict[tuple[str, str], tuple[str, int]] = {}
    for repo in ready:
        for file in repo.files:
            what = (f"{repo.repo_id}@{repo.commit}", file.name)
            if hashes.setdefault(what, (file.hash, file.size)) != (file.hash, file.size):
                raise _invalid(name, f"it names two contents for {file.name!r} of {repo.repo_id}")
    if len({(repo.repo_id, repo.revision) for repo in ready}) < len(ready):
        raise _invalid(name, "it names a repository twice")
    return ready


def check(
    ready: Iterable[Ready], cache_dir: str | os.PathLike[str] | None = None
) -> list[tuple[Ready, tuple[Damage, ...]]]:
    """What the cache lacks of a list: each file's size and hash, and what the plain name means. No request.

    Args:
        ready: as :func:`read_list` gives it.
        cache_dir: the hub cache; ``None`` for the one that transformers reads.
    """
    found = []
    for repo in ready:
        folder = repo_folder(cache_dir or compat.hub_cache(), repo.repo_id)
        damages = problems(folder / "snapshots" / repo.commit, repo.files)
        now = ref(folder, repo.revision)
        if repo.revision != repo.commit and now != repo.commit:
            name = f"refs/{repo.revision}"
            moved = Damage(name, "another commit", repo.commit, now) if now else Damage(name, "missing", repo.commit)
            damages.append(moved)
        found.append((repo, tuple(damages)))
    return found


def check_bundle(folder: str | os.PathLike[str]) -> list[tuple[Ready, tuple[Damage, ...]]]:
    """What a bundle lacks of its own list. No request; nothing is written.

    Raises:
        HubError: it is no bundle (ST-HUB-103, ST-HUB-104).
    """
    bundle = Path(folder)
    found = []
    for repo in _read_bundle(bundle):
        broken = (
            _broken(bundle, file) or check_content(_stored(bundle, file), file.name, file.hash) for file in repo.files
        )
        found.append((repo, tuple(damage for damage in broken if damage is not None)))
    return found


def save(
    ready: Sequence[Ready], folder: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None
) -> list[Ready]:
    """Writes a bundle of what is in the cache; an older bundle there keeps its other repositories.

    A new bundle is written beside the target and moved into place. In an old one, new files come first, then the
    list, and only then goes what no list names any more: it is whole at every moment.

    Args:
        ready: as ``prefetch`` or :func:`read_list` gives it.
        folder: the bundle; absent, empty, or a bundle.
        cache_dir: the hub cache; ``None`` for the one that transformers reads.

    Returns:
        All that the bundle has now.

    Raises:
        HubError: the folder has other things in it (ST-HUB-103), or the disk is too full (ST-HUB-106).
        CorruptCacheError: a file of the cache is not what the list says (ST-HUB-006).
    """
    target = Path(os.path.abspath(folder))
    cache = Path(cache_dir or compat.hub_cache())
    old = _old_bundle(target)
    new = {(repo.repo_id, repo.revision) for repo in ready}
    every = [*(repo for repo in old if (repo.repo_id, repo.revision) not in new), *ready]
    sources = {
        file.hash: (file, repo_folder(cache, repo.repo_id) / "snapshots" / repo.commit / file.name, repo)
        for repo in ready
        for file in repo.files
    }
    wanted = {
        name: source
        for name, source in sources.items()
        if problems(target / _FILES, [File(name, source[0].size, name)])
    }
    need_room(target, sum(file.size for file, _, _ in wanted.values()), "the bundle", "another disk: --to DIR")
    place = target if old else target.with_name(f"{target.name}.partial-{os.getpid()}")
    with on_disk(relative(target)):
        try:
            (place / _FILES).mkdir(parents=True, exist_ok=True)
            for name, (file, source, repo) in wanted.items():
                beside = place / _FILES / f"{name}.partial"
                if not source.is_file():
                    raise texts.corrupt(repo.repo_id, repo.commit, [Damage(file.name, "missing")])
                shutil.copyfile(source, beside)
                if damage := check_content(beside, file.name, file.hash):
                    raise texts.corrupt(repo.repo_id, repo.commit, [damage])
                os.replace(beside, place / _FILES / name)
            write_list(every, place / LIST_NAME)
            _drop_unlisted(place / _FILES, every)
            if place != target:
                if target.exists():
                    target.rmdir()  # empty
                os.replace(place, target)
        finally:
            if place != target:
                shutil.rmtree(place, ignore_errors=True)
            for rest in (target / _FILES).glob("*.partial"):
                rest.unlink(missing_ok=True)
    return every


def restore(folder: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> list[Ready]:
    """Puts a bundle into the cache, as huggingface_hub would have laid it out. No request.

    Every file is copied beside its place and hashed there; only when all are sound do they get their names, and refs
    come last. A sound file that is in the cache already stays as it is.

    Args:
        folder: the bundle.
        cache_dir: the hub cache; ``None`` for the one that transformers reads.

    Raises:
        HubError: it is no bundle, or one that must not be trusted (ST-HUB-103, ST-HUB-104), or the disk is too full
            (ST-HUB-106).
        CorruptCacheError: a file of the bundle is not what its list says (ST-HUB-105). The cache is as it was.
    """
    bundle, cache = Path(folder), Path(os.path.realpath(cache_dir or compat.hub_cache()))
    ready = _read_bundle(bundle)
    if broken := [damage for repo in ready for file in repo.files if (damage := _broken(bundle, file))]:
        raise _damaged(bundle, broken)
    for repo in ready:
        _look_at_places(cache, repo)
    lacking = {(repo.repo_id, file.hash): file for repo in ready for file in _lacking(cache, repo)}
    need_room(cache, sum(file.size for file in lacking.values()), "the bundle's files", "another disk: --cache-dir DIR")
    staged: dict[Path, Path] = {}
    made: list[Path] = []
    with on_disk("the cache"):
        try:
            for (repo_id, name), file in lacking.items():
                blobs = repo_folder(cache, repo_id) / "blobs"
                _make(blobs, made)
                beside = staged[blobs / name] = blobs / f"{name}.{secrets.token_hex(4)}.incomplete"
                _copy_plain(_stored(bundle, file), beside)
                if damage := check_content(beside, file.name, file.hash):
                    raise _damaged(bundle, [damage])
            for repo in ready:
                for place in _places(cache, repo):
                    _make(place, made)
        except BaseException:
            for beside in staged.values():
                beside.unlink(missing_ok=True)
            for place in reversed(made):
                if not any(place.iterdir()):
                    place.rmdir()
            raise
        for blob, beside in staged.items():
            os.replace(beside, blob)
        for repo in ready:
            _link(repo_folder(cache, repo.repo_id), repo)
        for repo in ready:
            publish(repo_folder(cache, repo.repo_id), repo)
    return ready


def _repo(where: str, entry: Any) -> Ready:
    """One repository of a list, all of whose names are safe to make paths of."""
    entry = entry if isinstance(entry, dict) else {}
    repo_id, revision, commit = entry.get("repo_id"), entry.get("revision"), entry.get("commit")
    why, absent, files = entry.get("why", ""), entry.get("absent", []), entry.get("files")
    if not isinstance(repo_id, str) or not is_repo_id(repo_id):
        raise _invalid(where, f"{_shown(repo_id)} is not a repository's name")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise _invalid(where, f"{repo_id}: {_shown(commit)} is not a commit hash")
    if not _is_safe(revision) or (_COMMIT.fullmatch(revision) and revision != commit):
        raise _invalid(where, f"{repo_id}: {_shown(revision)} cannot be a revision")
    if not isinstance(files, list) or not files or not isinstance(absent, list) or not isinstance(why, str):
        raise _invalid(where, f"{repo_id}: it names no files")
    for name in absent:
        if not _is_safe(name):
            raise _invalid(where, f"{repo_id}: {_shown(name)} is a name outside the repository")
    found = tuple(_file(where, repo_id, file) for file in files)
    names = [file.name for file in found]
    folders = {name[:index] for name in [*names, *absent] for index in range(len(name)) if name[index] == "/"}
    if len(set(names)) < len(names) or folders.intersection([*names, *absent]) or set(names).intersection(absent):
        raise _invalid(where, f"{repo_id}: it has one name twice")
    return Ready(repo_id, revision, commit, found, why if why.isprintable() else "", tuple(absent))


def _file(where: str, repo_id: str, entry: Any) -> File:
    entry = entry if isinstance(entry, dict) else {}
    name, size, digest = entry.get("name"), entry.get("size"), entry.get("hash")
    if not _is_safe(name):
        raise _invalid(where, f"{repo_id}: {_shown(name)} is a name outside the repository")
    if type(size) is not int or size < 0:
        raise _invalid(where, f"{repo_id}: {_shown(size)} is not the size of {name!r}")
    if not isinstance(digest, str) or not verifiable(digest):
        raise _invalid(where, f"{repo_id}: {_shown(digest)} is not a hash of {name!r}")
    file = File(name, size, digest)
    if entry.get("algorithm") != file.algorithm:
        raise _invalid(where, f"{repo_id}: {_shown(entry.get('algorithm'))} is not the algorithm of {name!r}")
    return file


def _is_safe(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and inside(name)


def _shown(value: Any) -> str:
    return ascii(value)[:80]


def _read_bundle(bundle: Path) -> list[Ready]:
    listing = bundle / LIST_NAME
    if os.path.lexists(listing) and not _is_plain(listing):
        raise _invalid(LIST_NAME, "it is a link, or no file")
    if not bundle.is_dir() or not os.path.lexists(listing):
        do = "name the folder that --to made"
        raise unusable(f"{relative(bundle)!r} is no bundle: there is no {LIST_NAME} in it", do)
    if os.path.islink(bundle / _FILES):
        raise _invalid(LIST_NAME, f"{_FILES!r} beside it is a link")
    return read_list(listing)


def _old_bundle(target: Path) -> list[Ready]:
    """What is in the folder already; nothing where it is absent or empty."""
    try:
        if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
            return []
        return _read_bundle(target)
    except SafeTransformersError as error:
        what = f"{relative(target)!r} is there, and it is not a bundle that can be updated: {error.what}"
        raise unusable(what, "--to DIR with a folder that is not there yet") from None
    except OSError as error:
        raise disk_error(relative(target), error) from error


def _stored(bundle: Path, file: File) -> Path:
    return bundle / _FILES / file.hash


def _broken(bundle: Path, file: File) -> Damage | None:
    """What is wrong with a bundle's file before a byte of it is read."""
    path = _stored(bundle, file)
    if not os.path.lexists(path):
        return Damage(file.name, "missing")
    if not _is_plain(path):
        return Damage(file.name, "unreadable", "a plain file", "a link, a folder or a special file")
    size = path.stat().st_size
    return None if size == file.size else Damage(file.name, "other bytes", f"{file.size} bytes", f"{size} bytes")


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


def _copy_plain(source: Path, target: Path) -> None:
    """Copies a file, and never what a link put in its place points at."""
    no_link = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(source, os.O_RDONLY | no_link), "rb") as read, open(target, "xb") as write:
        shutil.copyfileobj(read, write, 4 * 2**20)


def _places(cache: Path, repo: Ready) -> list[Path]:
    """The folders of the cache that a repository's files, markers and ref go to."""
    folder = repo_folder(cache, repo.repo_id)
    found = {folder / "blobs": None, folder / "refs": None}
    found |= {(folder / "snapshots" / repo.commit / file.name).parent: None for file in repo.files}
    found |= {(folder / ".no_exist" / repo.commit / name).parent: None for name in repo.absent}
    if repo.revision != repo.commit:
        found |= {folder.joinpath("refs", *repo.revision.split("/")).parent: None}
    return list(found)


def _look_at_places(cache: Path, repo: Ready) -> None:
    """Raises where a folder of the cache leads out of it, or a folder is where a file has to go."""
    for place in _places(cache, repo):
        if not Path(os.path.realpath(place)).is_relative_to(cache):
            what = f"the cache's folder of {repo.repo_id} has a link that leads out of the cache"
            raise unusable(what, "remove that link, or restore into another cache: --cache-dir DIR")
    folder = repo_folder(cache, repo.repo_id)
    for file in repo.files:
        if (folder / "snapshots" / repo.commit / file.name).is_dir() or (folder / "blobs" / file.hash).is_dir():
            raise unusable(f"{repo.repo_id}: a folder is where {file.name!r} has to go", "--cache-dir DIR")


def _lacking(cache: Path, repo: Ready) -> Iterator[File]:
    """The files that the cache has not, or not sound."""
    folder = repo_folder(cache, repo.repo_id)
    for file in problems(folder / "snapshots" / repo.commit, repo.files):
        entry = next(one for one in repo.files if one.name == file.file)
        if check_content(folder / "blobs" / entry.hash, entry.name, entry.hash):
            yield entry


def _make(folder: Path, made: list[Path]) -> None:
    """Makes a folder and its parents, and notes those that were not there."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(new):
        place.mkdir(exist_ok=True)
        made.append(place)


def _link(folder: Path, repo: Ready) -> None:
    """Gives the blobs their names in the commit: by links, or as plain files where the disk has no links."""
    todo = problems(folder / "snapshots" / repo.commit, repo.files)
    entries = {file.name: file for file in repo.files}
    names = [damage.file for damage in todo]
    copies: set[Path] = set()
    for name in names:
        target = folder / "snapshots" / repo.commit / name
        blob = folder / "blobs" / entries[name].hash
        beside = folder / f".link-{secrets.token_hex(8)}"
        try:
            # relative to where it will be, as huggingface_hub makes it
            beside.symlink_to(os.path.relpath(blob, target.parent))
        except (OSError, NotImplementedError):
            shutil.copyfile(blob, beside)
            copies.add(blob)
        os.replace(beside, target)
    for blob in copies:  # a cache without links has no blobs
        blob.unlink(missing_ok=True)


def _drop_unlisted(files: Path, ready: Iterable[Ready]) -> None:
    listed = {file.hash for repo in ready for file in repo.files}
    for path in files.iterdir():
        if path.name not in listed and verifiable(path.name.removesuffix(".partial")) and _is_plain(path):
            path.unlink()


def _invalid(where: str, why: str) -> HubError:
    return HubError("ST-HUB-104", f"{where} is not a list that can be trusted", why=why, do=_AGAIN)


def _damaged(bundle: Path, found: list[Damage]) -> CorruptCacheError:
    return CorruptCacheError(
        "ST-HUB-105",
        f"the bundle {relative(bundle)!r} is damaged: {texts.listed(map(str, found))}",
        why="the files are not those of its list; the cache was not changed",
        do=f"copy the bundle again, or {_AGAIN}",
        files=[damage.file for damage in found],
    )
