"""Strict mode and the hub: a copy is loaded only where it is known to be what was asked for."""

from __future__ import annotations

import pickle
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import save
from hub_server import Hub
from models import tiny, weights

import safetransformers as st
from safetransformers.errors import CachedCopyWarning, CorruptCacheError, HubWarning, StaleCacheError
from safetransformers.hub import contact, integrity, load
from safetransformers.hub.breaker import breakers

REPO = "me/bert"
ENTRIES = ("AutoModel", "AutoTokenizer", "AutoConfig")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead hub is given up soon: the time is not what these tests are about."""
    monkeypatch.setattr(contact, "WITHOUT_COPY_S", 0.3)
    monkeypatch.setattr("safetransformers.hub.client.WITHOUT_COPY_S", 0.3)


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had been started with HF_HUB_OFFLINE=1, which both libraries read at import."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if hasattr(transformers.utils.hub, "_is_offline_mode"):
        monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_user_who_pins_a_commit_loads_the_copy_without_any_contact(
    hub: Hub, cache: Path, commit: str, entry: str
) -> None:
    with hub.applied(cache), st.strict(), warnings.catch_warnings():
        warnings.simplefilter("error", HubWarning)
        hub.clear()
        getattr(st, entry).from_pretrained(REPO, revision=commit)
    assert hub.requests == [] and hub.connections == []


def test_a_user_who_pins_a_commit_runs_a_pipeline_without_any_contact(hub: Hub, cache: Path, commit: str) -> None:
    with hub.applied(cache), st.strict():
        hub.clear()
        made = st.pipeline("feature-extraction", REPO, revision=commit)
    assert hub.requests == [] and hub.connections == []
    assert torch.equal(weights(made.model), weights(tiny("bert")))


def test_a_user_who_pins_a_commit_that_is_not_cached_gets_it_from_the_hub(
    hub: Hub, cache: Path, commit: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    with hub.applied(tmp_path / "empty"), st.strict():
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO, revision=commit)), weights(tiny("bert")))
    assert hub.requests


@pytest.mark.parametrize("fault", ["refused", "portal_200", "rate_limited", "status_503", "proxy_407"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_user_whose_branch_cannot_be_verified_gets_an_error_whose_line_works_when_pasted(
    hub: Hub, cache: Path, commit: str, entry: str, fault: str
) -> None:
    with hub.faulty(fault) as access, access.apply(cache), st.strict():
        with pytest.raises(StaleCacheError) as raised:
            getattr(st, entry).from_pretrained(REPO)
        error = raised.value
        assert isinstance(error, OSError)
        assert error.details == {"repo_id": REPO, "revision": "main", "commit": commit}
        assert commit in error.do
        pasted = eval(error.do, {"from_pretrained": getattr(st, entry).from_pretrained})
        plain = getattr(transformers, entry).from_pretrained(REPO, revision=commit, local_files_only=True)
    assert type(pasted) is type(plain)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.details) == (type(error), str(error), error.details)


def test_a_user_whose_tag_cannot_be_verified_gets_the_commit_to_pin(
    hub: Hub, cache: Path, commit: str, files: dict[str, bytes]
) -> None:
    """A tag can be moved as a branch can."""
    hub.tag(REPO, "v1", commit)
    with hub.applied(cache):
        st.AutoModel.from_pretrained(REPO, revision="v1")
    load.verified.clear()
    with hub.faulty("refused") as access, access.apply(cache), st.strict(), pytest.raises(StaleCacheError) as raised:
        st.AutoModel.from_pretrained(REPO, revision="v1")
    assert raised.value.details == {"repo_id": REPO, "revision": "v1", "commit": commit}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("how", ["local files only", "HF_HUB_OFFLINE"])
def test_a_user_who_allows_no_request_cannot_load_a_branch_and_can_load_a_commit(
    hub: Hub, cache: Path, commit: str, monkeypatch: pytest.MonkeyPatch, how: str, entry: str
) -> None:
    named = {"local_files_only": True} if how == "local files only" else {}
    loader = getattr(st, entry).from_pretrained
    with hub.applied(cache), st.strict(), monkeypatch.context() as offline:
        if how == "HF_HUB_OFFLINE":
            go_offline(offline)
        hub.clear()
        with pytest.raises(StaleCacheError) as raised:
            loader(REPO, **named)
        assert "no request is allowed" in raised.value.why and commit in raised.value.do
        loader(REPO, revision=commit, **named)
        assert hub.requests == [] and hub.connections == []


def test_a_user_whose_branch_was_verified_in_this_process_loads_it_when_the_hub_goes_away(
    hub: Hub, cache: Path, commit: str
) -> None:
    with st.strict():
        with hub.applied(cache):
            st.AutoModel.from_pretrained(REPO)
            st.AutoModel.from_pretrained(REPO, local_files_only=True)
        # The port of the healthy hub now hangs: the address, and so what was verified, stays the same.
        warned = pytest.warns(CachedCopyWarning, match=commit)
        with hub.faulty("hang") as access, access.apply(cache), warned:
            served = st.AutoModel.from_pretrained(REPO)
        assert torch.equal(weights(served), weights(tiny("bert")))
        breakers.forget()
        with hub.faulty("refused") as access, access.apply(cache), pytest.raises(StaleCacheError):
            st.AutoModel.from_pretrained(REPO)  # what one hub said of a name is nothing that another hub has said


def test_a_user_with_two_commits_is_never_served_the_one_that_the_hub_did_not_name(
    hub: Hub, cache: Path, commit: str, tmp_path: Path
) -> None:
    """The newer commit's weights stall: other modes go back to the older commit, strict mode does not."""
    hub.add(REPO, save(tiny("bert", seed=1), tmp_path / "newer"))
    with hub.faulty("cdn_503") as access, access.apply(cache), st.strict(), pytest.raises(OSError, match="503"):
        st.AutoModel.from_pretrained(REPO)
    breakers.forget()
    with hub.faulty("cdn_503") as access, access.apply(cache), pytest.warns(CachedCopyWarning, match=commit):
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert")))


