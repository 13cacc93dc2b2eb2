"""The repositories that the test hub serves: files with their hashes, commits, branches and tags."""

from __future__ import annotations

import fnmatch
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

LFS_PATTERNS = ("*.safetensors", "*.bin", "*.gguf", "*.h5", "*.onnx")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Blob:
    """One file's content: bytes in memory or a file on disk, with the hashes that the hub tells about it.

    Attributes:
        source: The bytes, or the file that holds them.
        size: Length in bytes.
        oid: What git calls the blob: of an LFS file, this is the hash of its pointer.
        sha256: Hash of the content, for LFS files only.
        pointer_size: Length of the LFS pointer in bytes, 0 for a file that git holds itself.
    """

    source: bytes | Path
    size: int
    oid: str
    sha256: str | None = None
    pointer_size: int = 0

    @property
    def etag(self) -> str:
        """The hash by which a client names this blob in its cache."""
        return self.sha256 or self.oid

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``stop``, in chunks."""
        if isinstance(self.source, bytes):
            yield self.source[start:stop]
            return
        with self.source.open("rb") as file:
            file.seek(start)
            left = stop - start
            while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk


@dataclass
class Repo:
    """One repository: its commits by hash, and the names that point to them."""

    commits: dict[str, Mapping[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag, a full hash or a hash's beginning of at least 7 digits names."""
        for prefix, names in (("refs/heads/", self.branches), ("refs/tags/", self.tags)):
            if (commit := names.get(revision.removeprefix(prefix))) is not None:
                return commit
        if len(revision) < 7:
            return None
        return next((commit for commit in self.commits if commit.startswith(revision)), None)


class Store:
    """All repositories of a hub; calls from several threads are safe."""

    def __init__(self) -> None:
        self._repos: dict[str, Repo] = {}
        self._lock = threading.RLock()

    def get(self, repo_id: str) -> Repo | None:
        """The repository, if there is one."""
        with self._lock:
            return self._repos.get(repo_id)

    def add(self, repo_id: str, files: Path | Mapping[str, bytes], lfs: Sequence[str], branch: str) -> str:
        """Commit ``files`` as the whole content of ``branch``; returns the new commit's hash."""
        contents: dict[str, bytes | Path] = {}
        if isinstance(files, Path):
            contents.update({str(file.relative_to(files)): file for file in files.rglob("*") if file.is_file()})
        else:
            contents.update(files)
        blobs = {name: _blob(contents[name], lfs=_matches(name, lfs)) for name in sorted(contents)}
        with self._lock:
            repo = self._repos.setdefault(repo_id, Repo())
            listing = "".join(f"{name}\0{blob.etag}\n" for name, blob in blobs.items())
            # The parent counts, so that the same files committed again are another commit.
            text = f"{repo_id}\n{branch}\n{len(repo.commits)}\n{listing}"
            commit = hashlib.sha1(text.encode()).hexdigest()
            repo.commits[commit] = blobs
            repo.branches[branch] = commit
        return commit

    def remove(self, repo_id: str) -> None:
        """Forget the repository."""
        with self._lock:
            del self._repos[repo_id]

    def remove_revision(self, repo_id: str, revision: str) -> None:
        """Forget a branch, a tag or a commit; with a commit go all names that point to it."""
        with self._lock:
            repo = self._repos[repo_id]
            for names in (repo.branches, repo.tags):
                if revision in names:
                    del names[revision]
                    return
            del repo.commits[revision]
            for names in (repo.branches, repo.tags):
                for name in [name for name, commit in names.items() if commit == revision]:
                    del names[name]

    def find_blob(self, etag: str) -> Blob | None:
        """The LFS file of any repository with this SHA-256."""
        with self._lock:
            blobs = (
                blob for repo in self._repos.values() for files in repo.commits.values() for blob in files.values()
            )
            return next((blob for blob in blobs if blob.sha256 == etag), None)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name.rsplit("/", 1)[-1], pattern) for pattern in patterns)


def _blob(source: bytes | Path, *, lfs: bool) -> Blob:
    if isinstance(source, Path):
        stat = source.stat()
        return _blob_of_file(source, stat.st_size, stat.st_mtime_ns, lfs)
    return _hashed(source, len(source), iter([source]), lfs=lfs)


@lru_cache(maxsize=256)
def _blob_of_file(path: Path, size: int, mtime_ns: int, lfs: bool) -> Blob:
    """The blob of a file on disk; kept, because many tests serve the same weights and hashing them costs."""
    del mtime_ns  # part of the key only: a changed file is hashed again
    whole = Blob(path, size, oid="")
    return _hashed(path, size, whole.read(0, size), lfs=lfs)


def _hashed(source: bytes | Path, size: int, chunks: Iterator[bytes], *, lfs: bool) -> Blob:
    if not lfs:
        return Blob(source, size, oid=_git_oid(size, chunks))
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    sha256 = digest.hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    oid = _git_oid(len(pointer), iter([pointer]))
    return Blob(source, size, oid=oid, sha256=sha256, pointer_size=len(pointer))


def _git_oid(size: int, chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha1(f"blob {size}\0".encode())
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
