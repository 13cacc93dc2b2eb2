"""Errors where several ranks run: the one that raises tells the others, through the store of the process group.

A rank that raises alone leaves the others in a collective that it never joins. Whether another one will raise cannot be
known without communication, and calls in which nobody raises are to have none. So nothing is done until there is an
error: the rank that has it writes it into the store and waits until the others have read it, for three seconds at most;
a thread of theirs looks there once a second. They log the error, and raise it themselves at their next guarded call. A
rank that is in a collective already stays there until the launcher, or the time-out of its process group, ends it; its
log says which rank is why.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
import time
from typing import Any, Final

from . import policies
from .errors import PaddingError, SafeTransformersError

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
TELL_S: Final = 3.0
# torchrun may start the ranks again with the store that they had.
_KEY: Final = f"safetransformers/raised/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def are_several() -> bool:
    """Whether a process group of more than one rank is up. Costs less than a microsecond where there is none."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return False
    return bool(distributed.get_world_size() > 1)


def heed(layer: policies.Layer) -> None:
    """Under a strict policy: listen from now on, and raise what another rank has raised.

    Raises:
        PaddingError: where one has (ST-RANK-001).
    """
    if not are_several() or not _is_strict(layer):  # the cheap question first: every call that is looked at comes here
        return
    told = _listening().take()
    if told is not None:
        raise raised_by(told["rank"], told["text"])


def tell(error: SafeTransformersError, layer: policies.Layer) -> None:
    """Before a strict error is raised: tell the other ranks, and wait until they know or three seconds have passed."""
    if error.code == "ST-RANK-001" or not are_several() or not _is_strict(layer):
        return
    from torch import distributed

    listening = _listening()
    try:
        store, others = _store(), distributed.get_world_size() - 1
        number = store.add(f"{_KEY}/count", 1)
        listening.skip(number)
        said = {"rank": distributed.get_rank(), "text": str(error).splitlines()[0]}
        store.set(f"{_KEY}/{number}", json.dumps(said))
        give_up_s = time.monotonic() + TELL_S
        while store.add(f"{_KEY}/{number}/heard", 0) < others and time.monotonic() < give_up_s:
            time.sleep(LOOK_S / 20)
    except RuntimeError as failure:  # torch's DistError: the rank that keeps the store is gone, and the job with it
        logger.warning("the other ranks could not be told of %s: %s", error.code, type(failure).__name__)


def raised_by(rank: int, text: str = "") -> PaddingError:
    """The error of a rank whose own call is in order."""
    return PaddingError(
        "ST-RANK-001",
        f"rank {rank} raised, and so does this one: they take part in the same collectives",
        why=text,
        do=f"see the traceback of rank {rank}; what is wrong is there",
        rank=rank,
    )


class _Listening:
    """A thread that reads what other ranks have raised, for as long as the process group is up."""

    def __init__(self, group: Any, heard: int) -> None:
        self.group, self.heard = group, heard
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._told: dict[str, Any] | None = None
        self._own = set[int]()
        self._thread = threading.Thread(target=self._run, name="safetransformers-ranks", daemon=True)
        self._thread.start()

    def take(self) -> dict[str, Any] | None:
        """What was told last, once."""
        if self._told is None:
            return None
        with self._lock:
            told, self._told = self._told, None
        return told

    def skip(self, number: int) -> None:
        """This rank itself raises: that error needs no hearing, and what others raised at the same call has had it."""
        with self._lock:
            self._own.add(number)
            self._told = None

    def end(self) -> None:
        """At the end of the process, before what the thread calls is taken down."""
        self._ended.set()
        self._thread.join(2 * LOOK_S)

    def _run(self) -> None:
        from torch import distributed

        while not self._ended.wait(LOOK_S):
            if not distributed.is_initialized() or distributed.group.WORLD is not self.group:
                return
            try:
                store = _store()
                if self.heard > store.add(f"{_KEY}/count", 0):
                    self.heard = 0  # another store than that of the group before
                while store.check([f"{_KEY}/{self.heard + 1}"]):
                    self.heard += 1
                    if self.heard not in self._own:
                        self._hear(json.loads(store.get(f"{_KEY}/{self.heard}")))
                        store.add(f"{_KEY}/{self.heard}/heard", 1)
            except RuntimeError as failure:  # as above; the collectives of this rank fail by themselves
                logger.debug("the store of the process group is gone: %s", type(failure).__name__)
                return

    def _hear(self, said: dict[str, Any]) -> None:
        with self._lock:
            self._told = said
        text = "rank %s has raised: %s. This rank stops at its next guarded call; a collective that it is in never ends"
        logger.error(text, said["rank"], said["text"])


_now: _Listening | None = None
_starting = threading.Lock()


def _listening() -> _Listening:
    """The thread for the process group that is up now."""
    global _now
    from torch import distributed

    group = distributed.group.WORLD
    if _now is None or _now.group is not group:
        with _starting:
            if _now is None or _now.group is not group:
                _now = _Listening(group, 0 if _now is None else _now.heard)
                atexit.register(_now.end)
    return _now


def _store() -> Any:
    """The store by which the ranks found each other; not kept, which would keep its port open too."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _is_strict(layer: policies.Layer) -> bool:
    return policies.is_strict(layer) or policies.resolve("padding", layer) == "raise"
