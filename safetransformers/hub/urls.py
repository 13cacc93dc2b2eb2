"""What a request to the hub asks for, read from its URL: the protocol is older than every client that we support."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

DEFAULT_REVISION: Final = "main"

_REPO: Final = r"(?P<repo>[^/]+(?:/[^/]+)?)"
_FILE: Final = re.compile(rf"/(?!api/|datasets/|spaces/){_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_TREE: Final = re.compile(rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?")
_INFO: Final = re.compile(rf"/api/models/{_REPO}(?:/revision/(?P<revision>[^/]+))?")
_OTHER: Final = (
    "auth-check",
    "commits",
    "refs",
    "discussions",
    "paths-info",
    "revision",
    "tree",
    "resolve",
    "xet-read-token",
)
_PORTS: Final = {"http": 80, "https": 443}
_KINDS: Final = (("file", _FILE), ("tree", _TREE), ("info", _INFO))


@dataclass(frozen=True)
class Asked:
    """One request to a hub.

    Attributes:
        endpoint: the hub's own URL, without a slash at its end.
        repo_id: of a model repository.
        revision: as it was asked for: a branch, a tag or a commit hash; ``"main"`` where none was named.
        kind: ``"file"``, ``"info"`` (which commit a revision is) or ``"tree"`` (a list of files).
        path: of the file or folder within the repository; empty for all of it.
    """

    endpoint: str
    repo_id: str
    revision: str
    kind: str
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()


def parse(url: str, endpoint: str) -> Asked | None:
    """What ``url`` asks the hub at ``endpoint`` for; ``None`` where it asks something else, or somebody else.

    Example:
        >>> asked = parse("https://huggingface.co/org/name/resolve/main/config.json", "https://huggingface.co")
        >>> asked.repo_id, asked.revision, asked.kind, asked.path
        ('org/name', 'main', 'file', 'config.json')
    """
    endpoint = normal(endpoint).rstrip("/")
    url = normal(url)
    if not url.startswith(endpoint + "/"):
        return None
    parts = urlsplit(url[len(endpoint) :])
    for kind, pattern in _KINDS:
        if (match := pattern.fullmatch(parts.path)) is None:
            continue
        repo_id = unquote(match["repo"])
        if kind == "info" and repo_id.rpartition("/")[2] in _OTHER:
            return None
        found = match.groupdict()
        revision, path = unquote(found["revision"] or DEFAULT_REVISION), unquote(found.get("path") or "")
        return Asked(endpoint, repo_id, revision, kind, path, tuple(parse_qsl(parts.query)))
    return None


def at_commit(url: str, asked: Asked, commit: str) -> str:
    """``url``, asking for ``commit`` instead of the revision that can move.

    Example:
        >>> url = "https://huggingface.co/org/name/resolve/main/config.json"
        >>> at_commit(url, parse(url, "https://huggingface.co"), "a1" * 20).rpartition("resolve/")[2][:8]
        'a1a1a1a1'
    """
    if asked.kind == "info":
        head, _, query = url.partition("?")
        head = head.removesuffix(f"/revision/{quote(asked.revision, safe='')}")
        return f"{head}/revision/{commit}" + (f"?{query}" if query else "")
    marker = f"/{asked.repo_id}/{'resolve' if asked.kind == 'file' else 'tree'}/"
    head, _, rest = url.partition(marker)
    revision = re.match(r"[^/?]+", rest)
    return head + marker + commit + (rest[revision.end() :] if revision else rest)


def normal(url: str) -> str:
    """A URL as HTTP clients write it: scheme and host in lower case, without a default port or a user's name.

    Example:
        >>> normal("HTTPS://user:secret@Hub.Example:443/mirror")
        'https://hub.example/mirror'
    """
    parts = urlsplit(url)
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return parts._replace(netloc=name + port).geturl()


def host(url: str) -> str:
    """Host and port of a URL, without user names and passwords: the only part of one that a message may show."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"


def proxy_of(url: str) -> str:
    """The proxy that the environment sends requests for a URL through, as it is set; empty for none."""
    parts = urlsplit(url)
    proxies = getproxies()
    return "" if proxy_bypass(parts.hostname or "") else proxies.get(parts.scheme) or proxies.get("all") or ""


def is_by_proxy(url: str) -> bool:
    """Whether the environment sends requests for a URL through a proxy."""
    return bool(proxy_of(url))
