"""The wrapper around the HTTP client's ``send``: a load's requests are answered by the hub quickly, or by the cache.

``send`` rather than huggingface_hub's client factory: setting a factory closes the client that other threads are
downloading with, and would replace a factory of the user's own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from .. import compat
from ..counts import count
from ..loading.rules import is_commit_hash
from . import ranks, texts
from .breaker import XET, api_key, breakers, repo_key
from .contact import WITH_COPY_S, WITHOUT_COPY_S, NoContact, contact
from .faults import Fault, is_html, of_answer, of_exception
from .load import Load, Pin, current, on_its_own, verified
from .replies import reply
from .snapshots import Snapshot, commits, repo_folder
from .urls import DEFAULT_REVISION, Asked, at_commit, host, is_by_proxy, normal, parse

_READS: Final = ("GET", "HEAD")
_MAX_SAME_REDIRECT: Final = 2
_BODY_STEP_S: Final = 10.0  # without a byte; what huggingface_hub itself allows by default
_SLOW_WINDOW_S: Final = 3.0
_SLOW_BYTES_PER_S: Final = 512
_PROGRESS_BYTES: Final = 2**20
_MAX_INTERRUPTIONS: Final = 6
_MAX_PAUSE_S: Final = 0.3

_is_sending: ContextVar[bool] = ContextVar("safetransformers_hub_sending", default=False)


def send(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``send`` of the HTTP client: what belongs to no load, and what is no read, passes through."""
    request = args[0] if args else kwargs["request"]
    if _is_sending.get() or str(request.method).upper() not in _READS:
        return wrapped(*args, **kwargs)
    url = compat.wire().url(request)
    asked = parse(url, compat.hub_endpoint())
    load = current() or (on_its_own() if asked else None)
    if load is None or (asked is None and url not in load.places and not _is_of_the_hub(url)):
        return wrapped(*args, **kwargs)
    exchange = _Exchange(load, client, request, kwargs, lambda: wrapped(*args, **kwargs))
    if asked is None:
        return exchange.elsewhere()
    try:
        return exchange.with_hub(asked)
    finally:
        if load.is_alone:  # no loader of transformers is there to tell it at its end
            texts.tell(load)
            if load.error is not None:
                raise load.error


