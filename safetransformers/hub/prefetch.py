"""Makes a machine ready for a start without a network: fetches what is needed, by commit, and verifies every byte."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .. import compat, policies
from ..counts import count
from ..errors import HubError, SafeTransformersError
from . import faults, texts, wanted, whole
from .completeness import VOCABULARIES, Need
from .integrity import Damage, check_content, inside, reason, verifiable
from .snapshots import Snapshot, commits, lacks, ref, repo_folder
from .wanted import Wanted, Wish

_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# hub 2 keeps each commit's listing, and its `snapshot_download(local_files_only=True)`, which looks for these folders,
# then refuses a commit that is not all there. Without the listing it gives what there is.
_LISTED_OFFLINE: Final = ("additional_chat_templates/", "modules.json")
_DO: Final = {
    "gated": "ask for access at {url}, then: hf auth login",
    "unauthorized": "hf auth login, or set HF_TOKEN to a token that may read {repo_id}",
    "no_repo": "check the name; for a private repository: hf auth login, or set HF_TOKEN",
    "no_revision": "{url}/tree/main shows the branches and tags: safetransformers prefetch {repo_id} --revision NAME",
}
_AGAIN: Final = (
    "safetransformers prefetch {repo_id}{at}, where there is a network: what has arrived is kept. A mirror goes into "
    "HF_ENDPOINT; a bundle from another machine is restored by: safetransformers prefetch --from DIR"
)


@dataclass(frozen=True)
class File:
    """One file of a commit.

    Attributes:
        name: in the repository, "/"-separated.
        size: in bytes.
        hash: the sha256 of a file in LFS, git's sha1 of any other, in lower-case hex.
    """

    name: str
    size: int
    hash: str

    @property
    def algorithm(self) -> str:
        """``"sha256"`` or ``"git-sha1"``."""
        return "sha256" if len(self.hash) == 64 else "git-sha1"


@dataclass(frozen=True)
class Ready:
    """A repository that an offline start can read from the cache.

    Attributes:
        repo_id: such as ``"org/name"``.
        revision: the branch, tag or commit that was asked for.
        commit: the commit that it meant, 40 hex digits.
        files: what is in the cache of it, by name.
        why: who needs it: "asked for", "base model of …", "remote code of …".
        absent: files that loaders ask for and that the commit does not have.
    """

    repo_id: str
    revision: str
    commit: str
    files: tuple[File, ...]
    why: str = wanted.ASKED
    absent: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size for file in self.files)


def prefetch(
    repo_ids: Sequence[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    variant: str | None = None,
    files: Sequence[str] = (),
    everything: bool = False,
    endpoint: str | None = None,
) -> list[Ready]:
    """Fetches all that an offline start of these repositories reads, and compares every byte with the hub's hashes.

    Configs, tokenizers, templates and Python files, and the weights in one format: the one that transformers takes.
    So too for the base model of an adapter, and for code that lies in another repository. Each revision is resolved
    once. The plain name works offline only when all is there: refs are written last.

    Args:
        repo_ids: such as ``["org/name"]``.
        revision: a branch, tag or commit hash, for all of them; ``None`` for the default branch.
        cache_dir: the hub cache; ``None`` for the one that transformers reads.
        token: of the hub; ``None`` for the one of ``hf auth login`` or ``HF_TOKEN``.
        variant: such as ``"fp16"`` in ``model.fp16.safetensors``.
        files: names or shell patterns, such as a GGUF file; where one is a weights file, no others are chosen.
        everything: the whole commit, whatever reads it.
        endpoint: the hub or a mirror; ``None`` for ``HF_ENDPOINT``.

    Raises:
        HubError: the hub does not give a file (ST-HUB-101), the weights have to be chosen (ST-HUB-102), an argument
            cannot be used (ST-HUB-103), the disk is full or read-only (ST-HUB-106).
        CorruptCacheError: a file is not what the hub's hash says, though it was fetched twice (ST-HUB-006).

    Cost: two to five requests for each repository besides the downloads; each file is read once to hash it.
    """
    if compat.hub_is_offline():
        raise HubError(
            "ST-HUB-101",
            "prefetch is to fetch, and no request is allowed",
            why="HF_HUB_OFFLINE is set",
            do="unset HF_HUB_OFFLINE; or look at what is there: safetransformers prefetch REPO --check",
        )
    fetch = _Fetch(Path(cache_dir or compat.hub_cache()), token, endpoint or compat.hub_endpoint())
    wish = Wish(variant, tuple(files), everything, policies.resolve("weights") == "safetensors")
    ready = [fetch.one(what, what_of) for what, what_of in wanted.walk(repo_ids, revision, wish, fetch.found)]
    with on_disk("the cache"):
        for repo in ready:
            publish(repo_folder(fetch.cache, repo.repo_id), repo)
    count("hub.prefetched")
    return ready


def cached(
    repo_ids: Sequence[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    variant: str | None = None,
    files: Sequence[str] = (),
    everything: bool = False,
    verify: str = "hash",
) -> list[tuple[Ready, tuple[Damage, ...]]]:
    """What the cache has of these repositories and of those that they name, and what an offline start would miss.

    No request. Each file is compared with the hash that names its blob, or as ``verify`` says.

    Args:
        repo_ids: such as ``["org/name"]``.
        revision: as for :func:`prefetch`.
        cache_dir: the hub cache; ``None`` for the one that transformers reads.
        variant: as for :func:`prefetch`.
        files: as for :func:`prefetch`.
        everything: as for :func:`prefetch`.
        verify: ``"size"`` reads of large files no more than their headers.
    """
    cache = Path(cache_dir or compat.hub_cache())
    wish = Wish(variant, tuple(files), everything, policies.resolve("weights") == "safetensors")
    found: list[tuple[Ready, tuple[Damage, ...]]] = []
    here: dict[Wanted, Mapping[str, Path]] = {}
    for what, its_wish in wanted.walk(repo_ids, revision, wish, here):
        folder = repo_folder(cache, what.repo_id)
        commit = what.revision if _COMMIT.fullmatch(what.revision) else ref(folder, what.revision)
        if commit is None:
            missing = Damage(f"refs/{what.revision}", "missing", "the commit that this name means")
            found.append((Ready(what.repo_id, what.revision, "", (), what.why), (missing,)))
            continue
        snapshot = Snapshot(commit, folder / "snapshots" / commit)
        here[what] = snapshot.files()
        found.append(_look(what, its_wish, snapshot, verify))
    return found


def publish(folder: Path, ready: Ready) -> None:
    """Writes what a whole commit lets the cache know: the files that it has not, and then which commit a name means.

    Args:
        folder: the repository's folder in the cache.
        ready: the commit, all of whose files are there.
    """
    for name in ready.absent:
        marker = folder / ".no_exist" / ready.commit / name
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    if ready.revision != ready.commit and ref(folder, ready.revision) != ready.commit:
        target = folder.joinpath("refs", *ready.revision.split("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        whole.put(target, ready.commit.encode("ascii"), beside=folder)  # in refs/ itself it would be read as a name


def problems(folder: Path, files: Iterable[File]) -> list[Damage]:
    """The files below a folder that are missing or are not what their size and hash say; each is read once."""
    found = []
    for file in files:
        path = folder / file.name
        damage = check_content(path, file.name, file.hash)
        if damage is None and (size := path.stat().st_size) != file.size:
            damage = Damage(file.name, "other bytes", f"{file.size} bytes", f"{size} bytes")
        if damage is not None:
            found.append(damage)
    return found


def need_room(folder: Path, size_bytes: int, what: str, do: str) -> None:
    """Raises where a folder's disk has less room than that.

    Raises:
        HubError: the disk is too full (ST-HUB-106).
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if (free := shutil.disk_usage(there).free) < size_bytes:
        why = f"{size_bytes / 1e9:.2f} GB are needed, and the disk has {free / 1e9:.2f} GB free"
        raise HubError("ST-HUB-106", f"no room for {what}", why=why, do=do, needed=size_bytes, free=free)


