"""One load under way: which commit of each repository it reads, and from where."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final

from .. import compat, policies
from ..counts import count
from ..errors import SafeTransformersError
from ..loading.rules import is_commit_hash
from .breaker import XET, breakers
from .faults import Fault
from .integrity import Damage
from .ranks import Turn
from .snapshots import Choice, Need, Snapshot, choose, commits, lacks, put_ref, ref, repo_folder
from .urls import Asked

HASHED_ON_THE_WAY: Final = 512 * 2**20  # bytes: half a second of sha256 at most before a copy is served


@dataclass
class Pin:
    """The commit that a load reads of one repository.

    Attributes:
        commit: 40 hex digits.
        copy: the cached snapshot that answers in the hub's place; ``None`` while the hub answers.
        fault: why it does; ``None`` where the policy, not a fault, says so.
        newer: the commit that the hub has, where it is known to be another one.
        passed_over: commits that would have come first, with what each of them lacks.
        is_shared: whether the hub named it to another process, whose files these are; it is asked for what they lack.
    """

    commit: str
    copy: Snapshot | None = None
    fault: Fault | None = None
    newer: str | None = None
    passed_over: tuple[tuple[str, tuple[Damage, ...]], ...] = ()
    is_shared: bool = False


@dataclass(eq=False)
class Load:
    """What one call of ``from_pretrained`` or ``pipeline`` has learned; shared by the threads that work for it."""

    mode: str
    need: Need = field(default_factory=Need)
    repo_id: str | None = None
    revision: str | None = None
    cache_dir: str = ""
    start_s: float = field(default_factory=time.time)
    is_offline: bool = False  # the user's own: local_files_only or HF_HUB_OFFLINE
    is_forced: bool = False  # force_download
    is_pipeline: bool = False
    is_alone: bool = False  # one request of a library that calls huggingface_hub itself
    has_failed: bool = False  # the hub was asked, and did not answer
    is_given_up: bool = False  # a download stalls, and a whole older commit is there
    is_without_xet: bool = False  # the store that hf_xet reads does not answer: the next attempt goes without it
    was_tried_without_xet: bool = False
    interruptions: int = 0  # of downloads, since one made progress
    pins: dict[tuple[str, str], Pin] = field(default_factory=dict)
    barred: set[tuple[str, str]] = field(default_factory=set)
    lost: dict[str, Fault] = field(default_factory=dict)  # what could not be fetched of the hub's own commit
    cut: dict[str, Fault] = field(default_factory=dict)  # downloads that broke off, whether or not they were resumed
    missing: dict[tuple[str, str], tuple[Fault | None, Choice]] = field(default_factory=dict)
    error: SafeTransformersError | None = None
    places: dict[str, Asked] = field(default_factory=dict)  # where the hub keeps a file, by URL
    refs: dict[tuple[str, str], str | None] = field(default_factory=dict)  # as they were before a copy stood in
    redirects: Counter[str] = field(default_factory=Counter)
    turn: Turn = field(default_factory=Turn)
    _choices: dict[tuple[str, str], Choice | None] = field(default_factory=dict)  # None: to be looked for anew

    def pin(self, repo_id: str, revision: str) -> Pin | None:
        """What was decided for a revision, or for the commit that it turned out to be."""
        found = self.pins.get((repo_id, revision))
        if found is None and is_commit_hash(revision):
            pins = list(self.pins.items())
            found = next((pin for (repo, _), pin in pins if repo == repo_id and pin.commit == revision), None)
        return found

    def as_asked(self, repo_id: str, revision: str) -> str:
        """The name behind a commit: transformers 5 resolves a revision once, and from then on asks for the commit."""
        pins = list(self.pins.items())
        of_repo = [(name, pin) for (repo, name), pin in pins if repo == repo_id]
        named = (name for name, pin in of_repo if pin.commit == revision and not is_commit_hash(name))
        return next(named, revision)

    def choice(self, repo_id: str, revision: str) -> Choice:
        """The cached commit that can stand in for a revision; found once in a load. Costs about a millisecond."""
        key = (repo_id, revision)
        choice = self._choices.get(key)
        if choice is None:
            choice = self._choices[key] = self._choose(repo_id, revision)
        return choice

    def note_ref(self, repo_id: str, revision: str) -> None:
        """Remember what a name means in the cache, before a copy answers for it."""
        if not is_commit_hash(revision):
            self.refs.setdefault((repo_id, revision), ref(repo_folder(self.cache_dir, repo_id), revision))

    def restore_refs(self) -> None:
        """Undo what huggingface_hub noted of a copy's answers: what a name means is the hub's to say."""
        for (repo_id, revision), before in self.refs.items():
            folder, pin = repo_folder(self.cache_dir, repo_id), self.pins.get((repo_id, revision))
            if pin is not None and pin.copy is not None and before != pin.commit == ref(folder, revision):
                put_ref(folder, revision, before)

    def forget_choices(self) -> None:
        """Look at the cache anew: files came, or a commit was barred."""
        self._choices = dict.fromkeys(self._choices)

    def stand_in(self, repo_id: str, revision: str, fault: Fault | None, newer: str | None = None) -> Pin | None:
        """Let the cache answer for a repository, where it has a whole copy."""
        choice = self.choice(repo_id, revision)
        if choice.snapshot is None:
            return None
        commit = choice.snapshot.commit
        pin = Pin(commit, choice.snapshot, fault, None if newer == commit else newer, choice.passed_over)
        self.pins[repo_id, revision] = pin
        self.note_ref(repo_id, revision)
        return pin

    def share(self, asked: Asked, commit: str, *, has_all: bool) -> None:
        """Read the commit that the hub named to another process just now.

        Args:
            asked: the request that need not be made.
            commit: what the hub said.
            has_all: whether a load that asks for the same files has found them; else this one asks for them itself.
        """
        verified[asked.endpoint, asked.repo_id, asked.revision] = commit
        pin = self.stand_in(asked.repo_id, commit, None) if has_all else None
        self.pins[asked.repo_id, asked.revision] = pin or Pin(commit)
        if pin is not None:
            pin.is_shared = True
            self.note_ref(asked.repo_id, asked.revision)
            self.turn.end()
            count("hub.shared")

    def folder(self, repo_id: str) -> Path:
        """Of a repository in the cache of this load."""
        return repo_folder(self.cache_dir, repo_id)

    def known_damage(self, repo_id: str, commit: str) -> tuple[Damage, ...]:
        """What is found wrong with a commit when a copy is looked for, as this load has done."""
        choices = [self.choice(*key) for key in sorted(self._choices) if key[0] == repo_id]
        return tuple(
            damage for choice in choices for one, found in choice.passed_over if one == commit for damage in found
        )

    def miss(self, repo_id: str, revision: str, fault: Fault | None) -> None:
        """Note that neither the hub nor the cache has an answer for a repository."""
        self.missing.setdefault((repo_id, revision), (fault, self.choice(repo_id, revision)))

    def is_whole(self, repo_id: str, commit: str) -> bool:
        """Whether the cache has all of a commit that this load reads."""
        known = commits(repo_folder(self.cache_dir, repo_id))
        return any(one.commit == commit and not lacks(one, self._need(repo_id), known, verify="size") for one in known)

    def _choose(self, repo_id: str, revision: str) -> Choice:
        need, barred = self._need(repo_id), frozenset(commit for repo, commit in self.barred if repo == repo_id)
        verify = policies.resolve("verify")
        choice = choose(self.cache_dir, repo_id, revision, need, verify=verify, barred=barred)
        if choice.snapshot is None or verify == "hash" or choice.snapshot.size_bytes() > HASHED_ON_THE_WAY:
            return choice
        return choose(self.cache_dir, repo_id, revision, need, verify="hash", barred=barred)

    def _need(self, repo_id: str) -> Need:
        if repo_id != self.repo_id:
            return Need()
        if self.is_pipeline:
            has_tokenizer = self._has_anywhere(repo_id, Need(tokenizer=True))
            return replace(
                self.need, tokenizer=has_tokenizer, processor=self._has_anywhere(repo_id, Need(processor=True))
            )
        return self.need

    def _has_anywhere(self, repo_id: str, need: Need) -> bool:
        """Whether a cached commit has what prepares a model's input: a pipeline then reads it, of one commit."""
        known = commits(repo_folder(self.cache_dir, repo_id))
        return any(not lacks(one, need, known, verify="size") for one in known)


