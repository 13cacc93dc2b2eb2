"""``offline="prefer"`` serves the cache at once and looks for news later; ``offline="off"`` is plain transformers."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import save
from hub_server import Hub
from models import tiny, weights

import safetransformers as st
from safetransformers.errors import CachedCopyWarning, HubWarning
from safetransformers.hub import client, contact, freshness, load
from safetransformers.hub.breaker import breakers

REPO = "me/bert"
ENTRIES = ("AutoModel", "AutoTokenizer", "AutoConfig")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running
        checked()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The look for news waits until the event is set: what a load itself asks for can be told from it."""
    go, check = threading.Event(), freshness._check

    def wait_and_check(*args: Any) -> None:
        go.wait(20)
        check(*args)

    monkeypatch.setattr(freshness, "_check", wait_and_check)
    yield go
    go.set()
    checked()


def checked() -> None:
    """Wait for the looks for news that are under way."""
    for thread in threading.enumerate():
        if thread.name == "safetransformers-freshness":
            thread.join(10)


def asked(hub: Hub) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in hub.requests]


def newer(hub: Hub, folder: Path) -> str:
    return hub.add(REPO, save(tiny("bert", seed=1), folder))


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_user_who_prefers_the_cache_waits_for_no_request(
    hub: Hub, cache: Path, commit: str, held: threading.Event, entry: str
) -> None:
    with hub.applied(cache), st.policy(offline="prefer"), warnings.catch_warnings():
        warnings.simplefilter("error", HubWarning)
        getattr(st, entry).from_pretrained(REPO)
        assert hub.connections == [] and hub.requests == []
        held.set()
        checked()


def test_a_user_who_prefers_the_cache_learns_later_which_commit_is_newer(
    hub: Hub, cache: Path, commit: str, held: threading.Event, tmp_path: Path
) -> None:
    news = newer(hub, tmp_path / "newer")
    hub.clear()
    with hub.applied(cache), st.policy(offline="prefer"):
        served = st.AutoModel.from_pretrained(REPO)
        assert torch.equal(weights(served), weights(tiny("bert")))
        assert hub.connections == []
        (thread,) = [each for each in threading.enumerate() if each.name == "safetransformers-freshness"]
        assert thread.daemon  # it never keeps a process alive
        held.set()
        checked()
        assert freshness.newer == {(REPO, "main"): news}
        assert len(hub.requests) == 1
        with pytest.warns(CachedCopyWarning) as told:
            st.AutoModel.from_pretrained(REPO)
            st.AutoTokenizer.from_pretrained(REPO)
        checked()
        assert len(hub.requests) == 1  # within ten minutes nobody asks again
    assert all(commit in str(warning.message) and news[:12] in str(warning.message) for warning in told)


