"""The wrappers around transformers' loaders: each makes one load of what is called inside it."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any, Final

from .. import compat, policies
from ..errors import SafeTransformersError, VocabularyError
from ..loading.rules import is_commit_hash
from . import ranks, texts
from .breaker import breakers, repo_key
from .faults import Fault
from .freshness import check_later
from .load import Load, Pin, current, entered, is_without_xet, verified
from .needs import need_of
from .snapshots import ref, repo_folder
from .soundness import damage_of
from .urls import DEFAULT_REVISION
from .wanted import is_repo_id

Wrapped = Callable[..., Any]

_READ_ONLY: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_MAX_ATTEMPTS: Final = 3
_VOCABULARY: Final = ("gguf_file", "tokenizer_object", "vocab", "merges")  # a tokenizer can also be made of these
_SOURCES: Final = ("pretrained_model_name_or_path", "pretrained_model_name", "model", "model_id", "peft_model_id")


def from_pretrained(wrapped: Wrapped, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``from_pretrained`` and ``pipeline``: the load reads one commit, from the hub or from the cache."""
    mode = policies.resolve("offline")
    outer = current()
    if mode == "off" or (outer is not None and not (mode == "raise" and outer.is_offline)):
        return wrapped(*args, **kwargs)
    named = _named(wrapped, args, kwargs)
    source = next((named[name] for name in _SOURCES if isinstance(named.get(name), (str, os.PathLike))), None)
    if source is not None and (os.path.exists(source) or not is_repo_id(str(source))):
        return wrapped(*args, **kwargs)
    load = Load(
        mode,
        need_of(owner, named),
        repo_id=None if source is None else str(source),
        revision=named.get("revision"),
        cache_dir=str(
            named.get("cache_dir") or (named.get("model_kwargs") or {}).get("cache_dir") or compat.hub_cache()
        ),
        is_offline=bool(named.get("local_files_only")) or compat.hub_is_offline(),
        is_forced=bool(named.get("force_download")),
        is_pipeline=not isinstance(owner, type),
    )
    if outer is not None:  # a part of a strict load without a network: of a repository that was not asked for by name
        is_other = load.repo_id not in (None, outer.repo_id)
        return wrapped(*args, **(_without_network(load, kwargs) if is_other else kwargs))
    if load.is_offline:
        kwargs = _without_network(load, kwargs)
    return _run(load, wrapped, args, kwargs)


