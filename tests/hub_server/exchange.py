"""One request on a connection, with all that a fault may do to it."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import listener
from .messages import Kind, Reply, Request

MAX_LINE_BYTES = 1 << 16
TLS_HANDSHAKE = b"\x16"


@dataclass(frozen=True)
class Places:
    """Addresses that a fault may send a client to.

    Attributes:
        cdn_url: The file store.
        portal_url: A server that answers everything with an HTML log-in page.
        dead_url: A port that refuses connections.
    """

    cdn_url: str
    portal_url: str
    dead_url: str


@dataclass(frozen=True)
class Exchange:
    """A request that was read, and the connection that waits for its answer.

    Attributes:
        request: The request.
        reply: What the healthy hub answers.
        connection: The client's connection.
        ended: Set when the fault is over or the hub closes: whatever waits must stop.
        places: Where a fault may send the client.
    """

    request: Request
    reply: Reply
    connection: socket.socket
    ended: threading.Event
    places: Places

    @property
    def has_file_body(self) -> bool:
        """Whether the healthy answer carries bytes of a file, of which half can be sent."""
        return self.request.method == "GET" and self.reply.status in {200, 206} and self.reply.length > 1

    def send(self, reply: Reply, limit: int | None = None) -> None:
        """Answer with ``reply``; with ``limit``, stop after so many bytes of the promised body."""
        self.connection.sendall(reply.head())
        if self.request.method != "HEAD":
            for chunk in reply.chunks(limit):
                self.connection.sendall(chunk)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for so long, or for ever; True when the fault ended or the client left before that."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while deadline is None or time.monotonic() < deadline:
            left = 0.2 if deadline is None else min(0.2, max(deadline - time.monotonic(), 0))
            if self.ended.wait(left) or self._client_left():
                return True
        return False

    def hang_up(self, drain_s: float) -> None:
        """Close the connection in good order, with FIN.

        What the client has sent or sends yet is read and thrown away: closing with unread bytes would send RST.
        """
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(drain_s)
        while self.connection.recv(MAX_LINE_BYTES):
            pass

    def reset(self) -> None:
        """Close the connection with RST."""
        listener.reset(self.connection)

    def _client_left(self) -> bool:
        self.connection.setblocking(False)
        try:
            # A TLS connection cannot be peeked at; socket's own recv looks at the bytes below it.
            return not socket.socket.recv(self.connection, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.setblocking(True)


def requests_on(connection: socket.socket, kind_of: Callable[[str], Kind]) -> Iterator[Request]:
    """The requests that come over a connection, until the client closes it or sends what is not HTTP."""
    with connection.makefile("rb") as stream:
        while True:
            if stream.peek(1)[:1] == TLS_HANDSHAKE:
                # As nginx does: a client that speaks TLS to a plain port must not wait for an answer.
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            words = stream.readline(MAX_LINE_BYTES).decode("latin-1").split()
            if len(words) != 3 or not words[2].startswith("HTTP/"):
                return
            method, path, _ = words
            headers = {name.lower(): value for name, value in _headers(stream).items()}
            body = stream.read(int(headers.get("content-length", "0")))
            yield Request(method, path, headers, kind_of(path), body)
            if headers.get("connection", "").lower() == "close":
                return


def _headers(stream: io.BufferedIOBase) -> http.client.HTTPMessage:
    return http.client.parse_headers(stream)
