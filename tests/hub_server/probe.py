"""A client of the standard library alone, to see what a fault really does on the wire."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

from .access import Access


@dataclass(frozen=True)
class Answer:
    """What came back, with lower-case header names."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    access: Access,
    path: str,
    *,
    method: str = "GET",
    timeout_s: float = 1.0,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request through the standard library, by the proxy that the access names."""
    url = urlsplit(access.endpoint)
    proxy = urlsplit(access.env.get("HTTPS_PROXY", ""))
    client = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    assert url.hostname
    with access.in_process():
        if not proxy.hostname:
            connection = client(url.hostname, url.port, timeout=timeout_s)
        else:
            connection = client(proxy.hostname, proxy.port, timeout=timeout_s)
            if url.scheme == "https":
                connection.set_tunnel(url.hostname, url.port)
            else:
                path = access.endpoint + path
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)
