"""What the hub guard says: each message is made here, from what a load has learned."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Final

from ..counts import count
from ..errors import (
    CachedCopyWarning,
    CorruptCacheError,
    IncompleteFetchWarning,
    NotCachedError,
    StaleCacheError,
    VocabularyError,
    message,
)
from ..loading.rules import is_commit_hash
from ..notices import relative, warn_once
from .faults import Fault
from .freshness import newer as seen_on_hub
from .integrity import Damage
from .load import Load
from .snapshots import Choice, Snapshot, commits, repo_folder, similar_repos

OFF: Final = 'with safetransformers.policy(offline="off"): ...'
_SHOWN: Final = 4
_HASH_SHOWN: Final = 12
_MISSING: Final = ("missing", "dangling link")


def tell(load: Load) -> None:
    """Warn, once for each repository and fault, where the cache answered in the hub's place."""
    copies = {id(pin): (key, pin) for key, pin in reversed(load.pins.items()) if pin.copy is not None}
    for (repo_id, revision), pin in copies.values():
        assert pin.copy is not None
        count("hub.served_from_cache")
        name = load.as_asked(repo_id, revision)
        newer = pin.newer or seen_on_hub.get((repo_id, name))
        newer = None if newer == pin.commit else newer
        is_guess = load.refs.get((repo_id, revision), pin.commit) is None
        if is_commit_hash(name) or not (pin.fault or pin.passed_over or newer or is_guess):
            continue  # a commit cannot be stale; or the policy, or the user, wants the copy
        guess = f"the cache has no ref {name!r}, so the newest whole commit was taken" if is_guess else ""
        code = "ST-HUB-001" if pin.fault else "ST-HUB-002"
        what = f"{repo_id} was loaded from the cache: commit {pin.commit}, cached {age(pin.copy)}"
        why = "; ".join(
            part for part in (str(pin.fault or ""), guess, _newer(newer), _passed_over(pin.passed_over)) if part
        )
        do = (
            f"nothing, if that commit will do: revision={pin.commit!r} asks for it without a warning"
            if pin.fault and not pin.fault.is_of_the_repo
            else f"where the hub can be reached: safetransformers prefetch {repo_id}{_at(name)}"
        )
        text = message(
            code, what, why, do, 'warnings.simplefilter("ignore", safetransformers.errors.CachedCopyWarning)'
        )
        warn_once(CachedCopyWarning, f"{repo_id}@{name} {pin.fault.kind if pin.fault else ''}", text)


def tell_unknown(load: Load) -> None:
    """Warn of a load that succeeded though the hub did not answer and the cache has no whole commit."""
    if load.lost:
        fault: Fault | None = next(iter(load.lost.values()))
        what = f"it is not known whether it has these files too: {listed(load.lost)}"
    elif load.missing:
        fault, choice = next(iter(load.missing.values()))
        found = _passed_over(choice.passed_over) or "no cached commit is known by this revision"
        what = f"the cached copy is not whole: {found}"
    else:
        return
    count("hub.incomplete")
    text = message(
        "ST-HUB-003",
        f"{load.repo_id} was loaded, but {what}",
        why=str(fault or "no request is allowed here"),
        do=f"once the hub answers again: safetransformers prefetch {load.repo_id}{_at(load.revision)}",
        off='warnings.simplefilter("ignore", safetransformers.errors.IncompleteFetchWarning)',
    )
    warn_once(IncompleteFetchWarning, f"{load.repo_id} {what}", text)


def stale(repo_id: str, revision: str, fault: Fault | None, choice: Choice) -> StaleCacheError:
    """The error of strict mode for a revision that can move."""
    count("hub.stale")
    copy = choice.snapshot
    has = f"the cache has commit {copy.commit}, cached {age(copy)}" if copy else "the cache has no whole copy either"
    pinned = f'from_pretrained("{repo_id}", revision="{copy.commit if copy else ""}")'
    return StaleCacheError(
        "ST-HUB-004",
        f"{repo_id}: what {revision!r} means now cannot be verified",
        why=f"{fault or 'no request is allowed here (HF_HUB_OFFLINE or local_files_only)'}; {has}; the policy is "
        "offline='raise'",
        do=pinned if copy else f"where the hub can be reached: safetransformers prefetch {repo_id}{_at(revision)}",
        off='with safetransformers.policy(offline="fallback"): ...',
        repo_id=repo_id,
        revision=revision,
        commit=copy.commit if copy else None,
    )