def test_a_user_whose_branch_has_moved_gets_the_newer_commit(
    hub: Hub, cache: Path, commit: str, tmp_path: Path
) -> None:
    hub.add(REPO, save(tiny("bert", seed=1), tmp_path / "newer"))
    with hub.applied(cache), st.strict():
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert", seed=1)))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the content of each blob was read for its hash."""
    counted: Counter[str] = Counter()
    real = integrity.hashlib.new

    def new(algorithm: str, prefix: bytes = b"", **named: Any) -> Any:
        counted[algorithm] += 1
        return real(algorithm, prefix, **named)

    monkeypatch.setattr(integrity.hashlib, "new", new)
    return counted


@pytest.mark.parametrize("entry", ["AutoModel", "pipeline"])
def test_a_users_snapshot_is_hashed_once_in_a_process(
    hub: Hub, cache: Path, commit: str, hashed: Counter[str], entry: str
) -> None:
    def loaded() -> Any:
        if entry == "pipeline":
            return st.pipeline("feature-extraction", REPO, revision=commit)
        return st.AutoModel.from_pretrained(REPO, revision=commit)

    with hub.applied(cache), st.strict():
        loaded()
        first = dict(hashed)
        assert first["sha256"] == 1  # the weights, which are in LFS
        loaded()
        assert dict(hashed) == first
        blob = (cache / "models--me--bert" / "snapshots" / commit / "model.safetensors").resolve()
        blob.touch()  # may be other bytes now
        loaded()
    assert hashed["sha256"] == 2


def test_a_user_who_pins_a_commit_never_gets_flipped_bytes_though_no_request_is_made(
    hub: Hub, cache: Path, commit: str
) -> None:
    blob = (cache / "models--me--bert" / "snapshots" / commit / "model.safetensors").resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with hub.applied(cache):
        wrong = transformers.AutoModel.from_pretrained(REPO, revision=commit)
        assert not torch.equal(weights(wrong), weights(tiny("bert")))
        with st.strict(), pytest.raises(CorruptCacheError, match=r"model\.safetensors: other bytes"):
            st.AutoModel.from_pretrained(REPO, revision=commit)


def test_a_user_of_patched_transformers_gets_the_strict_rules_too(hub: Hub, cache: Path, commit: str) -> None:
    with st.patched(), st.strict(), hub.faulty("refused") as access, access.apply(cache):
        with pytest.raises(StaleCacheError):
            transformers.BertModel.from_pretrained(REPO)
        with pytest.raises(StaleCacheError):
            transformers.AutoTokenizer.from_pretrained(REPO)
        hub.clear()
        served = transformers.BertModel.from_pretrained(REPO, revision=commit)
    assert torch.equal(weights(served), weights(tiny("bert"))) and hub.connections == []


def test_a_user_is_told_within_five_seconds_that_a_branch_cannot_be_verified(
    hub: Hub, cache: Path, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with hub.faulty("hang") as access, access.apply(cache), st.strict():
        start_s = time.monotonic()
        with pytest.raises(StaleCacheError, match="no answer"):
            st.AutoTokenizer.from_pretrained(REPO)
        assert time.monotonic() - start_s < 5