def test_a_user_who_prefers_the_cache_has_the_hub_asked_again_after_ten_minutes(
    hub: Hub, cache: Path, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_s = 0.0
    real = time.monotonic

    class Later:
        @staticmethod
        def monotonic() -> float:
            return real() + passed_s

    monkeypatch.setattr(freshness, "time", Later)
    with hub.applied(cache), st.policy(offline="prefer"):
        st.AutoModel.from_pretrained(REPO)
        checked()
        assert freshness.newer == {} and len(hub.requests) == 1
        news = newer(hub, tmp_path / "newer")
        passed_s = freshness.TTL_S + 1
        st.AutoModel.from_pretrained(REPO)
        checked()
        assert freshness.newer == {(REPO, "main"): news} and len(hub.requests) == 2


def test_a_user_who_has_downloaded_the_newer_commit_is_served_it_from_then_on(
    hub: Hub, cache: Path, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "TTL_S", 0.0)
    newer(hub, tmp_path / "newer")
    with hub.applied(cache):
        with st.policy(offline="prefer"):
            assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert")))
            checked()
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert", seed=1)))
        with st.policy(offline="prefer"), warnings.catch_warnings():
            warnings.simplefilter("error", HubWarning)
            assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert", seed=1)))
            checked()
    assert freshness.newer == {}


def test_a_user_who_prefers_the_cache_is_not_disturbed_by_a_dead_hub(
    hub: Hub, cache: Path, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "WITHOUT_COPY_S", 0.3)
    with hub.faulty("hang") as access, access.apply(cache), st.policy(offline="prefer"), warnings.catch_warnings():
        warnings.simplefilter("error")
        start_s = time.monotonic()
        served = st.AutoModel.from_pretrained(REPO)
        assert time.monotonic() - start_s < contact.WITH_COPY_S
        checked()
        asked_before = len(hub.connections)
        st.AutoTokenizer.from_pretrained(REPO)
        checked()
        assert len(hub.connections) == asked_before
    assert torch.equal(weights(served), weights(tiny("bert")))
    assert freshness.newer == {}


def test_a_user_who_prefers_a_copy_of_a_repository_that_is_gone_still_reaches_the_hub_for_others(
    hub: Hub, cache: Path, commit: str, files: dict[str, bytes]
) -> None:
    """The hub has answered: it is not away."""
    hub.add("me/other", files)
    hub.remove(REPO)
    with hub.applied(cache):
        transformers.AutoConfig.from_pretrained("me/other")
        with st.policy(offline="prefer"):
            st.AutoConfig.from_pretrained(REPO)
            checked()
        hub.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error", HubWarning)
            st.AutoConfig.from_pretrained("me/other")
    assert hub.requests


def test_a_user_who_prefers_the_cache_and_pins_a_commit_causes_no_request_ever(
    hub: Hub, cache: Path, commit: str
) -> None:
    with hub.applied(cache), st.policy(offline="prefer"):
        st.AutoModel.from_pretrained(REPO, revision=commit)
        checked()
    assert hub.connections == []


def test_a_user_who_prefers_the_cache_causes_no_request_where_no_request_is_allowed(
    hub: Hub, cache: Path, commit: str
) -> None:
    with hub.applied(cache), st.policy(offline="prefer"):
        st.AutoModel.from_pretrained(REPO, local_files_only=True)
        checked()
    assert hub.connections == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_user_who_prefers_a_cache_that_is_empty_downloads_as_usual(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, entry: str
) -> None:
    """The list of files is asked for by commit, so that all files are of one; every other request is the same."""
    commit = hub.add(REPO, files)
    found = {}
    for library in (transformers, st):
        hub.clear()
        with hub.applied(tmp_path / library.__name__), st.policy(offline="prefer"), warnings.catch_warnings():
            warnings.simplefilter("error", HubWarning)
            getattr(library, entry).from_pretrained(REPO)
            checked()
        found[library.__name__] = {path.replace(commit, "main") for method, path in asked(hub) if method == "GET"}
    assert found["safetransformers"] == found["transformers"]


def test_a_user_who_prefers_the_cache_gets_what_is_not_in_it_from_the_hub(
    hub: Hub, cache: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Only the model was loaded before: the tokenizer of the same repository is a download."""
    hub.add(REPO, files)
    with hub.applied(cache), st.policy(offline="prefer"):
        transformers.AutoModel.from_pretrained(REPO)
        words = st.AutoTokenizer.from_pretrained(REPO)
    with hub.applied(tmp_path / "other"):
        assert words("hello world") == transformers.AutoTokenizer.from_pretrained(REPO)("hello world")


# Off


@pytest.mark.parametrize("entry", [*ENTRIES, "pipeline"])
def test_a_user_who_switches_the_guard_off_sends_the_requests_of_plain_transformers(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, entry: str
) -> None:
    hub.add(REPO, files)

    def requests_of(library: Any, cache: Path) -> list[list[tuple[str, str]]]:
        found = []
        with hub.applied(cache), st.policy(offline="off"):
            for _ in range(2):  # from the hub, then with the cache
                hub.clear()
                if entry == "pipeline":
                    library.pipeline("feature-extraction", REPO)
                else:
                    getattr(library, entry).from_pretrained(REPO)
                found.append(sorted(asked(hub)))
        return found

    plain = requests_of(transformers, tmp_path / "plain")
    assert requests_of(st, tmp_path / "ours") == plain
    with st.patched():
        assert requests_of(transformers, tmp_path / "patched") == plain


def test_a_user_who_switches_the_guard_off_meets_none_of_it(
    hub: Hub, cache: Path, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the guard acted")

    for place in ("_Exchange", "contact", "reply"):
        monkeypatch.setattr(client, place, never)
    monkeypatch.setattr(contact, "contact", never)
    with hub.applied(cache), st.policy(offline="off"):
        st.AutoModel.from_pretrained(REPO)
        with st.patched():
            transformers.AutoTokenizer.from_pretrained(REPO)
    assert breakers._circuits == {} and load.verified == {}


def test_a_user_who_switches_the_guard_off_gets_plain_errors(hub: Hub, cache: Path, files: dict[str, bytes]) -> None:
    hub.add(REPO, files)

    def said(library: Any) -> tuple[type[BaseException], str]:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - which one it is, is compared below
            library.AutoConfig.from_pretrained(REPO)
        return raised.type, str(raised.value)

    with hub.faulty("portal_200") as access, access.apply(cache), st.policy(offline="off", errors="off"):
        plain = said(transformers)
        assert said(st) == plain
