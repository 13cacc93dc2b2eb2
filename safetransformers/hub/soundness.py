"""What a load has read is looked at before its caller gets it: downloads by their hash, the rest as the policy says."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .. import policies
from ..errors import CorruptCacheError
from . import texts
from .integrity import Damage, check_content
from .load import Load
from .snapshots import Need, Snapshot, commits, lacks, ref, repo_folder
from .urls import DEFAULT_REVISION


def damage_of(load: Load) -> CorruptCacheError | None:
    """The error for the first repository of a load with a file that is not what it should be.

    A file that this load has downloaded is compared with its hash, and removed where it is another: it was never right.
    The others are checked as ``policy.verify`` says. Each file is read once in a process.
    """
    for repo_id, snapshot in _read(load):
        if fresh := [damage for damage in _downloaded(load, snapshot) if not texts.is_missing(damage)]:
            for damage in fresh:
                _remove(snapshot, damage.file)
            return texts.corrupt(repo_id, snapshot.commit, fresh, removed=True)
        need = load.need if repo_id == load.repo_id else Need()
        found = lacks(snapshot, need, [snapshot], verify=policies.resolve("verify"))
        found += load.known_damage(repo_id, snapshot.commit)
        if wrong := [damage for damage in found if not texts.is_missing(damage)]:
            return texts.corrupt(repo_id, snapshot.commit, wrong)
    return None


def _read(load: Load) -> Iterator[tuple[str, Snapshot]]:
    """The commits that a load has read."""
    read = {(repo_id, pin.commit) for (repo_id, _), pin in load.pins.items()}
    if load.repo_id and not any(repo_id == load.repo_id for repo_id, _ in read):
        revision = load.revision or DEFAULT_REVISION
        read.add((load.repo_id, ref(repo_folder(load.cache_dir, load.repo_id), revision) or revision))
    for repo_id, commit in sorted(read):
        for snapshot in commits(repo_folder(load.cache_dir, repo_id)):
            if snapshot.commit == commit:
                yield repo_id, snapshot


def _downloaded(load: Load, snapshot: Snapshot) -> Iterator[Damage]:
    for name, path in snapshot.files().items():
        try:
            is_new = os.stat(path).st_mtime >= load.start_s
        except OSError:
            continue  # a dangling link: what the other checks are for
        if is_new and (damage := check_content(path, name, snapshot.blob_of(name))) is not None:
            yield damage


def _remove(snapshot: Snapshot, name: str) -> None:
    path = snapshot.files()[name]
    blob = os.path.realpath(path)
    for file in {str(path), blob}:
        if os.path.lexists(file):
            os.unlink(file)
