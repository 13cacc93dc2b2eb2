"""A hub that does not answer is asked once and then left alone; requests that are no load's own are never touched."""

from __future__ import annotations

import dataclasses
import importlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from hub_server import FAULTS, Hub
from models import tiny, weights

import safetransformers as st
from safetransformers import compat, notices, patching
from safetransformers.errors import CachedCopyWarning, NotCachedError
from safetransformers.hub import breaker, contact
from safetransformers.hub.breaker import OPEN_S, PROBE_S, Breakers, breakers
from safetransformers.hub.faults import Fault
from safetransformers.hub.load import Load, entered
from safetransformers.hub.urls import Asked, at_commit, host, parse

REPO = "me/bert"
DEAD = Fault("refused", "hub.test")
HUB = "https://hub.test"
COMMIT = "a1" * 20


class Clock:
    """``time`` as the breaker sees it, moved on by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(breaker, "time", made)
    return made


def quietly(call: Callable[[], Any]) -> Any:
    """The result of a load whose warnings another test looks at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CachedCopyWarning)
        return call()


# The circuit


def test_a_users_hub_is_left_alone_for_a_minute_then_asked_by_one_caller_at_a_time(clock: Clock) -> None:
    circuit = Breakers()
    assert circuit.fault(HUB) is None
    circuit.open(HUB, DEAD)
    clock.now_s += OPEN_S - 0.1
    assert circuit.fault(HUB) == DEAD and circuit.fault("https://mirror.test") is None
    clock.now_s += 0.2
    assert circuit.fault(HUB) is None  # this caller tries
    assert circuit.fault(HUB) == DEAD  # the others need not wait for it
    clock.now_s += PROBE_S
    assert circuit.fault(HUB) is None  # the one that tried is lost: another one does
    circuit.close(HUB)
    assert circuit.fault(HUB) is None and circuit.fault(HUB) is None


def test_a_users_hub_is_left_alone_for_as_long_as_it_asks_and_no_longer_than_an_hour(clock: Clock) -> None:
    circuit = Breakers()
    for asked_s, kept_s in ((5.0, 5.0), (120.0, 120.0), (86_400.0, breaker.MAX_OPEN_S)):
        circuit.open(HUB, Fault("rate_limit", "hub.test", "429", asked_s))
        clock.now_s += kept_s - 0.1
        assert circuit.fault(HUB) is not None
        clock.now_s += 0.2
        assert circuit.fault(HUB) is None


def test_a_user_waits_once_for_a_hub_that_hangs_and_is_back_with_it_after_a_minute(
    hub: Hub, cache: Path, commit: str, clock: Clock
) -> None:
    with hub.faulty("hang") as access, access.apply(cache):
        quietly(lambda: st.AutoModel.from_pretrained(REPO))
        assert len(hub.requests) == 1
        for entry in (st.AutoModel, st.AutoTokenizer, st.AutoConfig):
            start_s = time.monotonic()
            quietly(lambda entry=entry: entry.from_pretrained(REPO))
            assert time.monotonic() - start_s < contact.WITH_COPY_S
        assert len(hub.requests) == 1
    with hub.applied(cache):
        quietly(lambda: st.AutoModel.from_pretrained(REPO))
        assert len(hub.requests) == 1
        clock.now_s += OPEN_S + 0.1
        with warnings.catch_warnings():
            warnings.simplefilter("error", CachedCopyWarning)
            st.AutoModel.from_pretrained(REPO)
            asked = len(hub.requests)
            assert asked > 1
            st.AutoModel.from_pretrained(REPO)  # the hub is back for good
            assert len(hub.requests) > asked