def is_offline_mode(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Around ``is_offline_mode``: transformers starts no requests of its own beside a load that the cache serves."""
    load = current()
    return (load is not None and any(pin.copy for pin in load.pins.values())) or bool(wrapped(*args, **kwargs))


def is_xet_available(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Around ``is_xet_available``: where the store of hf_xet does not answer, files come over plain HTTP."""
    return bool(wrapped(*args, **kwargs)) and not is_without_xet()


def tokenizer_files(wrapped: Wrapped, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``PreTrainedTokenizerBase._from_pretrained``, which is given the files that were found.

    Raises:
        VocabularyError: where the class has vocabulary files, and none of them is among these.
    """
    named = _named(wrapped, args, kwargs)
    found, names = named.get("resolved_vocab_files"), dict(getattr(cls, "vocab_files_names", None) or {})
    if policies.resolve("offline") != "off" and isinstance(found, dict) and names:
        kinds = {"tokenizer_file": "tokenizer.json", **names}
        settings = {**(named.get("init_configuration") or {}), **named}
        is_given = named.get("init_inputs") or any(settings.get(name) is not None for name in (*kinds, *_VOCABULARY))
        if not is_given and not any(found.get(kind) for kind in kinds):
            source = texts.source_name(named.get("pretrained_model_name_or_path"))
            raise texts.no_vocabulary(cls.__name__, source, kinds.values())
    return wrapped(*args, **kwargs)


def _run(load: Load, wrapped: Wrapped, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    for _ in range(_MAX_ATTEMPTS):
        result, failure = _attempt(load, wrapped, args, kwargs)
        if load.error is not None:
            raise load.error from failure
        changed = _another_way(load, failure, kwargs)
        if changed is None:
            break
        kwargs, failure = changed, None  # its traceback holds what the attempt had loaded
    if failure is not None:
        try:
            reason = _reason(load, failure)
            if reason is failure:
                raise failure
            raise reason from (None if compat.hub_endpoint_is_private() else failure)
        finally:
            del failure  # its traceback holds this frame
    if (damage := damage_of(load)) is not None:
        raise damage
    if load.missing and (load.mode == "raise" or load.is_forced):  # huggingface_hub fell back to the cache by itself
        raise texts.not_cached(load)
    if load.repo_id is not None and not any(pin.copy for pin in load.pins.values()):
        breakers.close(repo_key(compat.hub_endpoint(), load.repo_id))
    texts.tell(load)
    texts.tell_unknown(load)
    if load.mode == "prefer" and not load.is_offline:
        check_later(load)
    return result


def _attempt(load: Load, wrapped: Wrapped, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    with entered(load):
        is_done = False
        try:
            result = wrapped(*args, **kwargs)
            is_done = not load.lost and not load.missing
        except Exception as failure:  # noqa: BLE001 - raised again, by itself or as the cause of a clearer error
            return None, failure
        else:
            return result, None
        finally:
            load.restore_refs()
            ranks.give(load, compat.hub_endpoint(), is_done=is_done)


def files_found(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around the function that finds a model's weights: other processes need not wait until they are read."""
    found = wrapped(*args, **kwargs)
    load = current()
    if load is not None and not load.is_pipeline:  # which looks for a tokenizer afterwards
        ranks.give(load, compat.hub_endpoint(), is_done=True)
    return found


def in_context(wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around a thread pool's ``submit``: what a load has others do belongs to it."""
    if current() is None or not args:
        return wrapped(*args, **kwargs)
    return wrapped(copy_context().run, *args, **kwargs)


def _another_way(load: Load, failure: Exception | None, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments for one more attempt, of another commit or by another name; ``None`` where there is none."""
    if load.repo_id is None or load.is_forced:
        return None
    revision = load.revision or DEFAULT_REVISION
    pin = load.pin(load.repo_id, revision)
    is_by_name = pin is not None and kwargs.get("revision") != pin.commit
    if pin is not None and is_by_name and _cannot_write(failure) and load.is_whole(load.repo_id, pin.commit):
        return {**kwargs, "revision": pin.commit}  # huggingface_hub writes down what a name means, and no commit hash
    if load.mode == "raise":
        return None
    if isinstance(failure, SafeTransformersError) and not isinstance(failure, VocabularyError):
        return None
    is_unfinished = load.lost and pin is not None and not load.is_whole(load.repo_id, pin.commit)
    if pin is not None and pin.copy is None and (is_unfinished or _cannot_write(failure)):
        return kwargs if _retreat(load, pin, revision) else None
    if failure is None:
        return None
    if load.is_without_xet and not load.was_tried_without_xet:
        load.was_tried_without_xet = True
        return kwargs
    return None


def _retreat(load: Load, pin: Pin, revision: str) -> bool:
    """Go back from a commit that could not be fetched as a whole to one that the cache has."""
    assert load.repo_id is not None
    fault = next(iter(load.lost.values()), Fault("read_only", ""))
    pins = dict(load.pins)
    load.barred.add((load.repo_id, pin.commit))
    load.forget_choices()
    load.pins.clear()
    if load.stand_in(load.repo_id, revision, fault, newer=pin.commit) is None:
        load.pins.update(pins)
        load.missing.clear()
        return False
    breakers.open(repo_key(compat.hub_endpoint(), load.repo_id), fault)
    load.lost.clear()
    load.missing.clear()
    load.is_given_up = False
    return True


def _reason(load: Load, failure: Exception) -> Exception:
    """The error that says why a load has failed: ours where the hub, the cache or a file is why, else its own."""
    if isinstance(failure, SafeTransformersError) and not isinstance(failure, VocabularyError):
        return failure
    load.lost = load.lost or load.cut
    revision = load.revision or DEFAULT_REVISION
    if load.is_offline and load.repo_id and load.choice(load.repo_id, revision).snapshot is None:
        load.miss(load.repo_id, revision, None)
    if load.missing or load.lost:
        return texts.damaged_copy(load) or texts.not_cached(load)
    return damage_of(load) or failure


def _without_network(load: Load, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a load that makes no request: of the commit that is whole, where the cache's ref names another.

    Raises:
        StaleCacheError: in strict mode, where the revision is no commit hash, and the hub did not name one for it in
            this process.
    """
    revision = load.revision or DEFAULT_REVISION
    if load.repo_id is None or load.is_forced or is_commit_hash(revision):
        return kwargs
    if load.mode == "raise":
        commit = verified.get((compat.hub_endpoint(), load.repo_id, revision))
        if commit is None:
            raise texts.stale(load.repo_id, revision, None, load.choice(load.repo_id, revision))
        return {**kwargs, "revision": commit}
    pin = load.stand_in(load.repo_id, revision, None)
    if pin is None or pin.commit == ref(repo_folder(load.cache_dir, load.repo_id), revision):
        return kwargs
    return {**kwargs, "revision": pin.commit}


def _cannot_write(failure: BaseException | None) -> bool:
    """Whether a load has failed because the cache is read-only or full."""
    return any(isinstance(link, OSError) and link.errno in _READ_ONLY for link in _chain(failure))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _named(wrapped: Wrapped, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that go to ``**kwargs`` among them.

    The Auto classes of models declare ``(*model_args, **kwargs)``: the first of these is what they load.
    """
    signature = inspect.signature(wrapped)
    try:
        bound = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:
        return dict(kwargs)  # a wrong call, which the function itself complains about
    several = next((name for name, each in signature.parameters.items() if each.kind is each.VAR_POSITIONAL), "")
    first = {_SOURCES[0]: bound[several][0]} if bound.get(several) else {}
    return {**first, **bound, **kwargs}
