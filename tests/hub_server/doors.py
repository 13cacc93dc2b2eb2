"""The addresses under which a client is told to find the hub: good ones, dead ones, and those behind a proxy."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from socket import socket
from threading import Event

import trustme

from .listener import LOCALHOST, Listener, closed_port, full_port

HOST_NAME = "hub.example.test"
"""The hub's name for faults of name look-up and of proxies; ``.test`` is reserved and never resolves (RFC 6761)."""

_NO_PROXY = {"NO_PROXY": "*", "no_proxy": "*"}


class Door(Enum):
    """Where the client is sent."""

    HUB = auto()
    CLOSED = auto()
    FULL = auto()
    TLS_TO_PLAIN = auto()
    SELF_SIGNED = auto()
    CORPORATE_CA = auto()
    TLS_HANG = auto()
    NAMED = auto()
    UNKNOWN_NAME = auto()
    PROXY_HTTPS = auto()
    PROXY_HTTP = auto()
    DEAD_PROXY_HTTPS = auto()
    DEAD_PROXY_HTTP = auto()


@dataclass(frozen=True)
class Opened:
    """A door that is open.

    Attributes:
        endpoint: The address to give to the client.
        env: Environment variables that the client needs to get there.
    """

    endpoint: str
    env: Mapping[str, str] = field(default_factory=lambda: dict(_NO_PROXY))


def open_door(
    door: Door,
    hub: Listener,
    ended: Event,
    serve_tls: Callable[[socket], None],
    serve_proxy: Callable[[socket], None],
    stack: ExitStack,
) -> Opened:
    """Open the ports that a door needs; ``stack`` closes them.

    Args:
        door: Which one.
        hub: The hub's plain port.
        ended: Set when everything that waits must stop.
        serve_tls: Serves a connection whose TLS handshake is done.
        serve_proxy: Serves a connection to the proxy.
        stack: Closes what is opened here.
    """

    def listen(serve: Callable[[socket], None], tls: ssl.SSLContext | None = None) -> Listener:
        opened = Listener(serve, tls)
        stack.callback(opened.close)
        return opened

    def wait(connection: socket) -> None:
        del connection
        ended.wait()

    if door is Door.HUB:
        return Opened(hub.url)
    if door in {Door.CLOSED, Door.FULL}:
        port = stack.enter_context(closed_port() if door is Door.CLOSED else full_port())
        return Opened(f"http://{LOCALHOST}:{port}")
    if door is Door.TLS_TO_PLAIN:
        return Opened(f"https://{LOCALHOST}:{hub.port}")
    if door in {Door.SELF_SIGNED, Door.CORPORATE_CA}:
        context = _tls_context(self_signed=door is Door.SELF_SIGNED)
        return Opened(f"https://{LOCALHOST}:{listen(serve_tls, context).port}")
    if door is Door.TLS_HANG:
        return Opened(f"https://{LOCALHOST}:{listen(wait).port}")
    if door in {Door.NAMED, Door.UNKNOWN_NAME}:
        return Opened(f"http://{HOST_NAME}:{hub.port}")
    scheme = "https" if door in {Door.PROXY_HTTPS, Door.DEAD_PROXY_HTTPS} else "http"
    if door in {Door.DEAD_PROXY_HTTPS, Door.DEAD_PROXY_HTTP}:
        port = stack.enter_context(closed_port())
    else:
        port = listen(serve_proxy).port
    return Opened(f"{scheme}://{HOST_NAME}", _proxy_env(f"http://{LOCALHOST}:{port}"))


def _proxy_env(proxy_url: str) -> dict[str, str]:
    names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
    return {**dict.fromkeys(names, proxy_url), "NO_PROXY": "", "no_proxy": "", "ALL_PROXY": "", "all_proxy": ""}


@lru_cache
def _authority() -> trustme.CA:
    return trustme.CA()


def _tls_context(*, self_signed: bool) -> ssl.SSLContext:
    """A server's context with a certificate that nobody trusts.

    It is either its own issuer, as on a test machine, or it comes with an unknown issuer, as from a company's
    inspecting proxy: OpenSSL's errors 18 and 19.
    """
    authority = _authority()
    root = authority.cert_pem.bytes()
    if self_signed:
        parts = [authority.private_key_pem.bytes(), root]
    else:
        leaf = authority.issue_cert(LOCALHOST, HOST_NAME)
        parts = [leaf.private_key_pem.bytes(), *(pem.bytes() for pem in leaf.cert_chain_pems), root]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # ssl reads certificates from files only
        chain = Path(folder, "chain.pem")
        chain.write_bytes(b"".join(parts))
        context.load_cert_chain(chain)
    return context
