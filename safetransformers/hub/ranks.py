"""Processes that load the same repository at the same moment: one at a time asks the hub, and tells the others.

A load takes its turn with its first request, and gives it back when its files are found: reading weights is for all at
once. What the hub said meanwhile lies beside the lock. A load that began before it was said has no newer answer to
expect, so it takes it for its own and reads the cache; nothing is believed that is older than the question. The ranks
of one launch read one commit for ten minutes, so that one which comes late does not load another.

The lock is the operating system's (flock): it goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from filelock import FileLock, Timeout

from ..counts import count
from ..loading.rules import is_commit_hash
from . import whole
from .breaker import OPEN_S, breakers
from .faults import WORDS, Fault

if TYPE_CHECKING:
    from .load import Load, Pin
    from .urls import Asked

logger = logging.getLogger(__name__)

STALLED_S: Final = 300.0  # a process whose turn brings no byte for so long is not waited for
PATIENCE_S: Final = 60.0  # a rank waits so long for a hub that asks it to come later, and that has no copy to stand in
_LOOK_S: Final = 2.0
_LAUNCH_S: Final = 600.0
_MAX_BYTES: Final = 2**20
_WORD: Final = {"commit", "at_s", "by", "needs"}
_FAULT: Final = {"circuit", "at_s", "by", *(field.name for field in fields(Fault))}
_RANK_NAMES: Final = ("LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")


class Turn:
    """One load's turn at the hub, for one repository at a time: nobody waits for one while another waits for him."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # the threads of one load share its turn
        self._held: FileLock | None = None
        self._folder: Path | None = None
        self._is_off = False
        self.was_taken = False

    def take(self, folder: Path) -> bool:
        """Wait for the turn; whether it is new. Without a lock (a read-only cache, no flock) all go on as they are."""
        with self._lock:
            if self._is_off or folder == self._folder:
                return False
            self._release()
            self._held = _acquired(folder)
            self._is_off = self._held is None
            self._folder = None if self._is_off else folder
            self.was_taken = self.was_taken or not self._is_off
            return not self._is_off

    def end(self, *, for_good: bool = False) -> None:
        """Let the next one begin."""
        with self._lock:
            self._is_off = self._is_off or for_good
            self._release()

    def _release(self) -> None:
        held, self._held, self._folder = self._held, None, None
        if held is not None:
            held.release()


def take(load: Load, asked: Asked, folder: Path) -> bool:
    """Before a request: wait for the load's turn; whether what was said to those before it may answer the request.

    Args:
        load: the load that asks.
        asked: its request.
        folder: of the repository, in the load's cache.
    """
    if load.is_alone or load.is_forced or not load.turn.take(folder):
        return False
    load.forget_choices()
    note = _read(folder)
    if (known := _fault(note, load)) is not None:
        breakers.open(*known)
        load.turn.end(for_good=True)
        return True
    pin = load.pin(asked.repo_id, asked.revision)
    if pin is None:
        word = note["words"].get(_key(asked.endpoint, load.as_asked(asked.repo_id, asked.revision)))
        if _is_of_use(word, load):
            load.share(asked, word["commit"], has_all=_of(load) in word["needs"])
            return True
    elif pin.is_shared and pin.copy is not None:  # files may have come since it was looked at
        pin.copy = type(pin.copy)(pin.commit, pin.copy.folder)
        return True
    return False


def give(load: Load, endpoint: str, *, is_done: bool) -> None:
    """Give the turn back, and leave what the hub has said for those who wait.

    Args:
        load: the load whose turn it is.
        endpoint: the hub.
        is_done: whether it found all its files.
    """
    if is_done and load.turn.was_taken:
        for repo_id in {repo_id for repo_id, _ in load.pins}:
            pins = [(name, pin) for (repo, name), pin in list(load.pins.items()) if repo == repo_id]
            if said := [(name, pin) for name, pin in pins if pin.copy is None or pin.is_shared]:
                _tell(load, endpoint, repo_id, said)
    load.turn.end()


def tell_fault(load: Load, folder: Path, circuit: str, fault: Fault) -> None:
    """Say why the hub does not answer, so that those who wait need not find out one after the other."""
    if load.turn.was_taken:
        note = {**_read(folder), "fault": {**asdict(fault), "circuit": circuit, "at_s": time.time(), "by": launch()}}
        _write(folder, note)
    load.turn.end(for_good=True)


def launch() -> str:
    """What the ranks of one launch on this machine have in common; empty where no launcher started this process."""
    if not any(name in os.environ for name in _RANK_NAMES):
        return ""
    return f"{socket.gethostname()} {os.getppid()}"