def not_cached(load: Load) -> NotCachedError:
    """The error for what neither the hub nor the cache can give."""
    count("hub.not_cached")
    (repo_id, revision), (fault, choice) = next(iter(load.missing.items()), _lost_of(load))
    folder = repo_folder(load.cache_dir, repo_id)
    cached = [snapshot.commit for snapshot in commits(folder)]
    like = [] if cached else similar_repos(load.cache_dir, repo_id)
    lacking = [damage for _, found in choice.passed_over for damage in found]
    tried = str(fault) if fault else "no request is allowed (HF_HUB_OFFLINE or local_files_only)"
    facts = [
        tried,
        f"missing: {listed(load.lost)}" if load.lost else "",
        f"the cache lacks {listed(map(str, lacking))}" if lacking else "",
        f"cached commits: {listed(commit[:_HASH_SHOWN] for commit in cached)}"
        if cached
        else "it was never cached here",
        f"cached repositories with a like name: {listed(like)}" if like else "",
    ]
    at = _at(revision)
    what = f"{repo_id}{f' at {revision}' if at else ''} "
    what += "was to be downloaded anew" if load.is_forced else "is not in the cache as a whole"
    return NotCachedError(
        "ST-HUB-005",
        f"{what}, and the hub did not give it",
        why="; ".join(fact for fact in facts if fact),
        do="leave force_download out to load what is cached"
        if load.is_forced and cached
        else f"where there is a network: safetransformers prefetch {repo_id}{at} --to bundle; here: safetransformers "
        "prefetch --from bundle. Or name a mirror in HF_ENDPOINT, or copy the snapshot folder and load that path",
        off=OFF,
        repo_id=repo_id,
        revision=revision,
        fault=fault.kind if fault else None,
        missing=[damage.file for damage in lacking] or sorted(load.lost),
        commits=cached,
    )


def damaged_copy(load: Load) -> CorruptCacheError | None:
    """The error for a commit that could have been served, if its files were sound."""
    for (repo_id, _), (fault, choice) in load.missing.items():
        for commit, found in choice.passed_over:
            if wrong := [damage for damage in found if not is_missing(damage)]:
                return corrupt(repo_id, commit, wrong, fault=fault)
    return None


def corrupt(
    repo_id: str, commit: str, found: Iterable[Damage], *, removed: bool = False, fault: Fault | None = None
) -> CorruptCacheError:
    """The error for files that are not what they should be."""
    count("hub.corrupt")
    damages = list(found)
    names = " ".join(f"'{damage.file}'" for damage in damages[:_SHOWN])
    cure = f"hf download {repo_id} {names} --revision {commit} --force-download"
    return CorruptCacheError(
        "ST-HUB-006",
        f"{repo_id}: {listed(map(str, damages))}",
        why=f"commit {commit}"
        + (f"; {fault}" if fault else "")
        + ("; just downloaded, and removed again" if removed else ""),
        do="load again" if removed else cure,
        off=OFF,
        repo_id=repo_id,
        commit=commit,
        files=[damage.file for damage in damages],
    )


def no_vocabulary(tokenizer: str, source: str, names: Iterable[str]) -> VocabularyError:
    """The error for a tokenizer none of whose vocabulary files was found."""
    count("hub.no_vocabulary")
    return VocabularyError(
        "ST-HUB-007",
        f"{source} has no vocabulary for {tokenizer}: every word would be unknown to it",
        why=f"none of {listed(sorted(set(names)))} was found",
        do="name the folder or repository that the tokenizer was saved to, or its file: vocab_file=...",
        off=OFF,
        source=source,
    )


def source_name(source: object) -> str:
    """A repository by its id, a folder by its last part."""
    return relative(str(source)) if os.path.exists(str(source)) else str(source)


def listed(names: Iterable[str]) -> str:
    """Names, and how many more there are."""
    every = list(names)
    rest = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + rest


def age(snapshot: Snapshot) -> str:
    """How long ago a snapshot was cached."""
    hours = max(0.0, time.time() - snapshot.modified_s) / 3600
    if hours < 1:
        return "within the last hour"
    return f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"


def is_missing(damage: Damage) -> bool:
    """Whether a file is not there, rather than wrong."""
    return damage.problem in _MISSING


def _newer(commit: str | None) -> str:
    return "" if commit is None else f"the hub has another commit, {commit[:_HASH_SHOWN]}"


def _passed_over(passed_over: tuple[tuple[str, tuple[Damage, ...]], ...]) -> str:
    parts = (f"commit {commit[:_HASH_SHOWN]} lacks {listed(map(str, found))}" for commit, found in passed_over)
    return "passed over: " + "; ".join(parts) if passed_over else ""


def _lost_of(load: Load) -> tuple[tuple[str, str], tuple[Fault | None, Choice]]:
    key = (load.repo_id or "the repository", load.revision or "main")
    return key, (next(iter(load.lost.values()), None), Choice(None, ()))


def _at(revision: str | None) -> str:
    return "" if revision in (None, "main") else f" --revision {revision}"
