"""Can the hub be reached, and at which step does it fail: name look-up, connection, TLS, the request itself?"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from .. import compat
from ..hub import urls
from ..hub.contact import NoContact, contact
from ..hub.faults import Fault, of_answer, of_exception
from .finding import Finding

TOPIC: Final = "hub"
STEP_S: Final = 5.0
_SLOW_S: Final = 2.0
_PORTS: Final = {"http": 80, "https": 443}
_ASKED: Final = "/openai-community/gpt2/resolve/main/config.json"  # what a load asks; any answer of a hub will do
_WORK_OFFLINE: Final = "work from the cache: HF_HUB_OFFLINE=1; another machine can fill it: safetransformers prefetch"
_DO: Final = {
    "dns": "getent hosts {host}; behind a firewall name a mirror or a proxy: HF_ENDPOINT, HTTPS_PROXY",
    "refused": "name a mirror or a proxy: HF_ENDPOINT, HTTPS_PROXY",
    "timeout": "a firewall may drop it: name a mirror or a proxy: HF_ENDPOINT, HTTPS_PROXY",
    "reset": "a firewall may cut it: name a mirror or a proxy: HF_ENDPOINT, HTTPS_PROXY",
    "tls_certificate": "trust your company's certificates: {certificates}=/path/to/certificates.pem",
    "tls": "does {host} speak HTTPS? look at HF_ENDPOINT, and at what inspects connections",
    "portal": "sign in to the network with a browser",
    "blocked": "ask whoever runs the firewall to allow {host} and its file stores",
    "proxy": "is the proxy's address right? HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
    "proxy_auth": "HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT",
    "proxy_denied": "ask whoever runs the proxy to allow {host}",
    "rate_limit": "wait, or sign in for a higher limit: hf auth login",
    "server": "wait: it is not on your side; https://status.huggingface.co",
}


class Step(NamedTuple):
    """One step on the way.

    Attributes:
        name: such as ``"name look-up"``.
        host: that it goes to, with its port.
        seconds: that it took.
        fault: why it failed; ``None`` where it did not.
    """

    name: str
    host: str
    seconds: float
    fault: Fault | None = None


@dataclass(frozen=True)
class Facts:
    """How far a request got.

    Attributes:
        host: of the hub, with its port; never a user name.
        is_mirror: whether ``HF_ENDPOINT`` names another than huggingface.co.
        is_private: whether ``HF_ENDPOINT`` holds a user name or password.
        proxy: host of the proxy on the way; empty where there is none.
        is_offline: whether no request is allowed, and so none was made.
        steps: up to the first that failed.
    """

    host: str
    is_mirror: bool = False
    is_private: bool = False
    proxy: str = ""
    is_offline: bool = False
    steps: tuple[Step, ...] = ()


def look(limit_s: float = STEP_S) -> Facts:
    """Go the way of a request, step by step, each within ``limit_s``. Nothing is asked where ``HF_HUB_OFFLINE`` is set.

    The TLS step only shakes hands. Whether the certificate is trusted is for the request itself to say, which
    huggingface_hub's own client makes: it may trust others than Python does.
    """
    endpoint = compat.hub_endpoint()
    parts, proxy = urlsplit(endpoint), urls.proxy_of(endpoint)
    host = urls.host(endpoint)
    via = urlsplit(proxy if "//" in proxy else f"//{proxy}") if proxy else parts
    is_mirror = parts.hostname != "huggingface.co"
    facts = Facts(host, is_mirror, compat.hub_endpoint_is_private(), _shown(via) if proxy else "")
    if compat.hub_is_offline():
        return Facts(facts.host, facts.is_mirror, facts.is_private, facts.proxy, is_offline=True)
    steps: list[Step] = []
    where = (via.hostname or "", via.port or _PORTS.get(via.scheme, 80))
    connected: list[socket.socket] = []

    def connect() -> None:
        connected.append(socket.create_connection(where, timeout=limit_s))

    def shake_hands() -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connected[0] = context.wrap_socket(connected[0], server_hostname=where[0])

    todo: list[tuple[str, Callable[[], Any]]] = [
        ("name look-up", lambda: socket.getaddrinfo(*where, type=socket.SOCK_STREAM)),
        ("connection", connect),
    ]
    if parts.scheme == "https" and not proxy:
        todo.append(("TLS handshake", shake_hands))
    todo.append(("request", lambda: _ask(host, limit_s, by_proxy=bool(proxy))))
    try:
        for name, do in todo:
            step = _timed(name, facts.proxy or host, do, limit_s, by_proxy=bool(proxy))
            steps.append(step)
            if step.fault is not None:
                break
    finally:
        for one in connected:
            one.close()
    return Facts(facts.host, facts.is_mirror, facts.is_private, facts.proxy, steps=tuple(steps))


def findings(facts: Facts) -> Iterator[Finding]:
    """What there is to say about it."""
    named = f"{facts.host}{' (HF_ENDPOINT)' if facts.is_mirror else ''}"
    if facts.is_private:
        why = "transformers and others repeat it in errors and logs"
        do = "HF_ENDPOINT without them, and HF_TOKEN or ~/.netrc for the secret"
        yield Finding(TOPIC, "problem", "HF_ENDPOINT holds a user name or password", why, do)
    if facts.is_offline:
        why = "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set: loads read the cache only"
        yield Finding(TOPIC, "note", f"{named} was not asked", why, "HF_HUB_OFFLINE=0 safetransformers doctor")
        return
    way = f" through the proxy {facts.proxy}" if facts.proxy else ""
    took = ", ".join(f"{step.name} {step.seconds * 1000:.0f} ms" for step in facts.steps)
    last = facts.steps[-1]
    if last.fault is not None:
        why = f"{last.fault} ({took})"
        host = facts.proxy if last.fault.kind in ("proxy", "proxy_auth") else facts.host
        do = _DO.get(last.fault.kind, _WORK_OFFLINE).format(
            host=host.partition(":")[0], certificates=compat.wire().certificate_variables[0]
        )
        do = do if do == _WORK_OFFLINE else f"{do}; or {_WORK_OFFLINE}"
        yield Finding(TOPIC, "problem", f"{named} cannot be reached{way}: the {last.name} fails", why, do)
        return
    slow = [step.name for step in facts.steps if step.seconds > _SLOW_S]
    if slow:
        why = f"the {' and the '.join(slow)} took long: {took}. Every load asks several times"
        do = 'safetransformers.configure(offline="prefer") loads what is cached without asking'
        yield Finding(TOPIC, "note", f"{named} answers{way}, slowly", why, do)
    else:
        yield Finding(TOPIC, "ok", f"{named} answers{way}: {took}")


def _ask(host: str, limit_s: float, *, by_proxy: bool) -> None:
    """One request as loads make it; an answer about the repository is one of a hub."""

    def judge(answer: Any) -> Fault | None:
        headers = {str(name).lower(): str(value) for name, value in answer.headers.items()}
        fault = of_answer(answer.status_code, headers, host)
        return None if fault is not None and fault.is_of_the_repo else fault

    contact(lambda: compat.hub_head(_ASKED, limit_s), judge, host, lambda: limit_s, by_proxy=by_proxy).close()


def _timed(name: str, host: str, do: Callable[[], Any], limit_s: float, *, by_proxy: bool) -> Step:
    """Run one step in a thread, which is left to itself when the time is over: a look-up knows no time-out."""
    failed: list[Exception] = []
    done = threading.Event()
    ways_to_fail: tuple[type[Exception], ...] = (OSError, NoContact, *compat.wire().errors)

    def run() -> None:
        try:
            do()
        except ways_to_fail as error:
            failed.append(error)
        done.set()

    start_s = time.monotonic()
    threading.Thread(target=run, name="safetransformers-doctor", daemon=True).start()
    if not done.wait(limit_s + 0.5):
        failed.append(TimeoutError())
    seconds = time.monotonic() - start_s
    if not failed:
        return Step(name, host, seconds)
    error = failed[0]
    fault = error.fault if isinstance(error, NoContact) else of_exception(error, host, by_proxy=by_proxy)
    return Step(name, host, seconds, fault)


def _shown(parts: Any) -> str:
    """Host and port, without a user name and password."""
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
