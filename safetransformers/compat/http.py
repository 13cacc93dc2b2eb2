"""Where the HTTP libraries of huggingface_hub differ: requests (0.x), httpx (1.x) and httpx2 (2.x)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final, Protocol, cast


class Wire(Protocol):
    """What differs between the HTTP libraries of huggingface_hub: requests (0.x), httpx (1.x) and httpx2 (2.x)."""

    client: type
    """The class whose ``send`` every request goes through, also of a client that a user's own factory made."""

    follows_absolute: bool
    """Whether huggingface_hub follows a redirect of a file's ``HEAD`` that names the host, and not only the path."""

    errors: tuple[type[Exception], ...]
    """What ``send`` raises where a request fails on the way."""

    transport: tuple[type, str]
    """The class and the method below the client that open a connection for each request."""

    certificate_variables: tuple[str, ...]
    """The environment variables by which a user names certificates to trust."""

    def url(self, request: Any) -> str:
        """Where a request goes."""

    def redirect(self, request: Any, url: str) -> None:
        """Send a request elsewhere."""

    def limit(self, request: Any, kwargs: dict[str, Any], seconds: float) -> None:
        """Shorten the time-outs of a request to at most ``seconds`` for each step."""

    def answer(self, request: Any, status: int, headers: Mapping[str, str], body: bytes = b"") -> Any:
        """An answer that did not come from the network."""

    def has_timeout(self, request: Any, kwargs: dict[str, Any]) -> bool:
        """Whether ``transport`` is told how long to wait for an answer."""

    def failure(self, request: Any, cause: BaseException) -> Exception:
        """What the library makes of an exception of a connection."""

    def watch(self, response: Any, arrived: Callable[[int], None], failed: Callable[[Exception], Exception]) -> None:
        """Call ``arrived`` with the size of each piece of a body that is read later; raise what ``failed`` makes."""

    def interrupted(self, text: str) -> Exception:
        """The exception after which huggingface_hub resumes a download."""


class _Httpx:
    def __init__(self, library: Any, *, follows_absolute: bool) -> None:
        self._library, self.follows_absolute = library, follows_absolute
        self.client: type = library.Client
        self.transport: tuple[type, str] = (library.HTTPTransport, "handle_request")
        self.errors: tuple[type[Exception], ...] = (library.HTTPError, library.InvalidURL, OSError)
        self.certificate_variables: tuple[str, ...] = ("SSL_CERT_FILE", "SSL_CERT_DIR")

    def url(self, request: Any) -> str:
        return str(request.url)

    def redirect(self, request: Any, url: str) -> None:
        request.url = self._library.URL(url)

    def limit(self, request: Any, kwargs: dict[str, Any], seconds: float) -> None:
        named = request.extensions.get("timeout") or {}
        limits = {step: min(named.get(step) or seconds, seconds) for step in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": limits}

    def answer(self, request: Any, status: int, headers: Mapping[str, str], body: bytes = b"") -> Any:
        return self._library.Response(status, headers=dict(headers), content=body, request=request)

    def has_timeout(self, request: Any, kwargs: dict[str, Any]) -> bool:
        limits = request.extensions.get("timeout") or {}
        return all(limits.get(step) is not None for step in ("connect", "read"))

    def failure(self, request: Any, cause: BaseException) -> Exception:
        is_late, is_cut = isinstance(cause, TimeoutError), isinstance(cause, ConnectionResetError)
        kind = "ReadTimeout" if is_late else "ReadError" if is_cut else "ConnectError"
        return _caused(getattr(self._library, kind)(str(cause), request=request), cause)

    def watch(self, response: Any, arrived: Callable[[int], None], failed: Callable[[Exception], Exception]) -> None:
        stream = response.stream

        class Watched(self._library.SyncByteStream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Iterator[bytes]:
                yield from _watched(stream, arrived, failed)

            def close(self) -> None:
                stream.close()

        response.stream = Watched()

    def interrupted(self, text: str) -> Exception:
        return cast("Exception", self._library.ReadTimeout(text))


_PIECE_BYTES: Final = 2**16


class _Requests:
    follows_absolute = False

    def __init__(self, library: Any) -> None:
        self._library = library
        self.client: type = library.Session
        self.transport: tuple[type, str] = (library.adapters.HTTPAdapter, "send")
        self.errors: tuple[type[Exception], ...] = (library.RequestException, OSError)
        self.certificate_variables: tuple[str, ...] = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

    def url(self, request: Any) -> str:
        return str(request.url)

    def redirect(self, request: Any, url: str) -> None:
        request.url = url

    def limit(self, request: Any, kwargs: dict[str, Any], seconds: float) -> None:
        named = kwargs.get("timeout")
        connect, read = named if isinstance(named, tuple) else (named, named)
        kwargs["timeout"] = tuple(seconds if step is None else min(step, seconds) for step in (connect, read))

    def answer(self, request: Any, status: int, headers: Mapping[str, str], body: bytes = b"") -> Any:
        response = self._library.Response()
        response.status_code, response.url, response.request = status, request.url, request
        response.headers.update(headers)
        response._content = body  # the one way to give it a body without a connection
        return response

    def has_timeout(self, request: Any, kwargs: dict[str, Any]) -> bool:
        named = kwargs.get("timeout")
        return named is not None and None not in (named if isinstance(named, tuple) else (named,))

    def failure(self, request: Any, cause: BaseException) -> Exception:
        is_late, is_tls = isinstance(cause, TimeoutError), isinstance(cause, ssl.SSLError)
        kind = "ReadTimeout" if is_late else "SSLError" if is_tls else "ConnectionError"
        return _caused(getattr(self._library.exceptions, kind)(cause, request=request), cause)

    def watch(self, response: Any, arrived: Callable[[int], None], failed: Callable[[Exception], Exception]) -> None:
        raw = response.raw
        if not hasattr(raw, "read1"):
            return  # urllib3 before 2.1 tells of a piece when all of it is there: the time-out of each read remains

        def pieces(amt: int = 0, decode_content: bool | None = None) -> Iterator[bytes]:
            while piece := raw.read1(_PIECE_BYTES, decode_content=decode_content):
                yield piece

        raw.stream = lambda *args, **kwargs: _watched(pieces(*args, **kwargs), arrived, failed)

    def interrupted(self, text: str) -> Exception:
        return cast("Exception", self._library.exceptions.ConnectionError(text))


def _caused(error: Any, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return cast("Exception", error)


def _watched(
    pieces: Iterable[bytes], arrived: Callable[[int], None], failed: Callable[[Exception], Exception]
) -> Iterator[bytes]:
    try:
        for piece in pieces:
            arrived(len(piece))
            yield piece
    except Exception as error:
        raise failed(error) from error


@lru_cache(maxsize=1)
def wire() -> Wire:
    """The HTTP library of the installed huggingface_hub."""
    major = int(version("huggingface_hub").partition(".")[0])
    if major == 0:
        return _Requests(import_module("requests"))
    return _Httpx(import_module("httpx" if major == 1 else "httpx2"), follows_absolute=major > 1)
