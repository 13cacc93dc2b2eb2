"""What travels between a client and the test hub: requests as they were read, replies before they are written."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from .store import Blob

Kind: TypeAlias = Literal["api", "resolve", "cdn", "proxy", "portal", "other"]
"""Which service a request is for: the API, a file's address, the store of LFS files, the proxy, a portal's page."""

PORTAL_PAGE = (
    "<!doctype html><html><head><title>Sign in to the network</title></head>"
    "<body><form>Guest Wi-Fi: accept the terms of use to continue.</form></body></html>"
)


@dataclass(frozen=True)
class Request:
    """One request that reached a server of the test hub.

    Attributes:
        method: The HTTP method, or ``CONNECT`` at the proxy.
        path: The request's target as sent: path and query.
        headers: Header values by lower-case name.
        kind: Which service it was for.
        body: The request's body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    kind: Kind
    body: bytes = b""

    @property
    def authenticated(self) -> bool:
        """Whether the client sent a token."""
        return "authorization" in self.headers


@dataclass(frozen=True)
class Reply:
    """A whole answer: what is sent for a GET; for a HEAD the same without the body.

    Attributes:
        status: HTTP status code.
        headers: Header values by name, without Content-Length.
        body: The bytes, or a stored file.
        start: First byte of ``body`` to send.
        stop: Where to end; None sends all.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Blob = b""
    start: int = 0
    stop: int | None = None

    @property
    def length(self) -> int:
        """How many bytes of body a GET gets."""
        size = len(self.body) if isinstance(self.body, bytes) else self.body.size
        return (size if self.stop is None else self.stop) - self.start

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """The body that a GET gets, or its first ``limit`` bytes."""
        length = self.length if limit is None else min(limit, self.length)
        blob = Blob(self.body, len(self.body), oid="") if isinstance(self.body, bytes) else self.body
        return blob.read(self.start, self.start + length)

    def head(self) -> bytes:
        """Status line and headers, with the blank line that ends them."""
        reason = http.client.responses.get(self.status, "")
        lines = [f"HTTP/1.1 {self.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {self.length}", "", ""]
        return "\r\n".join(lines).encode("latin-1")


def json_reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply with a JSON body."""
    everything = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Reply(status, everything, json.dumps(data).encode())


def html_reply(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply with an HTML page, as from anything that is not the hub."""
    return Reply(status, {"Content-Type": "text/html; charset=utf-8", **(headers or {})}, text.encode())


def error_reply(status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error as the hub tells it: in headers, because a HEAD has no body, and in JSON."""
    marks = {"X-Error-Message": message, **(headers or {})}
    if code is not None:
        marks["X-Error-Code"] = code
    return json_reply({"error": message}, status, marks)


def ranged(reply: Reply, wanted: str | None) -> Reply:
    """The part of a stored file that a Range header asks for: 206, or 416 where the file has no such bytes."""
    if reply.status != 200 or not wanted or not wanted.startswith("bytes=") or "," in wanted:
        return reply
    first, dash, last = wanted.removeprefix("bytes=").strip().partition("-")
    if not dash or not (first + last).isdigit():
        return reply
    size = reply.length
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        return Reply(416, {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})
    headers = {**reply.headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return replace(reply, status=206, headers=headers, start=start, stop=stop)