def disk_error(what: str, error: OSError) -> HubError:
    """The error for a disk that does not take or give files."""
    do = "make room, or name a folder that can be written: --cache-dir DIR, --to DIR"
    return HubError("ST-HUB-106", f"{what} could not be written or read", why=reason(error), do=do)


@contextmanager
def on_disk(what: str) -> Iterator[None]:
    """Turns what the file system raises into :func:`disk_error`."""
    try:
        yield
    except SafeTransformersError:
        raise
    except OSError as error:
        raise disk_error(what, error) from error


class _Fetch:
    """Fetches one repository after another into a cache."""

    def __init__(self, cache: Path, token: str | bool | None, endpoint: str) -> None:
        self.cache, self.token, self.endpoint = cache, token, endpoint.rstrip("/")
        self.found: dict[Wanted, Mapping[str, Path]] = {}

    def one(self, what: Wanted, wish: Wish) -> Ready:
        """Fetches what a start reads of a repository, and verifies it."""
        commit, listing = self._list(what)
        snapshot = repo_folder(self.cache, what.repo_id) / "snapshots" / commit
        self.found[what] = here = {name: snapshot / name for name in listing}
        have: dict[str, None] = {}

        def take(names: Iterable[str]) -> None:
            if new := [listing[name] for name in names if name not in have]:
                self._get(what, commit, new)
                have.update((file.name, None) for file in new)

        if wish.everything:
            take(listing)
        elif what.code_only:
            take(wanted.code(listing))
        else:
            take([*wanted.settings(listing), *wanted.matching(listing, wish.files, what.repo_id)])
            take(wanted.indexes(here, wish, what.repo_id))
            take(wanted.weights(here, wish, what.repo_id))
        if len(have) < len(listing) and any(name.startswith(_LISTED_OFFLINE) for name in have):
            (snapshot.parent.parent / "trees" / f"{commit}.json").unlink(missing_ok=True)
        files = tuple(listing[name] for name in sorted(have))
        if not files:
            raise self._error(what, "it has no file that an offline start reads", "the commit's list has none of them")
        absent = () if what.code_only else tuple(wanted.absent(listing, wish.variant))
        return Ready(what.repo_id, what.revision, commit, files, what.why, absent)

    def _list(self, what: Wanted) -> tuple[str, dict[str, File]]:
        """The commit that a revision means now, and its files. The only time that the revision is asked for."""
        from huggingface_hub import HfApi

        with self._hub(what):
            api = HfApi(endpoint=self.endpoint, token=self.token)
            commit = str(api.model_info(what.repo_id, revision=what.revision).sha)
            tree = list(api.list_repo_tree(what.repo_id, revision=commit, recursive=True))
        listing: dict[str, File] = {}
        for entry in tree:
            blob: Any = getattr(entry, "blob_id", None)  # a folder has none
            if blob and inside(entry.path):
                lfs: Any = getattr(entry, "lfs", None)
                listing[entry.path] = File(entry.path, int(getattr(entry, "size", 0)), lfs.sha256 if lfs else blob)
        if not _COMMIT.fullmatch(commit) or not all(verifiable(file.hash) for file in listing.values()):
            raise self._error(what, "the hub did not say what has to arrive", "a commit or file without its hash")
        return commit, listing

    def _get(self, what: Wanted, commit: str, files: Sequence[File]) -> None:
        """Downloads files of a commit; what is damaged in the cache, or arrived so, is fetched once more."""
        folder = repo_folder(self.cache, what.repo_id)
        snapshot = folder / "snapshots" / commit
        lacking = [file for file in files if not (snapshot / file.name).exists()]
        new = [file for file in lacking if not (folder / "blobs" / file.hash).exists()]
        need_room(
            self.cache,
            sum(file.size for file in new),
            f"{len(new)} files of {what.repo_id}",
            "hf cache ls shows what can go; or name another disk: --cache-dir DIR, or HF_HUB_CACHE",
        )
        self._download(what, commit, [file.name for file in files], again=False)
        broken = problems(snapshot, files)
        if broken and (wrong := [damage.file for damage in broken if not texts.is_missing(damage)]):
            self._download(what, commit, wrong, again=True)
            broken = problems(snapshot, files)
        if wrong_still := [damage for damage in broken if not texts.is_missing(damage)]:
            raise texts.corrupt(what.repo_id, commit, wrong_still)
        if broken:
            why = f"not given: {texts.listed(damage.file for damage in broken)}"
            raise self._error(what, "not every file could be fetched", why)

    def _download(self, what: Wanted, commit: str, names: Sequence[str], *, again: bool) -> None:
        from huggingface_hub import snapshot_download

        with self._hub(what):
            snapshot_download(
                what.repo_id,
                revision=commit,
                cache_dir=self.cache,
                allow_patterns=[glob.escape(name) for name in names],
                force_download=again,
                token=self.token,
                endpoint=self.endpoint,
            )

    @contextmanager
    def _hub(self, what: Wanted) -> Iterator[None]:
        try:
            yield
        except SafeTransformersError:
            raise
        except Exception as error:  # requests, httpx, hf_xet and the disk each raise classes of their own
            raise self._failed(what, error) from error

    def _failed(self, what: Wanted, error: Exception) -> HubError:
        if isinstance(error, OSError) and error.errno in _DISK:
            return disk_error(f"the files of {what.repo_id}", error)
        host = urlsplit(self.endpoint).netloc
        fault = None
        for link in (error, error.__cause__, error.__context__):
            response: Any = getattr(link, "response", None)
            if fault is None and (status := getattr(response, "status_code", None)):
                headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
                fault = faults.of_answer(int(status), headers, host) or faults.Fault("unknown", host, str(status))
        if fault is None and isinstance(error, ValueError):  # what should be JSON is a page
            fault = faults.Fault("portal", host)
        fault = fault or faults.of_exception(error, host)
        return self._error(what, "it could not be fetched", str(fault), fault.kind)

    def _error(self, what: Wanted, happened: str, why: str, kind: str = "") -> HubError:
        at = "" if what.revision == "main" else f" --revision {what.revision}"
        url = f"{self.endpoint}/{what.repo_id}"
        need = "" if what.why == wanted.ASKED else f" ({what.why})"
        return HubError(
            "ST-HUB-101",
            f"{what.repo_id}{f' at {what.revision}' if at else ''}{need}: {happened}",
            why=why,
            do=_DO.get(kind, _AGAIN).format(url=url, repo_id=what.repo_id, at=at),
            repo_id=what.repo_id,
            revision=what.revision,
            fault=kind or None,
        )