@pytest.mark.parametrize("fault", ["rate_limited_retry_after", "rate_limited_window"])
def test_a_rate_limited_user_does_not_wait_and_the_hub_is_asked_again_when_it_said(
    hub: Hub, cache: Path, commit: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with hub.faulty(fault) as access, access.apply(cache):
        with pytest.warns(CachedCopyWarning, match="limits the rate of requests"):
            st.AutoModel.from_pretrained(REPO)
        asked = len(hub.requests)
        clock.now_s += 29.9  # the fault says 30 seconds
        quietly(lambda: st.AutoModel.from_pretrained(REPO))
        assert (asked, len(hub.requests)) == (1, 1)
        clock.now_s += 0.2
        quietly(lambda: st.AutoModel.from_pretrained(REPO))
        assert len(hub.requests) == 2
    assert slept == []


def test_a_user_with_many_threads_has_one_of_them_ask_a_hub_that_may_be_back(
    hub: Hub, cache: Path, commit: str, clock: Clock
) -> None:
    with hub.faulty("hang") as access, access.apply(cache):
        quietly(lambda: st.AutoConfig.from_pretrained(REPO))
        hub.clear()
        clock.now_s += OPEN_S + 0.1
        took_s: list[float] = []

        def one(_: int) -> None:
            start_s = time.monotonic()
            st.AutoConfig.from_pretrained(REPO)
            took_s.append(time.monotonic() - start_s)

        with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
            warnings.simplefilter("ignore")
            list(pool.map(one, range(8)))
        assert len(hub.requests) == 1
    assert sum(each_s >= contact.WITH_COPY_S for each_s in took_s) == 1


def test_a_user_with_twenty_threads_waits_for_about_one_contact(hub: Hub, cache: Path, commit: str) -> None:
    """Tokenizers: models of transformers 4.57 cannot be loaded by two threads at once, guarded or not."""
    with hub.applied(cache):
        plain = transformers.AutoTokenizer.from_pretrained(REPO)("hello world")["input_ids"]

    def all_at_once() -> float:
        start = threading.Barrier(21)

        def one(_: int) -> list[int]:
            start.wait(10)
            return st.AutoTokenizer.from_pretrained(REPO)("hello world")["input_ids"]

        with warnings.catch_warnings(), ThreadPoolExecutor(20) as pool:
            warnings.simplefilter("ignore")
            futures = [pool.submit(one, number) for number in range(20)]
            start.wait(10)
            start_s = time.monotonic()
            assert all(future.result() == plain for future in futures)
            return time.monotonic() - start_s

    with hub.faulty("hang") as access, access.apply(cache):
        first_s = all_at_once()
        known_s = all_at_once()  # nobody asks: the same work without the contact
    assert contact.WITH_COPY_S <= first_s < 2 * contact.WITH_COPY_S + 2 * known_s


LOCKS: dict[str, Callable[[], Any]] = {
    "the breaker's": lambda: breakers._lock,
    "the warnings'": lambda: notices._lock,
    "the patches'": lambda: patching._state.lock,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("lock", LOCKS)
def test_a_user_who_forks_while_another_thread_holds_a_lock_can_load_in_the_child(
    hub: Hub, cache: Path, commit: str, lock: str
) -> None:
    """As a DataLoader's worker does."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with LOCKS[lock]():
            held.set()
            done.wait(20)

    with hub.faulty("refused") as access, access.apply(cache):
        quietly(lambda: st.AutoConfig.from_pretrained(REPO))
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(5)
        child = os.fork()
        if child == 0:
            signal.alarm(8)  # a deadlock ends by this signal
            status = 1
            try:
                warnings.simplefilter("ignore")
                status = 0 if torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert"))) else 2
            finally:
                os._exit(status)
        done.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# One request


class Answer:
    """What a client gives back; knows whether it was closed."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault, self.is_closed = fault, threading.Event()

    def close(self) -> None:
        self.is_closed.set()


def ask(*outcomes: Any, limit_s: float = 4.0, by_proxy: bool = False) -> tuple[Any, int, float]:
    """The answer or fault of a contact whose tries go as listed (the last one again and again); tries and seconds."""
    tries, start_s = 0, time.monotonic()

    def request() -> Any:
        nonlocal tries
        outcome = outcomes[min(tries, len(outcomes) - 1)]
        tries += 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome() if callable(outcome) else outcome

    try:
        found = contact.contact(request, lambda answer: answer.fault, "hub.test", lambda: limit_s, by_proxy=by_proxy)
    except contact.NoContact as error:
        found = error.fault
    return found, tries, time.monotonic() - start_s


@pytest.mark.parametrize("kind", ["refused", "reset", "server", "dns", "tls", "proxy_error"])
def test_a_users_request_is_tried_again_after_a_fault_that_passes(kind: str) -> None:
    bad, good = Answer(Fault(kind, "hub.test")), Answer()
    found, tries, _ = ask(bad, bad, good)
    assert found is good and tries == 3
    assert bad.is_closed.is_set() and not good.is_closed.is_set()


@pytest.mark.parametrize("kind", ["tls_certificate", "proxy_auth", "proxy_denied", "portal", "blocked", "redirects"])
def test_a_users_request_is_not_tried_again_after_a_fault_that_stays(kind: str) -> None:
    found, tries, took_s = ask(Answer(Fault(kind, "hub.test")))
    assert found == Fault(kind, "hub.test") and tries == 1 and took_s < 0.5


def test_a_users_request_waits_as_asked_only_where_the_deadline_allows_it() -> None:
    limited = Fault("server", "hub.test", "503", 0.4)
    good = Answer()
    found, tries, took_s = ask(Answer(limited), good, limit_s=3.0)
    assert found is good and tries == 2 and took_s >= 0.4
    found, tries, took_s = ask(Answer(Fault("server", "hub.test", "503", 30.0)), limit_s=1.0)
    assert found.kind == "server" and tries == 1 and took_s < 0.5


def test_users_who_failed_together_do_not_try_again_together(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(contact.time, "sleep", slept.append)
    for _ in range(8):
        ask(ConnectionRefusedError(), Answer())
    assert len(slept) == 8 and len(set(slept)) > 1 and all(pause_s > 0 for pause_s in slept)


@pytest.mark.parametrize("limit_s", [0.3, 2.0])
def test_a_users_request_ends_at_one_deadline_for_all_tries(limit_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "WITH_COPY_S", 0.3)
    _, tries, took_s = ask(ConnectionRefusedError(), limit_s=limit_s)
    assert 1 <= tries <= 6 and took_s < limit_s
    found, tries, took_s = ask(lambda: time.sleep(5.0) or Answer(), limit_s=limit_s)
    assert found.kind == "timeout" and tries == 1
    assert limit_s <= took_s < limit_s + 1.5


def test_an_answer_that_comes_too_late_for_a_user_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "WITH_COPY_S", 0.1)
    late = Answer()
    found, _, _ = ask(lambda: time.sleep(0.3) or late, limit_s=0.1)
    assert found.kind == "timeout"
    assert late.is_closed.wait(5)


def test_a_user_behind_a_proxy_is_told_that_the_proxy_is_what_cannot_be_reached() -> None:
    assert ask(ConnectionRefusedError(), limit_s=0.1, by_proxy=True)[0].kind == "proxy"
    assert ask(ConnectionRefusedError(), limit_s=0.1)[0].kind == "refused"


# What a URL asks for

ENDPOINTS = ["https://huggingface.co", "http://127.0.0.1:8080", "https://mirror.test/hf/proxy", "https://m.test/api"]
PATHS: dict[str, tuple[str, str, str, str]] = {
    "/org/name/resolve/main/config.json": ("org/name", "main", "file", "config.json"),
    "/gpt2/resolve/main/config.json": ("gpt2", "main", "file", "config.json"),
    "/org/name/resolve/refs%2Fpr%2F1/a/b%20c.json": ("org/name", "refs/pr/1", "file", "a/b c.json"),
    f"/org/name/resolve/{COMMIT}/resolve/main/x": ("org/name", COMMIT, "file", "resolve/main/x"),
    "/org/name/resolve/v1.0/model.bin?download=true": ("org/name", "v1.0", "file", "model.bin"),
    "/tree/name/resolve/main/config.json": ("tree/name", "main", "file", "config.json"),
    "/resolve/name/resolve/main/config.json": ("resolve/name", "main", "file", "config.json"),
    "/api/models/org/name": ("org/name", "main", "info", ""),
    "/api/models/gpt2": ("gpt2", "main", "info", ""),
    "/api/models/org/name?blobs=true": ("org/name", "main", "info", ""),
    "/api/models/org/name/revision/refs%2Fpr%2F1?securityStatus=1": ("org/name", "refs/pr/1", "info", ""),
    "/api/models/gpt2/revision/main": ("gpt2", "main", "info", ""),
    "/api/models/org/name/tree/main?recursive=true&cursor=abc": ("org/name", "main", "tree", ""),
    "/api/models/gpt2/tree/main/sub/dir?recursive=false": ("gpt2", "main", "tree", "sub/dir"),
    "/api/models/tree/name/tree/main/sub": ("tree/name", "main", "tree", "sub"),
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("path", PATHS)
def test_a_users_request_is_read_and_held_to_one_commit_at_every_endpoint(path: str, endpoint: str) -> None:
    asked = parse(endpoint + path, endpoint + "/")
    assert asked is not None
    assert (asked.repo_id, asked.revision, asked.kind, asked.path) == PATHS[path]
    again = parse(at_commit(endpoint + path, asked, COMMIT), endpoint)
    assert again == Asked(endpoint, asked.repo_id, COMMIT, asked.kind, asked.path, asked.query)
    assert at_commit(endpoint + path, asked, COMMIT).partition("?")[2] == path.partition("?")[2]


NOT_A_MODEL = [
    "/datasets/org/name/resolve/main/data.csv",
    "/datasets/squad/resolve/main/data.csv",
    "/spaces/org/name/resolve/main/app.py",
    f"/api/resolve-cache/models/org/name/{COMMIT}/config.json",
    "/api/models/resolve/main/config.json",
    "/api/datasets/org/name/revision/main",
    "/api/spaces/org/name",
    "/api/models",
    "/api/models?search=bert",
    "/api/models/gpt2/refs",
    "/api/models/gpt2/commits/main",
    "/api/models/gpt2/auth-check",
    "/api/models/org/name/auth-check",
    "/api/models/org/name/paths-info/main",
    "/api/models/org/name/xet-read-token/main",
    "/api/models/org/name/discussions",
    "/api/whoami-v2",
    "/api/telemetry/transformers",
    "/org/name/blob/main/config.json",
    "/org/name/resolve/main",
    "/org/name",
    "/",
    "",
]


@pytest.mark.parametrize("path", NOT_A_MODEL)
def test_a_request_that_reads_no_model_is_left_as_it_is(path: str) -> None:
    for endpoint in ENDPOINTS:
        assert parse(endpoint + path, endpoint) is None


def test_a_request_to_somebody_else_is_never_taken_for_the_hubs() -> None:
    path = "/org/name/resolve/main/config.json"
    for url in (f"https://huggingface.co.evil.test{path}", f"http://huggingface.co{path}", f"https://other.test{path}"):
        assert parse(url, "https://huggingface.co") is None


@pytest.mark.parametrize("written", ["HTTP://127.0.0.1", "http://LOCALHOST"])
def test_a_user_may_write_the_endpoint_as_no_http_library_does(
    hub: Hub, cache: Path, commit: str, written: str
) -> None:
    """The client's URL is the endpoint in its normal form; the guard must still know its own requests."""
    with hub.faulty("status_503") as access:
        there = dataclasses.replace(access, endpoint=f"{written}:{access.endpoint.rpartition(':')[2]}")
        with there.apply(cache), pytest.warns(CachedCopyWarning, match="503"):
            st.AutoConfig.from_pretrained(REPO)


def test_a_message_shows_no_more_of_a_url_than_host_and_port() -> None:
    assert host("https://user:secret@hub.test:8443/a?token=hf_x") == "hub.test:8443"
    assert host("https://hub.test/a") == "hub.test"


# What is not a load's own


def client_state() -> dict[Any, dict[str, Any]]:
    """Everything that the guard may have put something on."""
    from transformers import modeling_utils, pipelines

    base = transformers.tokenization_utils_base.PreTrainedTokenizerBase
    library = importlib.import_module(compat.wire().client.__module__.partition(".")[0])
    classes = [value for value in vars(library).values() if isinstance(value, type)]
    touched = [*classes, base, transformers.PreTrainedModel, *compat.auto_classes().values()]
    found: dict[Any, dict[str, Any]] = {each: dict(vars(each)) for each in touched}
    for module in (modeling_utils, pipelines, huggingface_hub.utils._http):
        found[module] = {name: value for name, value in vars(module).items() if callable(value)}
    return found


def differences(before: dict[Any, dict[str, Any]]) -> list[str]:
    after = client_state()
    return [
        f"{owner}.{name}"
        for owner in before
        for name in before[owner].keys() | after[owner].keys()
        if before[owner].get(name) is not after[owner].get(name)
    ]


def test_a_users_classes_are_as_before_after_loads_that_worked_and_loads_that_failed(
    hub: Hub, cache: Path, commit: str
) -> None:
    with hub.applied(cache):
        st.pipeline("feature-extraction", REPO)  # transformers imports lazily
        before = client_state()
        st.AutoModel.from_pretrained(REPO)
        st.pipeline("feature-extraction", REPO)
        assert differences(before) == []
        with pytest.raises(OSError, match="me/none"):
            st.AutoModel.from_pretrained("me/none")
        assert differences(before) == []
    with hub.faulty("refused") as access, access.apply(cache):
        quietly(lambda: st.AutoTokenizer.from_pretrained(REPO))
        with pytest.raises(NotCachedError):
            st.AutoTokenizer.from_pretrained("me/none")
        assert differences(before) == []
        st.patch()
        assert differences(before)
        with pytest.raises(NotCachedError):
            transformers.AutoTokenizer.from_pretrained("me/none")
        st.unpatch()
    assert differences(before) == []


def test_a_users_async_clients_and_all_but_send_are_untouched_while_everything_is_patched() -> None:
    client = compat.wire().client
    library = client.__module__.partition(".")[0]
    before = client_state()
    with st.patched():
        changed = [name for name in differences(before) if f"'{library}." in name]
    assert changed == [f"{client}.send"]


@pytest.fixture
def neighbour() -> Iterator[Hub]:
    """Somebody else's server, which the same HTTP client talks to."""
    with Hub() as running:
        yield running


def seen(server: Hub) -> list[tuple[str, str, dict[str, str], bytes]]:
    ignored = {"host", "content-length"}
    return [
        (each.method, each.path, {k: v for k, v in each.headers.items() if k not in ignored}, each.body)
        for each in server.requests
    ]


@pytest.mark.parametrize("where", ["in another thread", "in the thread of the load"])
def test_another_librarys_requests_with_the_same_client_pass_while_a_load_is_under_way(
    hub: Hub, neighbour: Hub, cache: Path, commit: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker of experiments that writes and reads its own server from a callback, say."""
    client = compat.wire().client()
    ways: dict[str, dict[str, Any]] = {"GET": {}, "HEAD": {}, "POST": {"content": b"x"}, "PUT": {"content": b"x"}}
    if hasattr(client, "mount"):
        ways = {method: {"data": named["content"]} if named else {} for method, named in ways.items()}

    def talk() -> list[tuple[int, bytes]]:
        path = f"{neighbour.url}/{REPO}/resolve/main/config.json"
        return [
            ((answer := client.request(method, path, **named)).status_code, answer.content)
            for method, named in ways.items()
        ]

    plain, plain_seen = talk(), seen(neighbour)
    neighbour.clear()
    said: list[Any] = []
    made = transformers.BertConfig.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if not said:
            if where == "in another thread":
                with ThreadPoolExecutor(1) as pool:
                    said.extend(pool.submit(talk).result())
            else:
                said.extend(talk())
        made(self, *args, **kwargs)

    monkeypatch.setattr(transformers.BertConfig, "__init__", init)
    with hub.applied(cache):
        st.AutoConfig.from_pretrained(REPO)
    assert said == plain and seen(neighbour) == plain_seen


@pytest.mark.parametrize("where", ["in another thread", "in the thread of the load"])
def test_another_librarys_failure_during_a_load_is_its_own(
    hub: Hub, neighbour: Hub, cache: Path, commit: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = compat.wire().client()
    made = transformers.BertConfig.__init__
    failures: list[type[BaseException]] = []

    def fail() -> None:
        for url in (broken.endpoint, neighbour.cdn_url):
            try:
                client.get(f"{url}/runs", timeout=0.2)
            except Exception as error:  # noqa: BLE001 - its class is what the test is about
                failures.append(type(error))

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if where == "in another thread":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(fail).result()
        else:
            fail()
        made(self, *args, **kwargs)

    with neighbour.faulty(FAULTS["refused"]) as broken:
        fail()
        plain = list(failures)
        assert plain
        failures.clear()
        monkeypatch.setattr(transformers.BertConfig, "__init__", init)
        with hub.applied(cache):
            st.AutoConfig.from_pretrained(REPO)
    assert failures[: len(plain)] == plain
    assert breakers._circuits == {}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_what_a_user_writes_to_the_hub_is_never_answered_by_the_cache(
    hub: Hub, cache: Path, commit: str, method: str
) -> None:
    client = compat.wire().client()
    url = f"/{REPO}/resolve/main/config.json"
    with hub.applied(cache), st.patched(), entered(Load("prefer", repo_id=REPO, cache_dir=str(cache))):
        answer = client.request(method, hub.url + url)
        assert answer.status_code == 200
    assert [(request.method, request.path) for request in hub.requests] == [(method, url)]
    with hub.faulty("hang") as access, access.apply(cache), st.patched():
        breakers.open(hub.url, DEAD)
        with pytest.raises(Exception, match=r"(?i)timed? ?out") as raised:
            client.request(method, hub.url + url, timeout=0.3)
    assert type(raised.value).__module__.partition(".")[0] == compat.wire().client.__module__.partition(".")[0]


@pytest.fixture
def own_client() -> Iterator[list[tuple[str, str]]]:
    """A user's own client, as for a company's proxy; what its hook has seen."""
    wire, hooked = compat.wire(), []
    before = {name: value for name, value in vars(huggingface_hub.utils._http).items() if name.startswith("_GLOBAL")}

    class Own(wire.client):  # type: ignore[name-defined, misc]
        pass

    def made() -> Any:
        if hasattr(huggingface_hub, "set_client_factory"):
            hook = {"request": [lambda request: hooked.append((request.method, str(request.url)))]}
            return Own(headers={"x-company": "1"}, event_hooks=hook, follow_redirects=True)
        session = Own()
        session.headers["x-company"] = "1"
        session.hooks["response"].append(
            lambda response, **_: hooked.append((response.request.method, response.request.url))
        )
        return session

    if hasattr(huggingface_hub, "set_client_factory"):
        huggingface_hub.set_client_factory(made)
    else:
        huggingface_hub.configure_http_backend(made)
    yield hooked
    close = getattr(huggingface_hub, "close_session", None) or huggingface_hub.utils._http.reset_sessions
    close()
    for name, value in before.items():
        setattr(huggingface_hub.utils._http, name, value)
    close()


def test_a_users_own_client_is_kept_its_hooks_see_the_same_requests_and_its_requests_are_guarded(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, own_client: list[tuple[str, str]]
) -> None:
    commit = hub.add(REPO, files)
    found = []
    for library in (transformers, st):
        own_client.clear()
        hub.clear()
        with hub.applied(tmp_path / library.__name__):
            library.AutoModel.from_pretrained(REPO)
        found.append([(method, url.replace(commit, "main")) for method, url in own_client])
        assert hub.requests and all(request.headers["x-company"] == "1" for request in hub.requests)
    assert found[0] and found[0] == found[1]
    warned = pytest.warns(CachedCopyWarning, match="refuses the connection")
    with hub.faulty("refused") as access, access.apply(tmp_path / "safetransformers"), warned:
        st.AutoModel.from_pretrained(REPO)
