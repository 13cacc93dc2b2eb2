"""Ports on 127.0.0.1 and the threads behind them: all end when their owner closes them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOCALHOST = "127.0.0.1"
_JOIN_S = 5.0


class Listener:
    """A port whose every connection is served by a thread of its own.

    Args:
        serve: Called with each accepted connection, in the connection's thread; the connection is closed after it.
        tls: Makes every connection a TLS one before it is served.
    """

    def __init__(self, serve: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._tls = tls
        self._socket = _bound()
        self._socket.listen(128)
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._closed = False
        self.port = port_of(self._socket)
        self._acceptor = threading.Thread(target=self._accept, name=f"test-hub-{self.port}", daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """The address for plain HTTP."""
        return f"http://{LOCALHOST}:{self.port}"

    def close(self) -> None:
        """Stop listening, cut every connection and wait for the threads."""
        with self._lock:
            self._closed = True
            open_connections = dict(self._connections)
        # On Linux a thread in accept() is woken by shutdown, not by close; elsewhere it is the other way round.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in open_connections.values():
            cut(connection)
        for thread in (self._acceptor, *open_connections):
            thread.join(_JOIN_S)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self._tls is not None:
                # The handshake is left to the connection's thread: a client that never sends one holds up nobody else.
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            thread = threading.Thread(target=self._run, args=(connection,), name=f"test-hub-{self.port}", daemon=True)
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._connections[thread] = connection
                thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            # A client that goes away in the middle is what many tests are about.
            with contextlib.suppress(OSError):
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                self._serve(connection)
        finally:
            connection.close()
            with self._lock:
                self._connections.pop(threading.current_thread(), None)


def port_of(listening: socket.socket) -> int:
    """The port that a socket is bound to."""
    port = listening.getsockname()[1]
    assert isinstance(port, int)
    return port


def cut(connection: socket.socket) -> None:
    """End a connection in both directions; a thread that reads from it or writes to it is woken."""
    with contextlib.suppress(OSError):
        # A TLS socket's own shutdown() would drop the TLS layer that its thread still uses.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Close a connection with RST instead of FIN: the peer sees "connection reset"."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else gets it, and never listening."""
    with _bound() as unused:
        yield port_of(unused)


@contextmanager
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops every further SYN, so that connecting hangs."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_bound())
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield port_of(listening)


def _bound() -> socket.socket:
    bound = socket.socket()
    bound.bind((LOCALHOST, 0))
    return bound