def _look(what: Wanted, wish: Wish, snapshot: Snapshot, verify: str) -> tuple[Ready, tuple[Damage, ...]]:
    """What the cache has of one commit, and what a start would miss: by the hub's listing if that is known."""
    here = snapshot.files()
    repo = commits(snapshot.folder.parent.parent)
    damages = list(lacks(snapshot, Need(), repo, verify=verify))
    if not what.code_only:
        damages += lacks(snapshot, _need(snapshot, wish), repo, verify=verify)
    elif not wanted.code(here):
        damages.append(Damage("*.py", "missing", "the code that another repository names"))
    if wish.everything and snapshot.listed is not None:
        damages += [Damage(name, "missing", "as the hub lists") for name in snapshot.listed if name not in here]
    listed = snapshot.listed or {}
    files = []
    for name in sorted(here):
        blob = (listed[name].blob if name in listed else None) or snapshot.blob_of(name) or ""
        files.append(File(name, here[name].stat().st_size if here[name].exists() else 0, blob))
    ready = Ready(what.repo_id, what.revision, snapshot.commit, tuple(files), what.why)
    return ready, tuple({damage.file: damage for damage in reversed(damages)}.values())


def _need(snapshot: Snapshot, wish: Wish) -> Need:
    """What an offline start reads, told from the files that the cache has of a commit."""
    here = snapshot.files()
    has_weights = not all(map(snapshot.known_absent, ("model.safetensors", "pytorch_model.bin")))
    named = tuple(name for name in wish.files if not re.search(r"[*?\[]", name))
    need = Need(
        config=not snapshot.known_absent("config.json"),
        weights=has_weights or "adapter_config.json" in here,
        tokenizer="tokenizer_config.json" in here or any(name in here for name in VOCABULARIES),
        remote_code=True,
        variant=wish.variant,
        safetensors_only=wish.safetensors_only,
        files=named,
    )
    is_gguf = any(name.endswith(".gguf") for name in here) and not named
    return replace(need, config="config.json" in here) if is_gguf else need
