"""The doctor goes the way to the hub step by step, and names the one that fails."""

from __future__ import annotations

import socket
import time

import pytest
from hub_server import Access, Hub

from safetransformers.doctor import hub as doctor
from safetransformers.doctor.finding import Finding

LIMIT_S = 1.0


def looked(access: Access) -> tuple[doctor.Facts, Finding]:
    with access.apply():
        facts = doctor.look(LIMIT_S)
        (finding,) = doctor.findings(facts)
    return facts, finding


def test_a_hub_that_answers_is_fine_with_the_time_of_each_step() -> None:
    with Hub() as hub:
        facts, finding = looked(hub.access)
        assert [request.method for request in hub.requests] == ["HEAD"]
        assert not any(name.lower() == "authorization" for name in hub.requests[0].headers)
    assert [step.name for step in facts.steps] == ["name look-up", "connection", "request"]
    assert finding.level == "ok" and all(f"{step.name} " in finding.what for step in facts.steps)
    assert "(HF_ENDPOINT)" in finding.what


@pytest.mark.parametrize(
    ("fault", "step", "kind"),
    [
        ("dns_failure", "name look-up", "dns"),
        ("refused", "connection", "refused"),
        ("syn_dropped", "connection", "timeout"),
        ("tls_to_plain", "TLS handshake", "tls"),
        ("tls_hang", "TLS handshake", "timeout"),
        ("self_signed", "request", "tls_certificate"),
        ("portal_200", "request", "portal"),
        ("portal_redirect", "request", "portal"),
        ("firewall_403_html", "request", "blocked"),
        ("hang", "request", "timeout"),
        ("status_503", "request", "server"),
        ("proxy_407", "request", "proxy_auth"),
        ("proxy_down", "connection", "proxy"),
    ],
)
def test_the_step_that_fails_is_named_with_its_cause_and_what_to_do(fault: str, step: str, kind: str) -> None:
    with Hub() as hub, hub.faulty(fault) as access:
        start_s = time.monotonic()
        facts, finding = looked(access)
        assert time.monotonic() - start_s < 4 * (LIMIT_S + 0.5) + 2
    last = facts.steps[-1]
    assert (last.name, last.fault and last.fault.kind) == (step, kind)
    assert finding.level == "problem" and step in finding.what and finding.why and "HF_HUB_OFFLINE=1" in finding.do


def test_where_no_request_is_allowed_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetransformers.compat.hub_is_offline", lambda: True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    with Hub() as hub:
        (finding,) = doctor.findings(doctor.look(LIMIT_S))
        assert hub.connections == []
    assert finding.level == "note" and "was not asked" in finding.what and "HF_HUB_OFFLINE" in finding.why


def test_a_look_up_that_hangs_ends_within_its_limit() -> None:
    with Hub() as hub, hub.faulty("slow_dns") as access:
        facts, finding = looked(access)
    assert [step.name for step in facts.steps] == ["name look-up"] and facts.steps[0].seconds < LIMIT_S + 1
    assert finding.level == "problem"


def test_a_hub_that_answers_slowly_is_a_note() -> None:
    steps = (doctor.Step("name look-up", "hub", 0.01), doctor.Step("request", "hub", 3.0))
    (finding,) = doctor.findings(doctor.Facts("hub", steps=steps))
    assert finding.level == "note" and "request took long" in finding.why and finding.do


def test_the_password_of_a_proxy_or_of_a_mirror_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://user:hunter2@127.0.0.1:9")
    with Hub() as hub:
        proxied = Access("http://user:hunter2@hub.example.test", {"NO_PROXY": "", "no_proxy": ""})
        with proxied.apply():
            facts = doctor.look(LIMIT_S)
        found = list(doctor.findings(facts))
        assert hub.connections == []
    assert facts.proxy == "127.0.0.1:9" and facts.is_private
    assert [one.level for one in found] == ["problem", "problem"] and "through the proxy 127.0.0.1:9" in found[1].what
    assert "hunter2" not in "".join(map(str, found)) + repr(facts)
