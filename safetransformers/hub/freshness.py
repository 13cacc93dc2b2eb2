"""``offline="prefer"``: the copy is served at once, and in the background the hub is asked whether it is the newest."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from .. import compat, policies
from ..counts import count
from .breaker import breakers
from .contact import WITHOUT_COPY_S
from .faults import Fault, of_answer, of_exception
from .load import Load, Pin
from .urls import host

logger = logging.getLogger(__name__)

TTL_S: Final = 600.0  # between two looks at one repository

newer: Final[dict[tuple[str, str], str]] = {}
"""Repository and revision: the commit that the hub had when it was asked last, where it is not the cached one."""

_asked_s: Final[dict[tuple[str, str], float]] = {}


def check_later(load: Load) -> None:
    """Ask the hub in the background what the revisions of a load are, at most every ten minutes for each of them."""
    for (repo_id, revision), pin in list(load.pins.items()):
        key, now = (repo_id, revision), time.monotonic()
        if pin.copy is None or pin.fault is not None or revision == pin.commit:
            continue
        if now - _asked_s.get(key, -TTL_S) < TTL_S:
            continue
        _asked_s[key] = now
        threading.Thread(target=_check, args=(key, pin), name="safetransformers-freshness", daemon=True).start()


def forget() -> None:
    """Start anew (for tests)."""
    _asked_s.clear()
    newer.clear()


def _check(key: tuple[str, str], pin: Pin) -> None:
    from huggingface_hub import HfApi

    endpoint = compat.hub_endpoint()
    if breakers.fault(endpoint) is not None:
        return
    try:
        with policies.policy(offline="off"):  # the hub's own word, not the cache's
            commit = HfApi().model_info(key[0], revision=key[1], timeout=WITHOUT_COPY_S).sha
    except Exception as error:  # noqa: BLE001 - nobody waits for the answer; why there is none is kept and counted
        fault = _fault_of(error, host(endpoint))
        if not fault.is_of_the_repo:
            breakers.open(endpoint, fault)
        count(f"hub.fault.{fault.kind}")
        logger.info("whether %s has a newer commit is not known: %s", key[0], fault)
        return
    breakers.close(endpoint)
    if commit is None or commit == pin.commit:
        newer.pop(key, None)
        return
    newer[key] = commit
    count("hub.newer_on_hub")
    logger.info("%s: the hub has commit %s, and %s is served from the cache", key[0], commit, pin.commit)


def _fault_of(error: Exception, name: str) -> Fault:
    response = getattr(error, "response", None)
    if response is None:
        return of_exception(error, name)
    headers = {key.lower(): value for key, value in response.headers.items()}
    return of_answer(response.status_code, headers, name) or Fault("no_repo", name)
