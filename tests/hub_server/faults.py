"""The faults by name: what the network, a proxy or the hub can do to a client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from . import acts
from .acts import Act
from .doors import Door
from .exchange import Exchange
from .messages import Kind, Reply, error_reply, html_reply

HUB: tuple[Kind, ...] = ("api", "resolve", "other")
EVERYWHERE: tuple[Kind, ...] = (*HUB, "cdn")
FILES: tuple[Kind, ...] = ("resolve", "cdn")
SLOW_DNS_S = 20.0
SLOW_HEADERS_S = 3.0
RETRY_AFTER_S = 30


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes:
        name: What ``FAULTS`` calls it.
        act: What is done to a request; None answers rightly, for faults that lie at the door.
        door: Which address the client is given; a door other than the hub's own can be the whole fault.
        on: The services whose requests it hits.
        methods: The HTTP methods it hits; None hits all.
        files_only: Hit only answers that carry a file's bytes.
        at_connect: Act on the connection, before a request is read: on every port of a service in ``on``.
        times: How many requests (or connections) it hits before all is well again; None never recovers.
        dns_delay_s: Seconds that each look-up of the door's host name takes.
    """

    name: str
    act: Act | None = None
    door: Door = Door.HUB
    on: tuple[Kind, ...] = EVERYWHERE
    methods: tuple[str, ...] | None = None
    files_only: bool = False
    at_connect: bool = False
    times: int | None = None
    dns_delay_s: float = 0.0

    def hits(self, exchange: Exchange) -> bool:
        """Whether this request is one that the fault is about."""
        request = exchange.request
        return (
            self.act is not None
            and not self.at_connect
            and request.kind in self.on
            and (self.methods is None or request.method in self.methods)
            and (not self.files_only or exchange.has_file_body)
        )

    def on_kinds(self, *kinds: Kind) -> Fault:
        """The same fault for the requests to these services only."""
        return replace(self, on=kinds)

    def fails_then_recovers(self, times: int) -> Fault:
        """The same fault for the first so many requests only."""
        return replace(self, times=times)


def status(code: int, name: str | None = None, *, on: tuple[Kind, ...] = EVERYWHERE, retry_after: str = "") -> Fault:
    """An HTTP status with a short page, as from a load balancer."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    reply = html_reply(f"<html><body><h1>{code}</h1></body></html>", code, headers)
    return Fault(name or f"status_{code}", acts.answer_with(reply), on=on)


def hub_error(name: str, code: int, error_code: str | None, message: str) -> Fault:
    """An error that the hub itself tells, with its headers."""
    return Fault(name, acts.answer_with(error_reply(code, error_code, message)), on=HUB)


def slow_headers(seconds: float) -> Fault:
    """The hub answers each request rightly, after so many seconds."""
    return Fault("slow_headers", acts.answer_after(seconds))


def slow_dns(seconds: float) -> Fault:
    """Each look-up of the hub's name takes so many seconds, and succeeds."""
    return Fault("slow_dns", door=Door.NAMED, dns_delay_s=seconds)


def _rate_limited_with_window() -> Fault:
    headers = {"RateLimit": '"api";r=0;t=30', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
    reply = error_reply(429, None, "You have reached your 'api' rate limit.", headers)
    return Fault("rate_limited_window", acts.answer_with(reply))


def _file_fault(name: str, act: Act, times: int | None = None) -> Fault:
    return Fault(name, act, on=FILES, files_only=True, times=times)


def _proxy_faults() -> Iterable[Fault]:
    challenge = {"Proxy-Authenticate": 'Basic realm="proxy"', "Connection": "close"}
    replies = {
        407: html_reply("<h1>Proxy authentication required</h1>", 407, challenge),
        403: html_reply("<h1>Blocked by the company proxy</h1>", 403, {"Connection": "close"}),
        502: html_reply("<h1>Bad gateway</h1>", 502, {"Connection": "close"}),
    }
    for suffix, door in (("", Door.PROXY_HTTPS), ("_http", Door.PROXY_HTTP)):
        for code, reply in replies.items():
            yield Fault(f"proxy_{code}{suffix}", _then_close(reply), door=door, on=("proxy",))
        yield Fault(f"proxy_hang{suffix}", acts.hang, door=door, on=("proxy",))
    yield Fault("proxy_down", door=Door.DEAD_PROXY_HTTPS)
    yield Fault("proxy_down_http", door=Door.DEAD_PROXY_HTTP)


def _then_close(reply: Reply) -> Act:
    def act(exchange: Exchange) -> bool:
        exchange.send(reply)
        return False

    return act


_FIREWALL_PAGE = (
    "<!doctype html><html><body><h1>Access denied</h1>Category: file sharing. Ask your administrator.</body></html>"
)
_LEGAL_PAGE = "<!doctype html><html><body><h1>451</h1>Unavailable for legal reasons.</body></html>"

_ALL = (
    Fault("refused", door=Door.CLOSED),
    Fault("dns_failure", door=Door.UNKNOWN_NAME),
    slow_dns(SLOW_DNS_S),
    Fault("hang", acts.hang),
    Fault("hang_api", acts.hang, on=("api",)),
    Fault("hang_cdn", acts.hang, on=("cdn",)),
    Fault("syn_dropped", door=Door.FULL),
    Fault("tls_to_plain", door=Door.TLS_TO_PLAIN),
    Fault("self_signed", door=Door.SELF_SIGNED),
    Fault("corporate_ca", door=Door.CORPORATE_CA),
    Fault("tls_hang", door=Door.TLS_HANG),
    Fault("reset", acts.reset, at_connect=True),
    Fault("close", acts.close, at_connect=True),
    *(status(code) for code in (500, 502, 503, 504)),
    status(429, "rate_limited"),
    status(429, "rate_limited_retry_after", retry_after=str(RETRY_AFTER_S)),
    _rate_limited_with_window(),
    Fault("firewall_403_html", acts.answer_with(html_reply(_FIREWALL_PAGE, 403))),
    Fault("blocked_451_html", acts.answer_with(html_reply(_LEGAL_PAGE, 451))),
    hub_error("unauthorized_401", 401, "RepoNotFound", "Invalid username or password."),
    hub_error("bad_token_401", 401, None, "Invalid credentials in Authorization header"),
    hub_error("gated", 403, "GatedRepo", "Access to this model is restricted and you are not in the authorized list."),
    hub_error("gone_repo", 404, "RepoNotFound", "Repository not found"),
    hub_error("gone_revision", 404, "RevisionNotFound", "Invalid rev id: main"),
    *_proxy_faults(),
    Fault("portal_200", acts.portal_page),
    Fault("portal_redirect", acts.redirect_to_portal),
    Fault("portal_get", acts.portal_page, methods=("GET",)),
    Fault("redirect_loop", partial(acts.redirect_in_circles, absolute=False)),
    Fault("redirect_loop_absolute", partial(acts.redirect_in_circles, absolute=True)),
    _file_fault("reset_mid_body", acts.reset_mid_body),
    _file_fault("reset_mid_body_once", acts.reset_mid_body, times=1),
    _file_fault("truncated_body", acts.truncate_body),
    _file_fault("truncated_body_once", acts.truncate_body, times=1),
    _file_fault("stall", acts.stall),
    _file_fault("stall_once", acts.stall, times=1),
    _file_fault("drip", acts.drip),
    Fault("drip_headers", acts.drip_headers),
    slow_headers(SLOW_HEADERS_S),
    Fault("cdn_down", acts.lose_the_cdn, on=("resolve",)),
    status(503, "cdn_503", on=("cdn",)),
    replace(status(503, "fails_2_then_recovers"), times=2),
)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
