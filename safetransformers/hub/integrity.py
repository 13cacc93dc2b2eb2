"""Is a cached file whole? By its format's own header, and by the hash that the hub names its blob by."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import TypeVar

from .formats import HEAD_BYTES, BrokenFormatError, check_head, format_check

_BLOCK_BYTES = 4 * 1024 * 1024
_MEMO_ENTRIES = 8192


@dataclass(frozen=True)
class Damage:
    """What a load would miss in a commit, or find broken.

    Attributes:
        file: name in the repository, "/"-separated.
        problem: "missing", "dangling link", "empty", "truncated", "longer than its header says", "not its format",
            "not JSON", "an HTML page", "other bytes", "a name outside the repository" or "unreadable".
        expected: what should be there, such as ``"90868376 bytes"``; "" where nothing is known.
        found: what is there; "" where nothing is.
    """

    file: str
    problem: str
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        facts = [f"expected {self.expected}" if self.expected else "", f"found {self.found}" if self.found else ""]
        told = ", ".join(fact for fact in facts if fact)
        return f"{self.file}: {self.problem}" + (f" ({told})" if told else "")


_T = TypeVar("_T")
_structures: dict[Hashable, tuple[str, str, str] | None] = {}
_digests: dict[Hashable, str] = {}


def forget() -> None:
    """Forgets every file that was found sound or broken in this process."""
    _structures.clear()
    _digests.clear()


def check_structure(path: str | os.PathLike[str], name: str, *, size: int | None = None) -> Damage | None:
    """What is wrong with a file by its own format, read no further than its header (JSON up to 16 MiB: whole).

    Cost: one ``stat`` for a file that was judged before and whose inode, size and times are the same.

    Args:
        path: the file, or the link to it.
        name: its name in the repository; the ending says which format it has.
        size: its size in bytes according to the hub, when that is known.
    """
    facts = _regular(path, name)
    if isinstance(facts, Damage):
        return facts
    check = format_check(name)
    key = (_identity(path, facts), name.rpartition("/")[2], size)
    if key not in _structures:
        found = None
        try:
            with open(path, "rb") as file:
                check_head(name, file.read(HEAD_BYTES), facts.st_size)
                file.seek(0)
                check(file, facts.st_size)
            if size is not None and facts.st_size != size:
                problem = "truncated" if facts.st_size < size else "other bytes"
                found = (problem, f"{size} bytes", f"{facts.st_size} bytes")
        except BrokenFormatError as error:
            found = (error.problem, error.expected, error.found)
        except (OSError, ValueError) as error:  # not remembered: the next try may be allowed to read
            return Damage(name, "unreadable", found=reason(error))
        _remember(_structures, key, found)
    parts = _structures[key]
    return None if parts is None else Damage(name, *parts)


def check_content(path: str | os.PathLike[str], name: str, blob: str | None) -> Damage | None:
    r"""Whether the bytes are those that the blob's name promises; ``None`` too where the name promises nothing.

    64 hex digits are the sha256 of an LFS file, 40 are git's sha1 of ``b"blob <size>\0"`` and the content (a mirror
    may name blobs by the plain sha1, which is accepted as well). Each file is read once per process.

    Args:
        path: the file, or the link to it.
        name: its name in the repository.
        blob: the name of its blob, or the hash that the hub lists for it.
    """
    if blob is None or not verifiable(blob):
        return None
    facts = _regular(path, name)
    if isinstance(facts, Damage):
        return facts
    identity = _identity(path, facts)
    try:
        if len(blob) == 64:
            kind, digest = "sha256", _digest(path, identity, "sha256")
        else:
            kind, digest = "git sha1", _digest(path, identity, "sha1", b"blob %d\0" % facts.st_size)
            if digest != blob and _digest(path, identity, "sha1") == blob:
                return None
    except (OSError, ValueError) as error:
        return Damage(name, "unreadable", found=reason(error))
    return None if digest == blob else Damage(name, "other bytes", f"{kind} {blob[:12]}…", f"{kind} {digest[:12]}…")


def verifiable(blob: str | None) -> bool:
    """Whether a blob's name is a hash that can be compared with the content: sha256 or sha1 in lower-case hex."""
    return blob is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob) is not None


def inside(name: str) -> bool:
    """Whether a "/"-separated name stays inside the folder that it is joined to, on every operating system.

    Example:
        >>> inside("onnx/model.onnx"), inside("../model.onnx"), inside("/etc/passwd"), inside("C:/model.onnx")
        (True, False, False, False)
    """
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name or "\\" in name:
        return False
    return not PureWindowsPath(name).drive


def reason(error: Exception) -> str:
    """An error of the file system in its own few words, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _regular(path: str | os.PathLike[str], name: str) -> os.stat_result | Damage:
    """The file's facts, or why there is no file to read."""
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return _absent(path, name)
    except (OSError, ValueError) as error:
        return Damage(name, "unreadable", found=reason(error))
    if stat.S_ISREG(facts.st_mode):
        return facts
    return Damage(name, "unreadable", "a file", "a folder" if stat.S_ISDIR(facts.st_mode) else "a special file")


def _absent(path: str | os.PathLike[str], name: str) -> Damage:
    try:
        target = os.readlink(path)
    except OSError:
        return Damage(name, "missing")
    return Damage(name, "dangling link", f"blob {os.path.basename(target)[:12]}…")


def _identity(path: str | os.PathLike[str], facts: os.stat_result) -> Hashable:
    """Changes whenever the bytes may have; two links to one blob have the same."""
    where = facts.st_ino or os.path.realpath(path)  # file systems without inodes give 0
    return (facts.st_dev, where, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _digest(path: str | os.PathLike[str], identity: Hashable, algorithm: str, prefix: bytes = b"") -> str:
    key = (identity, algorithm, prefix)
    if key not in _digests:
        state = hashlib.new(algorithm, prefix, usedforsecurity=False)
        with open(path, "rb", buffering=0) as file:
            block = memoryview(bytearray(min(_BLOCK_BYTES, os.fstat(file.fileno()).st_size + 1)))
            while count := file.readinto(block):
                state.update(block[:count])
        _remember(_digests, key, state.hexdigest())
    return _digests[key]


def _remember(memo: dict[Hashable, _T], key: Hashable, value: _T) -> None:
    if len(memo) >= _MEMO_ENTRIES:
        memo.clear()
    memo[key] = value
