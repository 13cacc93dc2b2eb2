"""The circuit breaker: what one failed request has shown holds for every request to that hub, for a while."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Final

from .faults import Fault

XET: Final = "xet"  # the circuit of the store that hf_xet reads, wherever it is
OPEN_S: Final = 60.0  # how long a hub that did not answer is left alone
MAX_OPEN_S: Final = 3600.0  # and at most, however long it asks for
PROBE_S: Final = 10.0  # while one request tries again, the others go on as if the hub were still away


@dataclass
class _Circuit:
    fault: Fault
    until_s: float


class Breakers:
    """One circuit per hub. Thread-safe; a forked process starts with what its parent knew and a lock of its own."""

    def __init__(self) -> None:
        self._circuits: dict[str, _Circuit] = {}
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def fault(self, endpoint: str) -> Fault | None:
        """Why the hub is left alone now; ``None`` where it may be asked.

        After the time is over one caller is told ``None``, and tries; until it is back the others are told the fault.
        """
        with self._lock:
            circuit = self._circuits.get(endpoint)
            if circuit is None:
                return None
            now = time.monotonic()
            if now < circuit.until_s:
                return circuit.fault
            circuit.until_s = now + PROBE_S
            return None

    def open(self, endpoint: str, fault: Fault) -> None:
        """Leave the hub alone for a while, or for as long as it asked."""
        wait_s = OPEN_S if fault.retry_after_s is None else min(fault.retry_after_s, MAX_OPEN_S)
        with self._lock:
            self._circuits[endpoint] = _Circuit(fault, time.monotonic() + wait_s)

    def close(self, endpoint: str) -> None:
        """The hub has answered."""
        if self._circuits:
            with self._lock:
                self._circuits.pop(endpoint, None)

    def forget(self) -> None:
        """Start anew (for tests)."""
        with self._lock:
            self._circuits.clear()

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


def api_key(endpoint: str) -> str:
    """The circuit of a hub's API, which may fail with an answer while its files are served."""
    return f"{endpoint}/api"


def repo_key(endpoint: str, repo_id: str) -> str:
    """The circuit of one repository, whose newest commit could not be fetched from a hub that answers."""
    return f"{endpoint} {repo_id}"


breakers: Final = Breakers()