verified: Final[dict[tuple[str, str, str], str]] = {}
"""Hub, repository and revision: the commit that the hub itself named in this process."""

_current: ContextVar[Load | None] = ContextVar("safetransformers_hub_load", default=None)


def current() -> Load | None:
    """The load that this thread or task is in."""
    return _current.get()


def is_without_xet() -> bool:
    """Whether this load has found that the store of hf_xet does not answer, or one before it has."""
    load = current()
    return (load is not None and load.is_without_xet) or breakers.fault(XET) is not None


def on_its_own() -> Load | None:
    """A load of one request, where everything is patched: libraries beside transformers call huggingface_hub too."""
    from ..patching import is_on_everywhere

    if not is_on_everywhere() or (mode := policies.resolve("offline")) == "off":
        return None
    return Load(mode, cache_dir=_callers_cache(), is_alone=True, has_failed=True)


def _callers_cache() -> str:
    """The cache that a download under way fills; empty where it goes to a folder of the caller's instead."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _DOWNLOADS and frame.f_globals.get("__name__", "").startswith("huggingface_hub."):
            if frame.f_locals.get("local_dir") is not None:
                return ""
            return str(frame.f_locals.get("cache_dir") or compat.hub_cache())
        frame = frame.f_back
    return compat.hub_cache()


_DOWNLOADS: Final = ("hf_hub_download", "snapshot_download")


@contextmanager
def entered(load: Load) -> Iterator[None]:
    """Requests inside the block belong to ``load``."""
    token = _current.set(load)
    try:
        yield
    finally:
        _current.reset(token)
