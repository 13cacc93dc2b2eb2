"""The test hub: its ports, its repositories, its record of requests, and the fault that is on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from typing_extensions import Self

from .access import Access
from .doors import Door, Opened, open_door
from .exchange import Exchange, Places, requests_on
from .faults import FAULTS, Fault
from .listener import LOCALHOST, Listener, closed_port
from .messages import Kind, Reply, Request
from .protocol import Protocol, kind_of
from .store import LFS_PATTERNS, Repo, Store


class _ActiveFault:
    """A fault that is on, with how often it may still strike."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._left = fault.times

    def act(self, exchange: Exchange) -> bool:
        """Do it; returns whether the connection can be used further."""
        assert self.fault.act is not None
        return self.fault.act(exchange)

    def strikes(self, exchange: Exchange) -> bool:
        """Whether it hits this request; counts it."""
        return self.fault.hits(exchange) and self._take()

    def strikes_at_connect(self, service: Kind) -> bool:
        """Whether it hits a connection that was just accepted; counts it."""
        return self.fault.at_connect and service in self.fault.on and self._take()

    def _take(self) -> bool:
        with self._lock:
            if self.ended.is_set() or self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True


class Hub:
    """A hub on 127.0.0.1, for as long as its ``with`` block.

    Attributes:
        requests: Every request that was read, in the order of arrival.
        connections: The service of every accepted connection: ``api`` stands for the hub's main port.
        page_size: Entries of a tree listing per page.

    Example:
        >>> with Hub() as hub:
        ...     commit = hub.add("me/model", {"config.json": b"{}"})
        ...     len(commit), hub.url.startswith("http://127.0.0.1:")
        (40, True)
    """

    def __init__(self, *, page_size: int = 1000, xet_store: str | None = None) -> None:
        self.requests: list[Request] = []
        self.connections: list[Kind] = []
        self.page_size, self.xet_store = page_size, xet_store
        self._store = Store()
        self._active: _ActiveFault | None = None
        self._stack = ExitStack()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._main = self._listen(self._serve_hub)
        self._cdn = self._listen(self._serve_cdn)
        portal = self._listen(self._serve_portal)
        dead_port = self._stack.enter_context(closed_port())
        self._places = Places(self.cdn_url, portal.url, f"http://{LOCALHOST}:{dead_port}")
        self._protocol = Protocol(self._store, self.cdn_url, self.page_size, self.xet_store)
        self._stack.callback(self._closing.set)  # before any port closes, so that no thread is waited for in vain
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._active is not None:
            self._active.ended.set()
        self._stack.close()

    @property
    def url(self) -> str:
        """The endpoint of the healthy hub."""
        return self._main.url

    @property
    def cdn_url(self) -> str:
        """The address of the file store that LFS files are redirected to."""
        return self._cdn.url

    def add(
        self,
        repo_id: str,
        files: Path | Mapping[str, bytes],
        *,
        lfs: Sequence[str] = LFS_PATTERNS,
        branch: str = "main",
    ) -> str:
        """Commit files to a branch of a repository; both are made when absent.

        Args:
            repo_id: Such as ``me/model`` or ``gpt2``.
            files: A folder, or contents by path. They are all of the new commit: what is left out is gone.
            lfs: Patterns of file names that are stored as LFS files, and so come from the file store.
            branch: The branch that moves to the new commit.

        Returns:
            The commit's hash, 40 hex digits.
        """
        return self._store.add(repo_id, files, lfs, branch)

    def tag(self, repo_id: str, name: str, commit: str) -> None:
        """Give a commit a tag."""
        repo = self._repo(repo_id)
        assert commit in repo.commits, commit
        repo.tags[name] = commit

    def gate(self, repo_id: str) -> None:
        """Give the repository's files to nobody: 401 for the anonymous, 403 for anyone with a token."""
        self._repo(repo_id).gated = True

    def remove(self, repo_id: str) -> None:
        """Delete the repository."""
        self._store.remove(repo_id)

    def remove_revision(self, repo_id: str, revision: str) -> None:
        """Delete a branch, a tag or a commit."""
        self._store.remove_revision(repo_id, revision)

    def clear(self) -> None:
        """Forget the recorded requests and connections."""
        self.requests.clear()
        self.connections.clear()

    @property
    def access(self) -> Access:
        """How a client reaches the healthy hub."""
        return Access(self.url, Opened(self.url).env)

    def applied(self, cache: Path | None = None, *, token: str | None = None) -> AbstractContextManager[None]:
        """Make huggingface_hub and transformers of this process use the healthy hub; see `Access.apply`."""
        return self.access.apply(cache, token=token)

    @contextmanager
    def faulty(self, fault: str | Fault) -> Iterator[Access]:
        """Break the hub for as long as the block lasts.

        Args:
            fault: A fault, or its name in ``FAULTS``.

        Yields:
            How a client is to reach the hub now; for many faults the address itself is what is broken.
        """
        assert self._active is None, "one fault at a time"
        active = _ActiveFault(FAULTS[fault] if isinstance(fault, str) else fault)
        with ExitStack() as stack:
            self._active = active
            stack.callback(self._heal, active)
            opened = open_door(active.fault.door, self._main, active.ended, self._serve_tls, self._serve_proxy, stack)
            stack.callback(active.ended.set)
            lookup_fails = active.fault.door is Door.UNKNOWN_NAME
            yield Access(opened.endpoint, opened.env, lookup_fails, active.fault.dns_delay_s, active.ended)

    def _heal(self, active: _ActiveFault) -> None:
        active.ended.set()
        self._active = None

    def _repo(self, repo_id: str) -> Repo:
        repo = self._store.get(repo_id)
        assert repo is not None, repo_id
        return repo

    def _listen(self, serve: Callable[[socket.socket], None]) -> Listener:
        listener = Listener(serve)
        self._stack.callback(listener.close)
        return listener

    def _serve_hub(self, connection: socket.socket) -> None:
        self._serve(connection, "api", self.url, kind_of)

    def _serve_tls(self, connection: socket.socket) -> None:
        self._serve(connection, "api", f"https://{LOCALHOST}:{connection.getsockname()[1]}", kind_of)

    def _serve_cdn(self, connection: socket.socket) -> None:
        self._serve(connection, "cdn", self.cdn_url, lambda _: "cdn")

    def _serve_proxy(self, connection: socket.socket) -> None:
        self._serve(connection, "proxy", "", lambda _: "proxy")

    def _serve_portal(self, connection: socket.socket) -> None:
        self._serve(connection, "portal", "", lambda _: "portal")

    def _serve(
        self, connection: socket.socket, service: Kind, base_url: str, kind_of_path: Callable[[str], Kind]
    ) -> None:
        """Answer the requests of one connection, each as the fault of that moment wants it."""
        self.connections.append(service)
        active = self._active
        if active is not None and active.strikes_at_connect(service):
            active.act(self._exchange(Request("", "", {}, service), Reply(), connection, active))
            return
        for request in requests_on(connection, kind_of_path):
            self.requests.append(request)
            reply = self._protocol.answer(request, base_url)
            active = self._active
            exchange = self._exchange(request, reply, connection, active)
            if active is None or not active.strikes(exchange):
                exchange.send(reply)
            elif not active.act(exchange):
                return

    def _exchange(
        self, request: Request, reply: Reply, connection: socket.socket, active: _ActiveFault | None
    ) -> Exchange:
        ended = self._closing if active is None else active.ended
        return Exchange(request, reply, connection, ended, self._places)
