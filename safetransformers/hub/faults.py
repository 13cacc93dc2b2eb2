"""What went wrong on the way to the hub, in plain words: read from an exception or an answer of any HTTP library."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

WORDS: Final = {
    "dns": "the name of {host} cannot be resolved (DNS)",
    "refused": "{host} refuses the connection",
    "timeout": "no answer from {host} in time (packets dropped by a firewall, or a slow or hanging "
    "server; HF_HUB_ETAG_TIMEOUT=<seconds> gives it longer)",
    "tls_certificate": "the TLS certificate of {host} is not trusted",
    "tls": "the TLS handshake with {host} fails",
    "reset": "the connection to {host} is cut",
    "proxy": "the proxy on the way to {host} cannot be used ({status})",
    "proxy_auth": "the proxy asks for a user name and password (407)",
    "proxy_denied": "the proxy does not allow {host} ({status})",
    "proxy_error": "the proxy cannot reach {host} ({status})",
    "portal": "something between here and {host} answers in its place (a captive portal or a login page)",
    "blocked": "a firewall blocks {host} ({status})",
    "redirects": "{host} redirects in a circle",
    "rate_limit": "{host} limits the rate of requests (429)",
    "server": "{host} has a server error ({status})",
    "unauthorized": "{host} does not accept the credentials (401)",
    "gated": "the repository is gated, and access was not granted",
    "no_repo": "{host} has no such repository, or none that these credentials may see",
    "no_revision": "{host} has no such revision",
    "read_only": "the cache cannot be written, and the hub has moved on",
    "slow": "the download from {host} stalls",
    "unknown": "the request to {host} fails ({status})",
}
OF_THE_REPO: Final = frozenset({"unauthorized", "gated", "no_repo", "no_revision"})
RETRYABLE: Final = frozenset(
    {"refused", "proxy_error", "reset", "server", "tls", "dns"}
)  # what often passes within seconds

_TUNNEL: Final = re.compile(r"(?:Tunnel connection failed: |^|\s)(\d{3}) [A-Z]")
_DAY_S: Final = 86_400


@dataclass(frozen=True)
class Fault:
    """Why a request got no answer that counts.

    Attributes:
        kind: a key of ``WORDS``.
        host: that was asked, with its port.
        status: the HTTP status, or the name of an exception; empty where neither says more than the kind.
        retry_after_s: seconds that the hub asked to wait; ``None`` where it did not.
    """

    kind: str
    host: str
    status: str = ""
    retry_after_s: float | None = None

    def __str__(self) -> str:
        wait = "" if self.retry_after_s is None else f", and asks to wait {self.retry_after_s:.0f} s"
        return WORDS[self.kind].format(host=self.host, status=self.status) + wait

    @property
    def is_answer(self) -> bool:
        """Whether the hub itself answered, and may answer other requests better."""
        return self.kind in ("server", "rate_limit")

    @property
    def is_of_the_repo(self) -> bool:
        """Whether the hub itself answered, about this repository: no fault of the network."""
        return self.kind in OF_THE_REPO


def of_exception(error: BaseException, host: str, *, by_proxy: bool = False) -> Fault:
    """The fault behind an exception of httpx, httpx2, requests, urllib3 or the standard library.

    Args:
        error: that the client raised.
        host: that was asked.
        by_proxy: whether the way to it is through a proxy, which is what then cannot be reached.
    """
    fault = _of_exception(error, host)
    if by_proxy and fault.kind in ("dns", "refused", "timeout"):
        return Fault("proxy", host, fault.kind)
    return fault


def _of_exception(error: BaseException, host: str) -> Fault:
    chain = list(_chain(error))
    names = " ".join(type(link).__name__ for link in chain)
    text = " ".join(str(link) for link in chain)
    if "ProxyError" in names or "Tunnel connection failed" in text:
        return _of_proxy(text, host)
    for kind, classes in (
        ("dns", (socket.gaierror,)),
        ("tls_certificate", (ssl.SSLCertVerificationError,)),
        ("refused", (ConnectionRefusedError,)),
        ("reset", (ConnectionResetError, BrokenPipeError)),
        ("timeout", (TimeoutError,)),
        ("tls", (ssl.SSLError,)),
    ):
        if any(isinstance(link, classes) for link in chain):
            return Fault(kind, host)
    for kind, pattern in (
        ("dns", "NameResolution|Name or service not known|getaddrinfo|nodename nor servname"),
        ("tls_certificate", "CERTIFICATE_VERIFY_FAILED"),
        ("timeout", "Timeout|timed out"),
        ("tls", "SSLError|SSL:"),
        ("redirects", "TooManyRedirects|RecursionError"),
        ("refused", "Connection refused"),
        ("reset", "RemoteProtocolError|RemoteDisconnected|ReadError|ProtocolError|Connection reset|ConnectError"),
    ):
        if re.search(pattern, f"{names} {text}"):
            return Fault(kind, host)
    return Fault("unknown", host, type(error).__name__)


def of_answer(status: int, headers: Mapping[str, str], host: str) -> Fault | None:
    """The fault that an answer's status and headers show; ``None`` for an answer that counts, such as a plain 404.

    Args:
        status: of HTTP.
        headers: with names in lower case.
        host: that was asked.
    """
    code, is_page = headers.get("x-error-code", ""), is_html(headers)
    if status == 429:
        return Fault("rate_limit", host, "429", retry_after_s(headers))
    if status >= 500:
        return Fault("server", host, str(status), retry_after_s(headers))
    if status == 408:
        return Fault("timeout", host, "408")
    if status == 407:
        return Fault("proxy_auth", host, "407")
    if status < 400:
        return Fault("portal", host) if is_page else None
    if code == "GatedRepo":
        return Fault("gated", host)
    if code == "RepoNotFound" or (status == 401 and not is_page and not headers.get("x-error-message")):
        return Fault("no_repo", host)
    if code == "RevisionNotFound":
        return Fault("no_revision", host)
    if code == "EntryNotFound":
        return None
    if status in (401, 403) and headers.get("x-error-message"):
        return Fault("unauthorized", host)
    if is_page or status in (403, 451):
        return Fault("blocked", host, str(status))
    return None


def is_html(headers: Mapping[str, str]) -> bool:
    """Whether an answer is a page for people."""
    return headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait: ``Retry-After`` in seconds (RFC 9110), or the reset of ``RateLimit``."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return min(float(value), _DAY_S)
    reset = re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
    return min(float(reset[1]), _DAY_S) if reset else None


def _of_proxy(text: str, host: str) -> Fault:
    found = _TUNNEL.search(text)
    status = found[1] if found else ""
    if status == "407":
        return Fault("proxy_auth", host, status)
    if status in ("401", "403", "451"):
        return Fault("proxy_denied", host, status)
    if status.startswith("5"):
        return Fault("proxy_error", host, status)
    return Fault("proxy", host, status or "no connection")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it came from; urllib3 keeps them in ``reason`` and in ``args``.

    ``__context__`` says only what was being handled before, which may be another fault of the same download.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (link.__cause__, getattr(link, "reason", None), *link.args)
        waiting.extend(part for part in inner if isinstance(part, BaseException))
