"""One request to the hub within a deadline for all of it: name look-up, connection, handshake, headers, redirects.

The time-outs of an HTTP library are per read, and none of them covers the look-up of a name: a server that sends a byte
now and then, or a resolver that does not answer, holds a request for minutes. So the request runs in a thread that is
left behind when the time is over; its own time-outs end it later.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final

from .. import compat
from .faults import RETRYABLE, Fault, of_exception

WITH_COPY_S: Final = 1.5  # the hub has this long where a whole copy is in the cache
WITHOUT_COPY_S: Final = 4.0  # and this long where there is none
_FIRST_PAUSE_S: Final = 0.15
_LEAST_TRY_S: Final = 0.05  # a try with less time than this is not worth its start
_MAX_TRIES: Final = 6

Judge = Callable[[Any], "Fault | None"]


class NoContact(Exception):  # noqa: N818 - never leaves this package
    """No answer that counts; ``fault`` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def contact(
    request: Callable[[], Any],
    judge: Judge,
    host: str,
    limit_s: Callable[[], float],
    *,
    by_proxy: bool = False,
    patience_s: float = 0.0,
) -> Any:
    """The answer to a request, tried again after faults that pass, all within one deadline.

    Args:
        request: makes it.
        judge: the fault that an answer shows, or ``None`` for one that counts.
        host: for the words of a fault.
        limit_s: seconds for everything; asked for when the first try has failed or ``WITH_COPY_S`` has passed, since
            finding out costs a look at the cache.
        by_proxy: whether the way to the host is through a proxy.
        patience_s: where there is no copy, how long in all a hub is waited for that says when it may be asked again.

    Raises:
        NoContact: where no try brought an answer that counts.
        huggingface_hub.errors.OfflineModeIsEnabled: where huggingface_hub lets no request go.
    """
    start_s, pause_s = time.monotonic(), _FIRST_PAUSE_S
    fault: Fault | None = None
    for _ in range(_MAX_TRIES):
        try:
            answer = _within(request, start_s, limit_s)
        except _Late:
            raise NoContact(fault or of_exception(TimeoutError(), host, by_proxy=by_proxy)) from None
        except compat.wire().errors as error:
            if compat.is_blocked(error):
                raise
            fault = of_exception(error, host, by_proxy=by_proxy)
        else:
            found = judge(answer)
            if found is None:
                return answer
            answer.close()
            fault = found
        pause_s *= random.uniform(1.5, 2.5)  # noqa: S311 - jitter: clients that failed together part
        limit = limit_s()
        if fault.retry_after_s is not None and limit > WITH_COPY_S and fault.retry_after_s <= patience_s:
            wait_s = fault.retry_after_s + random.uniform(0, 0.5)  # noqa: S311 - jitter, as above
            time.sleep(wait_s)
            start_s, patience_s = start_s + wait_s, patience_s - wait_s  # what the hub asks for is no delay of its own
            continue
        if fault.retry_after_s is not None:
            pause_s = fault.retry_after_s if limit > WITH_COPY_S else math.inf  # nobody sleeps beside a copy
        elif fault.kind not in RETRYABLE:
            break
        if time.monotonic() + pause_s + _LEAST_TRY_S > start_s + limit:
            break
        time.sleep(pause_s)
    assert fault is not None
    raise NoContact(fault)


class _Late(Exception):  # noqa: N818 - never leaves this file
    """The time is over."""


class _Call:
    """A request under way in a thread of its own."""

    def __init__(self, request: Callable[[], Any]) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._is_abandoned = False
        self.done = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None
        context = copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="safetransformers-hub", daemon=True).start()

    def _run(self) -> None:
        try:
            answer, error = self._request(), None
        except BaseException as raised:  # noqa: BLE001 - raised again by the thread that waits
            answer, error = None, raised
        with self._lock:
            if self._is_abandoned:
                if answer is not None:
                    answer.close()
                return
            self.answer, self.error = answer, error
        self.done.set()

    def abandon(self) -> bool:
        """Leave the request to itself; ``False`` where it is done after all."""
        with self._lock:
            self._is_abandoned = self.answer is None and self.error is None
            return self._is_abandoned


def _within(request: Callable[[], Any], start_s: float, limit_s: Callable[[], float]) -> Any:
    call = _Call(request)
    if not call.done.wait(max(0.0, start_s + WITH_COPY_S - time.monotonic())):
        call.done.wait(max(0.0, start_s + limit_s() - time.monotonic()))
    if not call.done.is_set() and call.abandon():
        raise _Late
    if call.error is not None:
        raise call.error
    return call.answer
