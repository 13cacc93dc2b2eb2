"""What a user is told of a hub that did not answer: the cause in plain words, what was loaded, and nothing private."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from checkpoints import save
from hub_server import FAULTS, Access, Hub
from models import tiny

import safetransformers as st
from safetransformers import compat
from safetransformers.errors import CachedCopyWarning, HubWarning, NotCachedError, StaleCacheError
from safetransformers.hub import contact
from safetransformers.hub.breaker import breakers
from safetransformers.hub.faults import OF_THE_REPO, RETRYABLE, WORDS, Fault, of_answer, of_exception, retry_after_s

REPO = "me/bert"
SECRET = "hunter2"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead hub is given up soon: the time is not what these tests are about."""
    for limit in ("WITH_COPY_S", "WITHOUT_COPY_S"):
        monkeypatch.setattr(contact, limit, 0.6)
        monkeypatch.setattr(f"safetransformers.hub.client.{limit}", 0.6)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home-of-alice" / "hub"


def told(call: Callable[[], Any]) -> list[str]:
    """The hub guard's warnings during a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if issubclass(warning.category, HubWarning)]


IN_WORDS = {
    "dns_failure": "the name of hub.example.test:PORT cannot be resolved (DNS)",
    "refused": "127.0.0.1:PORT refuses the connection",
    "hang": "no answer from 127.0.0.1:PORT in time (packets dropped by a firewall",
    "syn_dropped": "no answer from 127.0.0.1:PORT in time (packets dropped by a firewall",
    "drip_headers": "no answer from 127.0.0.1:PORT in time",
    "tls_to_plain": "the TLS handshake with 127.0.0.1:PORT fails",
    "self_signed": "the TLS certificate of 127.0.0.1:PORT is not trusted",
    "corporate_ca": "the TLS certificate of 127.0.0.1:PORT is not trusted",
    "reset": "the connection to 127.0.0.1:PORT is cut",
    "close": "the connection to 127.0.0.1:PORT is cut",
    "status_500": "127.0.0.1:PORT has a server error (500)",
    "status_503": "127.0.0.1:PORT has a server error (503)",
    "rate_limited": "127.0.0.1:PORT limits the rate of requests (429)",
    "rate_limited_window": "127.0.0.1:PORT limits the rate of requests (429)",
    "firewall_403_html": "a firewall blocks 127.0.0.1:PORT (403)",
    "blocked_451_html": "a firewall blocks 127.0.0.1:PORT (451)",
    "portal_200": "something between here and 127.0.0.1:PORT answers in its place (a captive portal",
    "portal_redirect": "something between here and 127.0.0.1:PORT answers in its place (a captive portal",
    "redirect_loop": "127.0.0.1:PORT redirects in a circle",
    "proxy_407": "the proxy asks for a user name and password (407)",
    "proxy_407_http": "the proxy asks for a user name and password (407)",
    "proxy_403": "the proxy does not allow hub.example.test (403)",
    "proxy_502": "the proxy cannot reach hub.example.test (502)",
    "proxy_hang": "the proxy on the way to hub.example.test cannot be used",
    "proxy_down": "the proxy on the way to hub.example.test cannot be used",
    "proxy_down_http": "the proxy on the way to hub.example.test cannot be used",
    "bad_token_401": "127.0.0.1:PORT does not accept the credentials (401)",
    "gated": "the repository is gated, and access was not granted",
    "gone_repo": "127.0.0.1:PORT has no such repository, or none that these credentials may see",
    "gone_revision": "127.0.0.1:PORT has no such revision",
}


@pytest.mark.parametrize("fault", IN_WORDS)
def test_a_user_is_told_the_fault_in_plain_words_once_with_what_was_loaded(
    hub: Hub, cache: Path, commit: str, fault: str
) -> None:
    with hub.faulty(fault) as access, access.apply(cache):
        texts = told(lambda: [st.AutoTokenizer.from_pretrained(REPO) for _ in range(3)])
    (text,) = texts
    words = re.escape(IN_WORDS[fault]).replace("PORT", r"\d+")
    assert re.search(f"Why: {words}", text)
    assert REPO in text.splitlines()[0] and commit in text.splitlines()[0]
    assert "cached within the last hour" in text.splitlines()[0]
    assert [line.partition(":")[0] for line in text.splitlines()[1:]] == ["Why", "Do", "Off"]


def test_a_user_who_pastes_the_off_line_is_told_no_more(hub: Hub, cache: Path, commit: str) -> None:
    with hub.faulty("refused") as access, access.apply(cache):
        (text,) = told(lambda: st.AutoConfig.from_pretrained(REPO))
        off = text.partition("Off: ")[2]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            exec(off, {"warnings": warnings, "safetransformers": st})
            st.AutoTokenizer.from_pretrained(REPO)
    assert not [warning for warning in caught if issubclass(warning.category, HubWarning)]


def test_a_user_who_pins_the_commit_that_the_warning_names_is_not_warned(hub: Hub, cache: Path, commit: str) -> None:
    with hub.faulty("refused") as access, access.apply(cache):
        (text,) = told(lambda: st.AutoModel.from_pretrained(REPO))
        (pinned,) = re.findall(r"revision='([0-9a-f]{40})'", text)
        assert pinned == commit
        assert told(lambda: st.AutoModel.from_pretrained(REPO, revision=pinned)) == []


def test_a_user_is_told_once_for_each_repository_and_each_fault(
    hub: Hub, cache: Path, commit: str, files: dict[str, bytes]
) -> None:
    hub.add("me/other", files)
    with hub.applied(cache):
        transformers.AutoConfig.from_pretrained("me/other")

    def loads() -> None:
        for repo in (REPO, "me/other", REPO, "me/other"):
            st.AutoConfig.from_pretrained(repo)

    texts = []
    for fault in ("refused", "portal_200"):
        breakers.forget()
        with hub.faulty(fault) as access, access.apply(cache):
            texts += told(lambda: [loads(), loads()])
    assert len(texts) == 4 and len(set(texts)) == 4


@pytest.mark.parametrize(
    ("age_s", "words"), [(60, "within the last hour"), (5 * 3600, "5 hours ago"), (3 * 86_400, "3 days ago")]
)
def test_a_user_is_told_how_old_the_copy_is(hub: Hub, cache: Path, commit: str, age_s: int, words: str) -> None:
    snapshot = cache / "models--me--bert" / "snapshots" / commit
    then_s = time.time() - age_s
    for path in [*snapshot.iterdir(), snapshot]:
        os.utime(path, (then_s, then_s), follow_symlinks=False)
    with hub.faulty("refused") as access, access.apply(cache):
        (text,) = told(lambda: st.AutoModel.from_pretrained(REPO))
    assert f"cached {words}" in text


def test_a_user_is_told_that_the_hub_was_seen_to_have_a_newer_commit(
    hub: Hub, cache: Path, commit: str, tmp_path: Path
) -> None:
    newer = hub.add(REPO, save(tiny("bert", seed=1), tmp_path / "newer"))
    with hub.faulty("cdn_503") as access, access.apply(cache):
        (text,) = told(lambda: st.AutoModel.from_pretrained(REPO))
    assert commit in text.splitlines()[0] and f"the hub has another commit, {newer[:12]}" in text
    breakers.forget()
    with hub.faulty("refused") as access, access.apply(cache):
        (text,) = told(lambda: st.AutoTokenizer.from_pretrained(REPO))
    assert "another commit" not in text or newer[:12] in text


# Nothing private


def with_password(access: Access) -> Access:
    """The same way, where the proxy or the hub is named with a user's password."""
    proxied = {
        name: value.replace("://", f"://alice:{SECRET}@") for name, value in access.env.items() if "://" in value
    }
    endpoint = access.endpoint if proxied else access.endpoint.replace("://", f"://alice:{SECRET}@")
    return dataclasses.replace(access, endpoint=endpoint, env={**access.env, **proxied})