def _acquired(folder: Path) -> FileLock | None:
    """The lock, or None where there can be none, or its holder makes no progress."""
    try:
        lock = FileLock(_beside(folder, "lock"), thread_local=False)
    except TypeError:  # filelock before 3.12, which huggingface_hub lets be: its locks may belong to a thread
        return None
    arrived, since_s = _arrived(folder), time.monotonic()
    while True:
        try:
            _beside(folder, "lock").parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=min(_LOOK_S, STALLED_S))
        except Timeout:
            if (now := _arrived(folder)) != arrived:
                arrived, since_s = now, time.monotonic()
            elif time.monotonic() - since_s > STALLED_S:
                text = (
                    "%s: another process has had its turn at the hub for %.0f s, and no byte came; not waiting for it"
                )
                logger.warning(text, folder.name, STALLED_S)
                count("hub.turn_stalled")
                return None
        except (OSError, NotImplementedError):
            return None
        else:
            return lock


def _arrived(folder: Path) -> tuple[int, int]:
    """Changes while something is downloaded: the size of all blobs, and when the last of them was written to."""
    found: list[os.stat_result] = []
    with contextlib.suppress(OSError), os.scandir(folder / "blobs") as entries:
        found = [entry.stat() for entry in entries]
    return sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=0)


def _tell(load: Load, endpoint: str, repo_id: str, pins: list[tuple[str, Pin]]) -> None:
    folder = load.folder(repo_id)
    note, now_s = _read(folder), time.time()
    recent = {key: word for key, word in note["words"].items() if now_s - word["at_s"] < _LAUNCH_S}
    for name, pin in pins:
        key = _key(endpoint, name)
        old = recent.get(key)
        needs = {*old["needs"], _of(load)} if old and old["commit"] == pin.commit else {_of(load)}
        word = {"commit": pin.commit, "at_s": now_s, "by": launch()}
        if pin.is_shared and old:  # the hub was not asked again
            word = {name: old[name] for name in word}
        recent[key] = {**word, "needs": sorted(needs)}
    _write(folder, {"words": recent})


def _is_of_use(word: dict[str, Any] | None, load: Load) -> TypeGuard[dict[str, Any]]:
    """Whether the hub said it after the load had begun, or to a rank of the same launch."""
    if word is None or not is_commit_hash(word["commit"]):
        return False
    is_ours = word["by"] == launch() != "" and time.time() - word["at_s"] < _LAUNCH_S
    return bool(word["at_s"] >= load.start_s or is_ours)


def _fault(note: dict[str, Any], load: Load) -> tuple[str, Fault] | None:
    """The hub that does not answer, and why, where that was found since the load began or by this launch lately."""
    fault = note.get("fault")
    if fault is None or fault["kind"] not in WORDS:
        return None
    is_ours = fault["by"] == launch() != "" and time.time() - fault["at_s"] < OPEN_S
    if fault["at_s"] < load.start_s and not is_ours:
        return None
    return fault["circuit"], Fault(*(fault[name] for name in ("kind", "host", "status", "retry_after_s")))


def _of(load: Load) -> str:
    """What two loads have in common that ask for the same files."""
    return f"{load.repo_id} {load.need} {load.is_pipeline}"


def _key(endpoint: str, revision: str) -> str:
    return f"{endpoint} {revision}"


def _beside(folder: Path, ending: str) -> Path:
    """In the folder of huggingface_hub's own locks, which no scan of the cache reads."""
    return folder.parent / ".locks" / folder.name / f"safetransformers.{ending}"


def _read(folder: Path) -> dict[str, Any]:
    """The note beside the lock; an empty one where there is none that can be used."""
    path = _beside(folder, "json")
    try:
        note = json.loads(path.read_bytes()) if path.stat().st_size <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        note = None
    return note if _is_sound(note) else {"words": {}}


def _is_sound(note: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a note has the parts that are read of it; another release may have written it."""
    if not isinstance(note, dict) or not isinstance(note.get("words"), dict):
        return False
    parts = [(word, _WORD) for word in note["words"].values()]
    parts += [(note["fault"], _FAULT)] if "fault" in note else []
    return all(isinstance(part, dict) and names <= part.keys() for part, names in parts)


def _write(folder: Path, note: dict[str, Any]) -> None:
    try:
        whole.put(_beside(folder, "json"), json.dumps(note).encode())
    except OSError as error:
        logger.debug("%s: the others cannot be told what the hub said (errno %s)", folder.name, error.errno)
