"""How a client reaches the test hub: an address, environment variables, and what must be changed in this process."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from .clients import pointed_at
from .doors import HOST_NAME
from .listener import LOCALHOST


@dataclass(frozen=True)
class Access:
    """The way to the hub while a fault is on, or to the healthy hub.

    Attributes:
        endpoint: What ``HF_ENDPOINT`` has to be.
        env: Environment variables to set, proxies above all. An empty value means that the variable must be unset.
        lookup_fails: Whether the host name cannot be resolved.
        lookup_delay_s: Seconds that each look-up of the host name takes.
        ended: Set when the fault is over: a slow look-up stops then.
    """

    endpoint: str
    env: Mapping[str, str]
    lookup_fails: bool = False
    lookup_delay_s: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def in_process(self) -> Iterator[None]:
        """Change the parts of this process that no address reaches: how `HOST_NAME` is looked up."""
        with mock.patch.object(socket, "getaddrinfo", self._lookup(socket.getaddrinfo)):
            yield

    @contextmanager
    def apply(self, cache: Path | None = None, *, token: str | None = None) -> Iterator[None]:
        """Make huggingface_hub and transformers, already imported in this process, go to the endpoint; then restore.

        Args:
            cache: The folder to use in place of ``HF_HUB_CACHE``; None keeps it.
            token: The user's token. None makes the client anonymous, whoever is logged in on this machine.
        """
        env = {**self.env, "HF_ENDPOINT": self.endpoint, "HF_TOKEN": token or "", "HUGGING_FACE_HUB_TOKEN": ""}
        if cache is not None:
            env["HF_HUB_CACHE"] = str(cache)
        with ExitStack() as stack:
            stack.enter_context(_environment(env))
            stack.enter_context(self.in_process())
            stack.enter_context(pointed_at(self.endpoint, None if cache is None else str(cache)))
            yield

    def _lookup(self, system: Callable[..., Any]) -> Callable[..., Any]:
        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in {HOST_NAME, HOST_NAME.encode()}:
                return system(host, *args, **kwargs)
            self.ended.wait(self.lookup_delay_s)
            if self.lookup_fails:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return system(LOCALHOST, *args, **kwargs)

        return getaddrinfo


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ):
        for name, value in wanted.items():
            if value:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)
        yield