def private(text: str, tmp_path: Path) -> list[str]:
    kept = (TOKEN, SECRET, "alice", str(tmp_path), str(Path.home()))
    return [each for each in kept if each in text]


PRIVATE_FAULTS = ["proxy_407", "proxy_403_http", "proxy_down", "hang", "status_503", "portal_redirect", "bad_token_401"]


@pytest.mark.parametrize("fault", [*PRIVATE_FAULTS, "redirect_loop_absolute", "dns_failure"])
def test_a_user_finds_nothing_private_in_warnings_errors_and_logs(
    hub: Hub, cache: Path, commit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with hub.faulty(fault) as access, with_password(access).apply(cache, token=TOKEN):
        said += told(lambda: st.AutoModel.from_pretrained(REPO))
        assert said
        said += told(lambda: st.AutoTokenizer.from_pretrained(REPO, token=TOKEN))
        for call in (
            lambda: st.AutoModel.from_pretrained("me/none"),
            lambda: st.AutoModel.from_pretrained(REPO, cache_dir=tmp_path / "home-of-alice" / "empty", token=TOKEN),
            lambda: st.AutoModel.from_pretrained(REPO, force_download=True),
        ):
            with pytest.raises((OSError, ValueError)) as raised:
                call()
            if isinstance(raised.value, NotCachedError):
                said += [str(raised.value), repr(raised.value.details)]
        with st.strict(), pytest.raises((StaleCacheError, OSError)) as raised:
            st.AutoModel.from_pretrained(REPO)
        said += [str(raised.value), repr(vars(raised.value))]
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("safetransformers")]
    assert [(text, found) for text in [*said, *logged] if (found := private(text, tmp_path))] == []


