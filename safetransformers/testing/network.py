"""A network that fails, in this process: every request of huggingface_hub meets the same fault, and none goes out.

The fault is below the HTTP client, in the part of its library that opens connections, so what lies above (retries of
huggingface_hub, the hub guard, a client of your own) behaves as it does in the field.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import wrapt

from .. import compat, notices
from ..hub import learned

_PORTAL: Final = b"<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"
_PAGE: Final = {"content-type": "text/html; charset=utf-8"}

FAULTS: Final[dict[str, BaseException | tuple[int, dict[str, str], bytes]]] = {
    "refused": ConnectionRefusedError(111, "Connection refused"),
    "dns": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "timeout": TimeoutError("timed out"),
    "reset": ConnectionResetError(104, "Connection reset by peer"),
    "certificate": ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate"),
    "429": (429, {}, b""),
    "503": (503, _PAGE, b"<html><body>503</body></html>"),
    "firewall": (403, _PAGE, b"<html><body><h1>Access denied</h1></body></html>"),
    "captive portal": (200, _PAGE, _PORTAL),
}
"""What ``offline`` knows by name: what the connection raises, or status, headers and body of what answers."""


@contextmanager
def offline(fault: str = "refused") -> Iterator[list[str]]:
    """Let every request that huggingface_hub makes in this block fail, as behind a firewall; nothing is sent.

    Applies to all threads of the process, and to synchronous clients, which all loads use. What the hub guard has
    learned, and which warnings were given, is forgotten at both ends, so a test does not depend on the one before.
    Blocks nest: the inner one counts.

    Args:
        fault: a key of ``FAULTS``. A time-out comes at once, so that a test does not wait for it.

    Yields:
        ``"GET https://host/path"`` for each request that was tried; of its query nothing is kept.

    Raises:
        ValueError: for a fault that is not in ``FAULTS``.
        RuntimeError: inside the block, by a request without a time-out that meets ``"timeout"``: it would never end.

    Example:
        >>> import tempfile
        >>> from safetransformers import AutoConfig
        >>> with tempfile.TemporaryDirectory() as empty, offline("certificate") as requests:
        ...     AutoConfig.from_pretrained("org/model", cache_dir=empty)
        Traceback (most recent call last):
        safetransformers.errors.NotCachedError: [ST-HUB-005] org/model is not in the cache as a whole...
        >>> all("huggingface.co" in request for request in requests) and len(requests) > 0
        True
    """
    if fault not in FAULTS:
        raise ValueError(f"{fault!r} is no fault: {', '.join(FAULTS)}")
    wire, tried = compat.wire(), list[str]()

    def meet(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = args[0] if args else kwargs["request"]
        url = urlsplit(wire.url(request))
        tried.append(f"{request.method} {url.scheme}://{url.hostname}{url.path}")
        what = FAULTS[fault]
        if not isinstance(what, BaseException):
            return wire.answer(request, *what)
        if isinstance(what, TimeoutError) and not wire.has_timeout(request, kwargs):
            raise RuntimeError(f"{tried[-1]} has no time-out: where nothing answers it would never end")
        raise wire.failure(request, what)

    targets = [(*wire.transport, meet), (*compat.xet_switch(), _no)]
    handles: list[tuple[Any, str, Any]] = []
    _forget()
    try:
        for owner, name, wrapper in targets:
            handles.append((owner, name, wrapt.wrap_function_wrapper(owner, name, wrapper)))
        yield tried
    finally:
        for owner, name, handle in reversed(handles):
            wrapt.unwrap_object(owner, name, handle, missing_ok=True)
        _forget()


def _no(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """In place of ``is_xet_available``: hf_xet opens connections of its own, which would not fail."""
    return False


def _forget() -> None:
    learned.forget()
    notices.forget()  # else a second test with the same call would get no warning