class _Exchange:
    """One request of a load."""

    def __init__(self, load: Load, client: Any, request: Any, kwargs: dict[str, Any], go: Callable[[], Any]) -> None:
        self._load, self._client, self._request, self._kwargs, self._go = load, client, request, kwargs, go
        self._wire = compat.wire()
        self._url = self._wire.url(request)
        self._method = str(request.method).upper()
        self._is_streamed = self._method == "GET" and bool(kwargs.get("stream"))

    def with_hub(self, asked: Asked) -> Any:
        """The answer of the hub, or of the cache in its place."""
        load = self._load
        load.repo_id = load.repo_id or asked.repo_id  # of a pipeline with a default model
        if (is_aside := self._is_aside(asked)) and (
            load.mode == "raise" or load.is_offline or breakers.fault(asked.endpoint) is not None
        ):
            return self._answered_aside(asked, None)
        pin = load.pin(asked.repo_id, asked.revision) or self._without_contact(asked)
        if pin is not None and self._is_answered_by(pin, asked):
            return reply(self._request, self._method, asked, pin)
        if load.is_given_up:
            raise compat.blocked(f"the commit of {asked.repo_id} that the hub has cannot be fetched")
        if load.is_offline:
            load.miss(asked.repo_id, asked.revision, None)
            raise compat.blocked(f"{asked.repo_id} is loaded with local files only")
        if pin is not None and pin.commit != asked.revision:
            self._wire.redirect(self._request, at_commit(self._url, asked, pin.commit))
        circuit = asked.endpoint if asked.kind == "file" else api_key(asked.endpoint)
        fault = breakers.fault(asked.endpoint)
        if fault is None and circuit != asked.endpoint:
            fault = breakers.fault(circuit)
        if fault is None or (not load.has_failed and not self._has_copy(asked)):
            if ranks.take(load, asked, load.folder(asked.repo_id)):
                return self.with_hub(asked)  # as if it had just begun: there may be nothing left to ask
            try:
                answer = self._contact(asked.endpoint, host(self._url), self._judge(asked), asked)
            except NoContact as failure:
                fault = failure.fault
                breakers.open(circuit if fault.is_answer else asked.endpoint, fault)
                ranks.tell_fault(
                    load, load.folder(asked.repo_id), circuit if fault.is_answer else asked.endpoint, fault
                )
                count(f"hub.fault.{fault.kind}")
            else:
                for name in {asked.endpoint, circuit}:
                    breakers.close(name)
                said_no = of_answer(answer.status_code, _lower(answer.headers), host(self._url))
                if said_no is None:
                    return self._learned(asked, answer)
                stand_in = self._stand_in(asked, said_no)
                if stand_in is None:
                    return answer
                answer.close()
                return reply(self._request, self._method, asked, stand_in)
        if fault.is_answer and asked.kind != "file" and load.mode != "raise" and not self._has_copy(asked):
            raise compat.blocked(str(fault))  # the files may come all the same: transformers goes on without the list
        load.has_failed = True
        if is_aside:
            return self._answered_aside(asked, fault)
        stand_in = self._stand_in(asked, fault)
        if stand_in is None:
            load.miss(asked.repo_id, asked.revision, fault)
            raise compat.blocked(str(fault))
        return reply(self._request, self._method, asked, stand_in)

    def elsewhere(self) -> Any:
        """The answer to what is no file or list: of the server that has the bytes of large files, or of the hub."""
        parts = urlsplit(self._url)
        server = compat.hub_endpoint() if _is_of_the_hub(self._url) else f"{parts.scheme}://{parts.netloc}"
        asked = self._load.places.get(self._url)
        if self._load.is_given_up:
            raise compat.blocked("the download was given up")
        fault = breakers.fault(server)
        if fault is None:
            try:
                answer = self._contact(server, host(self._url), self._judge(None), asked)
            except NoContact as failure:
                fault = failure.fault
                breakers.open(server, fault)
                count(f"hub.fault.{fault.kind}")
            else:
                breakers.close(server)
                self._probe_xet(_lower(answer.headers).get("x-xet-cas-url"))
                return self._watched(answer, None) if asked is None else self._learned(asked, answer)
        if asked is not None:
            self._load.lost[asked.path] = fault
        raise compat.blocked(str(fault))

    def _probe_xet(self, store: str | None) -> None:
        """hf_xet speaks to its store by itself, and waits minutes for one that is blocked: ask it before.

        Raises:
            huggingface_hub.errors.OfflineModeIsEnabled: where it does not answer; the load then goes without it.
        """
        if store is None:
            return

        def request() -> Any:
            _is_sending.set(True)
            return self._client.get(store, timeout=WITH_COPY_S)

        try:
            contact(request, lambda _: None, host(store), lambda: WITH_COPY_S, by_proxy=is_by_proxy(store)).close()
        except NoContact as failure:
            breakers.open(XET, failure.fault)
            count(f"hub.fault.{failure.fault.kind}")
            self._load.is_without_xet = True
            raise compat.blocked(str(failure.fault)) from None
        breakers.close(XET)

    def _is_aside(self, asked: Asked) -> bool:
        """Whether a look-up leaves the load's revision out: 4.57 asks the default branch for an adapter."""
        revision = self._load.revision or DEFAULT_REVISION
        is_other = asked.revision == DEFAULT_REVISION != revision
        return is_other and asked.repo_id == self._load.repo_id

    def _answered_aside(self, asked: Asked, fault: Fault | None) -> Any:
        """What the revision that is loaded has to say, where the hub is not asked about the default branch."""
        load, revision = self._load, str(self._load.revision)
        pin = load.pin(asked.repo_id, revision)
        if pin is None or pin.copy is None:
            pin = load.stand_in(asked.repo_id, revision, fault)
        if pin is None:
            raise compat.blocked(f"{asked.path} is looked up in another revision than the one that is loaded")
        load.note_ref(asked.repo_id, asked.revision)
        load.pins[asked.repo_id, asked.revision] = pin
        return reply(self._request, self._method, asked, pin)

    def _contact(self, server: str, name: str, judge: Callable[[Any], Fault | None], asked: Asked | None) -> Any:
        def request() -> Any:
            _is_sending.set(True)  # in the context of the thread that sends: redirects are the client's own affair
            self._wire.limit(self._request, self._kwargs, step_s)
            return self._go()

        def limit_s() -> float:
            if asked is None or self._has_copy(asked):
                return max(WITH_COPY_S, longer_s)
            return max(WITHOUT_COPY_S, _BODY_STEP_S if self._is_streamed else 0.0, longer_s)

        longer_s = compat.hub_timeout_s()
        step_s = max(WITHOUT_COPY_S, longer_s)
        if self._is_streamed:  # the limit of a step is also that of each read of the body
            step_s = max(WITH_COPY_S if self._has_copy(asked) else _BODY_STEP_S, longer_s)
        patience_s = ranks.PATIENCE_S if ranks.launch() else 0.0
        return contact(request, judge, name, limit_s, by_proxy=is_by_proxy(self._url), patience_s=patience_s)

    def _judge(self, asked: Asked | None) -> Callable[[Any], Fault | None]:
        """What tells an answer that counts from one that a portal, a firewall or a broken server gave."""
        name, is_page = host(self._url), asked is not None and asked.path.endswith((".html", ".md"))

        def judge(answer: Any) -> Fault | None:
            status, headers = answer.status_code, _lower(answer.headers)
            fault = of_answer(status, headers, name)
            if fault is not None and (fault.is_of_the_repo or (fault.kind == "portal" and is_page)):
                fault = None  # the hub itself says no, which is an answer; or the file is a page
            if fault is not None or asked is None or status >= 400:
                return fault
            if 300 <= status < 400:
                return self._judge_redirect(asked, headers)
            if asked.kind == "file" and self._method == "HEAD":
                return None if "x-repo-commit" in headers else Fault("portal", name)
            return Fault("portal", name) if asked.kind != "file" and is_html(headers) else None

        return judge

    def _judge_redirect(self, asked: Asked, headers: Mapping[str, str]) -> Fault | None:
        name, target = host(self._url), urljoin(self._url, headers.get("location", ""))
        self._load.redirects[self._url] += 1
        if self._load.redirects[self._url] > _MAX_SAME_REDIRECT or target == self._url:
            return Fault("redirects", name)
        if "x-repo-commit" in headers:
            return None
        if urlsplit(target).netloc != urlsplit(self._url).netloc:
            return Fault("portal", name)
        is_followed = self._wire.follows_absolute or not urlsplit(headers.get("location", "")).netloc
        return None if is_followed or asked.kind != "file" else Fault("redirects", name)

    def _learned(self, asked: Asked, answer: Any) -> Any:
        """Hold the load to the commit that the hub named."""
        headers = _lower(answer.headers)
        commit = headers.get("x-repo-commit")
        if asked.kind == "info" and answer.status_code == 200:
            commit = answer.json().get("sha")
        if is_commit_hash(commit) and self._load.pin(asked.repo_id, asked.revision) is None:
            self._load.pins[asked.repo_id, asked.revision] = Pin(str(commit))
            verified[asked.endpoint, asked.repo_id, asked.revision] = str(commit)
        if "location" in headers:
            self._load.places[urljoin(self._url, headers["location"])] = asked
        return self._watched(answer, asked)

    def _without_contact(self, asked: Asked) -> Pin | None:
        """The copy that the policy, or the user, wants without a request."""
        load = self._load
        pinned = load.mode == "raise" and is_commit_hash(asked.revision)
        if (
            load.mode != "raise"
            and not load.is_forced
            and not load.is_alone
            and (fault := breakers.fault(repo_key(asked.endpoint, asked.repo_id)))
        ):
            return load.stand_in(asked.repo_id, asked.revision, fault)
        if load.is_forced or load.is_alone or not (load.is_offline or load.mode == "prefer" or pinned):
            return None
        return load.stand_in(asked.repo_id, asked.revision, None)

    def _stand_in(self, asked: Asked, fault: Fault) -> Pin | None:
        """The copy that answers from now on; ``None`` where there is none, or strictness forbids it."""
        load = self._load
        pin = load.pin(asked.repo_id, asked.revision)
        if load.is_forced:
            return None
        if pin is not None and not load.is_alone:
            if load.is_whole(asked.repo_id, pin.commit) and not self._is_unknown(asked, pin.commit):
                return load.stand_in(asked.repo_id, pin.commit, fault)
            load.lost[asked.path or "the list of files"] = fault
            return None
        if fault.is_of_the_repo and not load.is_alone and load.choice(asked.repo_id, asked.revision).snapshot is None:
            return None
        if load.mode == "raise" and not is_commit_hash(asked.revision):
            known = verified.get((asked.endpoint, asked.repo_id, asked.revision))
            if known is None:
                load.error = load.error or texts.stale(
                    asked.repo_id, asked.revision, fault, load.choice(asked.repo_id, asked.revision)
                )
                return None
            pin = load.stand_in(asked.repo_id, known, fault)
            if pin is not None:
                load.note_ref(asked.repo_id, asked.revision)
                load.pins[asked.repo_id, asked.revision] = pin
            return pin
        if load.is_alone and not load.cache_dir:
            return None
        pin = load.stand_in(asked.repo_id, asked.revision, fault)
        if (
            pin is not None
            and load.is_alone
            and load.refs.get((asked.repo_id, asked.revision), pin.commit) != pin.commit
        ):
            return None  # huggingface_hub would note it down as what the name means, and nobody would take it back
        return pin

    def _is_answered_by(self, pin: Pin, asked: Asked) -> bool:
        """Whether a copy answers, of a hub that is away, or one that another process has just filled."""
        if pin.copy is None:
            return False
        return not (pin.is_shared and asked.kind == "file" and _lacks(pin.copy, asked.path))

    def _is_unknown(self, asked: Asked, commit: str) -> bool:
        """Whether the cache cannot tell if the commit that the hub has named holds a file."""
        snapshots = commits(repo_folder(self._load.cache_dir, asked.repo_id))
        copy = next((snapshot for snapshot in snapshots if snapshot.commit == commit), None)
        if asked.kind != "file" or copy is None:
            return False
        return _lacks(copy, asked.path)

    def _has_copy(self, asked: Asked | None) -> bool:
        load = self._load
        if asked is None or load.is_forced or (load.is_alone and not load.cache_dir):
            return False
        pin = load.pin(asked.repo_id, asked.revision)
        if pin is not None and load.is_whole(asked.repo_id, pin.commit):
            return True
        revision = load.as_asked(asked.repo_id, asked.revision)
        return load.mode != "raise" and load.choice(asked.repo_id, revision).snapshot is not None

    def _watched(self, answer: Any, asked: Asked | None) -> Any:
        """A body that is read later neither stalls nor drips for long."""
        if self._is_streamed:
            self._wire.watch(answer, *self._meter(asked))
        return answer

    def _meter(self, asked: Asked | None) -> tuple[Callable[[int], None], Callable[[Exception], Exception]]:
        """What is called with the size of each piece of a body, and with the error that ends it."""
        load, can_retreat = self._load, self._has_copy(asked)
        total = since = 0
        start_s = time.monotonic()

        def arrived(size: int) -> None:
            nonlocal total, since, start_s
            total, since, passed_s = total + size, since + size, time.monotonic() - start_s
            if passed_s > _SLOW_WINDOW_S:
                if since < _SLOW_BYTES_PER_S * passed_s:
                    raise _TooSlowError(f"{since} bytes in {passed_s:.0f} s")
                start_s, since = time.monotonic(), 0

        def failed(error: Exception) -> Exception:
            fault = of_exception(error, host(self._url))
            fault = Fault("slow", fault.host) if fault.kind == "timeout" else fault
            count(f"hub.fault.{fault.kind}")
            name = asked.path if asked else urlsplit(self._url).path.rpartition("/")[2]
            load.cut[name] = fault
            load.interruptions = 0 if total > _PROGRESS_BYTES else load.interruptions + 1
            if load.interruptions > _MAX_INTERRUPTIONS or (
                can_retreat and (load.interruptions > 1 or isinstance(error, _TooSlowError))
            ):
                load.lost[name] = fault
                load.is_given_up = can_retreat
                return compat.blocked(str(fault))
            time.sleep(random.uniform(0, _MAX_PAUSE_S))  # noqa: S311 - jitter: those that stalled together part
            return self._wire.interrupted(str(fault))

        return arrived, failed


class _TooSlowError(TimeoutError):
    """A body that drips."""


def _lacks(copy: Snapshot, path: str) -> bool:
    """Whether a copy cannot tell if its commit has a file."""
    return path not in copy.files() and not copy.known_absent(path)


def _is_of_the_hub(url: str) -> bool:
    return normal(url).startswith(compat.hub_endpoint() + "/")


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