def test_a_user_finds_no_password_in_the_traceback_of_our_errors(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What transformers says of its own failure names the endpoint as it was configured; ours does not repeat it."""
    with hub.faulty("status_503") as access, with_password(access).apply(tmp_path / "hub", token=TOKEN):
        with pytest.raises(OSError, match="couldn't connect") as plain:
            transformers.AutoConfig.from_pretrained("me/none", local_files_only=True)
        with pytest.raises(NotCachedError) as raised:
            st.AutoConfig.from_pretrained("me/none")
    assert SECRET in str(plain.value)
    assert SECRET not in "".join(traceback.format_exception_only(raised.type, raised.value))
    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_a_user_finds_no_path_in_the_messages_about_a_broken_copy(hub: Hub, cache: Path, commit: str) -> None:
    blob = (cache / "models--me--bert" / "snapshots" / commit / "config.json").resolve()
    blob.write_bytes(b"{")
    with hub.applied(cache), pytest.raises(OSError, match="ST-HUB-006") as raised:
        st.AutoModel.from_pretrained(REPO)
    assert "alice" not in str(raised.value) and "alice" not in repr(vars(raised.value))


def test_a_background_look_for_news_logs_nothing_private(
    hub: Hub, cache: Path, commit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with hub.faulty("status_503") as access, with_password(access).apply(cache, token=TOKEN):
        with st.policy(offline="prefer"):
            st.AutoModel.from_pretrained(REPO)
        for thread in threading.enumerate():
            if thread.name == "safetransformers-freshness":
                thread.join(20)
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("safetransformers")]
    assert any("whether me/bert has a newer commit is not known" in text for text in logged)
    assert [text for text in logged if private(text, tmp_path)] == []


# Faults, from real exceptions and answers

RAISED = {
    "dns_failure": "dns",
    "refused": "refused",
    "hang": "timeout",
    "syn_dropped": "timeout",
    "tls_hang": "timeout",
    "tls_to_plain": "tls",
    "self_signed": "tls_certificate",
    "corporate_ca": "tls_certificate",
    "reset": "reset",
    "close": "reset",
    "redirect_loop": "redirects",
    "redirect_loop_absolute": "redirects",
    "proxy_407": "proxy_auth",
    "proxy_403": "proxy_denied",
    "proxy_502": "proxy_error",
    "proxy_hang": "proxy",
    "proxy_down": "proxy",
    "proxy_down_http": "proxy",
    "proxy_hang_http": "proxy",
}


def request(access: Access, path: str = f"/{REPO}/resolve/main/config.json", **named: Any) -> Any:
    """One GET by the HTTP library of huggingface_hub."""
    client = compat.wire().client()
    if hasattr(client, "follow_redirects"):
        named.setdefault("follow_redirects", True)
    return client.get(access.endpoint + path, timeout=0.5, **named)


@pytest.mark.parametrize("fault", RAISED)
def test_a_real_exception_of_the_installed_http_library_is_told_by_its_cause(hub: Hub, fault: str) -> None:
    with hub.faulty(fault) as access, access.apply(), pytest.raises(Exception) as raised:  # noqa: PT011 - the library's own
        request(access)
    by_proxy = fault.startswith("proxy")
    assert of_exception(raised.value, "hub.test", by_proxy=by_proxy).kind == RAISED[fault]


@pytest.mark.parametrize("fault", ["reset_mid_body", "truncated_body", "stall"])
def test_a_real_body_that_breaks_off_is_a_cut_connection_or_a_time_out(hub: Hub, fault: str) -> None:
    hub.add(REPO, {"config.json": b"{}" * 1000})
    with hub.faulty(fault) as access, access.apply(), pytest.raises(Exception) as raised:  # noqa: PT011 - as above
        assert len(request(access).content) == 2000
    expected = {"stall": "timeout"}.get(fault, "reset")
    assert of_exception(raised.value, "hub.test").kind == expected


ANSWERED = {
    "status_500": "server",
    "status_502": "server",
    "status_503": "server",
    "status_504": "server",
    "rate_limited": "rate_limit",
    "rate_limited_retry_after": "rate_limit",
    "rate_limited_window": "rate_limit",
    "firewall_403_html": "blocked",
    "blocked_451_html": "blocked",
    "portal_200": "portal",
    "portal_redirect": "portal",
    "unauthorized_401": "no_repo",
    "bad_token_401": "unauthorized",
    "gated": "gated",
    "gone_repo": "no_repo",
    "gone_revision": "no_revision",
    "proxy_407_http": "proxy_auth",
    "proxy_403_http": "blocked",
    "proxy_502_http": "server",
}


@pytest.mark.parametrize("fault", ANSWERED)
def test_a_real_answer_that_is_none_of_the_hubs_files_is_told_by_its_cause(hub: Hub, fault: str) -> None:
    hub.add(REPO, {"config.json": b"{}"})
    with hub.faulty(fault) as access, access.apply():
        answer = request(access)
        healthy = hub.access
    found = of_answer(answer.status_code, {name.lower(): text for name, text in answer.headers.items()}, "hub.test")
    assert found is not None and found.kind == ANSWERED[fault]
    assert found.is_of_the_repo == (found.kind in OF_THE_REPO)
    assert found.retry_after_s == (30.0 if fault in ("rate_limited_retry_after", "rate_limited_window") else None)
    with healthy.apply():
        for name in ("config.json", "none.json"):  # a file, and the hub's own word that there is none
            answer = request(healthy, f"/{REPO}/resolve/main/{name}")
            headers = {key.lower(): text for key, text in answer.headers.items()}
            assert of_answer(answer.status_code, headers, "hub.test") is None


def test_an_answer_counts_by_what_its_headers_say() -> None:
    page, ours = {"content-type": "text/html"}, {"x-error-message": "no", "content-type": "application/json"}
    kinds = {
        (200, ""): None,
        (404, ""): None,
        (404, "page"): "blocked",
        (403, ""): "blocked",
        (401, ""): "no_repo",
        (401, "ours"): "unauthorized",
        (403, "ours"): "unauthorized",
        (408, ""): "timeout",
        (407, ""): "proxy_auth",
        (200, "page"): "portal",
        (599, ""): "server",
    }
    headers: dict[str, dict[str, str]] = {"": {}, "page": page, "ours": ours}
    for (status, which), kind in kinds.items():
        found = of_answer(status, headers[which], "hub.test")
        assert (found and found.kind) == kind, (status, which)


def test_the_time_that_a_server_asks_for_is_read_as_servers_write_it() -> None:
    assert retry_after_s({"retry-after": " 7 "}) == 7.0
    assert retry_after_s({"retry-after": "999999999"}) == 86_400.0
    assert retry_after_s({"ratelimit": '"api";r=0;t=17'}) == 17.0
    assert retry_after_s({}) is None and retry_after_s({"retry-after": "soon"}) is None


def test_every_fault_has_words_that_show_its_host_and_nothing_unfilled() -> None:
    for kind in WORDS:
        text = str(Fault(kind, "hub.test:8443", "503"))
        assert "{" not in text and len(text) < 160
    assert WORDS.keys() >= OF_THE_REPO | RETRYABLE
    assert not OF_THE_REPO & RETRYABLE
    assert {RAISED[name] for name in RAISED} | {ANSWERED[name] for name in ANSWERED} <= WORDS.keys()


def test_the_faults_of_the_test_hub_that_never_answer_rightly_are_all_told_in_words() -> None:
    """A new fault of the test hub has to be given its words here."""
    passing = {"slow_headers", "slow_dns", "fails_2_then_recovers", "hang_api", "hang_cdn", "portal_get"}
    of_the_body = {"reset_mid_body", "truncated_body", "stall", "drip", "cdn_down", "cdn_503"}
    known = IN_WORDS.keys() | RAISED.keys() | ANSWERED.keys() | passing | of_the_body
    assert {name for name in FAULTS if not name.endswith("_once")} <= known


def test_a_user_of_a_json_log_gets_the_parts_of_an_error_as_values(hub: Hub, cache: Path, commit: str) -> None:
    with hub.faulty("portal_200") as access, access.apply(cache), pytest.raises(NotCachedError) as raised:
        st.AutoModel.from_pretrained("me/none")
    error = raised.value
    record = json.loads(json.dumps({"code": error.code, "why": error.why, **error.details}))
    assert record["code"] == "ST-HUB-005" and record["fault"] == "portal" and record["commits"] == []


def test_a_user_who_makes_our_warnings_errors_gets_one_and_no_model(hub: Hub, cache: Path, commit: str) -> None:
    with hub.faulty("refused") as access, access.apply(cache), warnings.catch_warnings():
        warnings.simplefilter("error", CachedCopyWarning)
        for _ in range(2):  # the second time too: what became an error was not told yet
            with pytest.raises(CachedCopyWarning, match=commit):
                st.AutoModel.from_pretrained(REPO)
