"""What a healthy hub answers: a pure function from a store and a request to a reply.

The addresses, headers and error codes are those that huggingface_hub 0.36 and 2.4 ask for and read (file_download.py,
hf_api.py, _snapshot_download.py, utils/_http.py). Xet storage is offered where a store is named, which is only ever one
that does not answer: every file comes over plain HTTP.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from .messages import PORTAL_PAGE, Kind, Reply, Request, error_reply, html_reply, json_reply, ranged
from .store import Blob, Repo, Store

_DATE = "2024-01-01T00:00:00.000Z"
_REPO_SUBPATHS = {
    "auth-check",
    "commits",
    "discussions",
    "paths-info",
    "refs",
    "resolve",
    "revision",
    "tree",
    "xet-read-token",
}


@dataclass(frozen=True)
class Protocol:
    """How the hub answers.

    Attributes:
        store: The repositories.
        cdn_url: Base address of the file store that LFS files are redirected to.
        page_size: Entries of a tree listing per page: 1000 on the real hub.
        xet_store: Address of the store that hf_xet is sent to; ``None`` offers none.
    """

    store: Store
    cdn_url: str
    page_size: int = 1000
    xet_store: str | None = None

    def answer(self, request: Request, base_url: str) -> Reply:
        """The reply to a request that came to ``base_url``."""
        url = urlsplit(request.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if request.kind == "cdn":
            return self._stored_file(parts, request)
        if request.kind == "resolve":
            at = parts.index("resolve", 1)
            return self._resolve("/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :]), request, base_url)
        if request.kind == "api":
            query = parse_qs(url.query)
            if parts[1] == "models" and len(parts) > 2:
                return self._model(parts[2:], query, request, base_url)
            return _service(parts[1:], request)
        if request.kind == "proxy":
            return Reply(502, {"Connection": "close"})  # it forwards nothing: every fault of a proxy comes before that
        return html_reply(PORTAL_PAGE if request.kind == "portal" else "<!doctype html><title>Test hub</title>")

    def _stored_file(self, parts: list[str], request: Request) -> Reply:
        blob = self.store.find_blob(parts[-1])
        if blob is None:
            return Reply(404)
        headers = {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", "Content-Type": "binary/octet-stream"}
        return ranged(Reply(200, headers, blob), request.headers.get("range"))

    def _resolve(self, repo_id: str, revision: str, name: str, request: Request, base_url: str) -> Reply:
        found = self._commit(repo_id, revision, request)
        if isinstance(found, Reply):
            return found
        repo, commit = found
        if repo.gated:
            return _gated(repo_id, request)
        marks = {"X-Repo-Commit": commit}
        blob = repo.commits[commit].get(name)
        if blob is None:
            return error_reply(404, "EntryNotFound", "Entry not found", marks)
        file_name = name.rsplit("/", 1)[-1]
        marks |= {
            "Accept-Ranges": "bytes",
            "Access-Control-Expose-Headers": "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,ETag,Link",
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(file_name)}; filename=\"{file_name}\";",
            "ETag": f'"{blob.etag}"',
        }
        if blob.sha256 is None:
            headers = {**marks, "Content-Type": "text/plain; charset=utf-8"}
            return ranged(Reply(200, headers, blob), request.headers.get("range"))
        location = f"{self.cdn_url}/repos/{blob.sha256[:2]}/{blob.sha256}?{urlencode({'filename': file_name})}"
        linked = {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size), "Location": location}
        if self.xet_store is not None:
            route = f"{base_url}/api/models/{repo_id}/xet-read-token/{commit}"
            linked |= {"X-Xet-Hash": blob.sha256, "X-Xet-Refresh-Route": route}
        return Reply(
            302, {**marks, **linked, "Content-Type": "text/plain"}, f"Found. Redirecting to {location}".encode()
        )

    def _model(self, parts: list[str], query: dict[str, list[str]], request: Request, base_url: str) -> Reply:
        at = next((index for index, part in enumerate(parts) if index and part in _REPO_SUBPATHS), len(parts))
        repo_id, rest = "/".join(parts[:at]), parts[at:]
        what = rest[0] if rest else "revision"
        revision = rest[1] if len(rest) > 1 and what in {"revision", "tree", "paths-info", "commits"} else "main"
        found = self._commit(repo_id, revision, request)
        if isinstance(found, Reply):
            return found
        repo, commit = found
        if what == "revision":
            return json_reply(_info(repo_id, repo, commit, blobs="blobs" in query), headers={"X-Repo-Commit": commit})
        if what == "refs":
            return json_reply(_refs(repo))
        if what == "xet-read-token" and self.xet_store is not None:
            token = {"X-Xet-Access-Token": "token", "X-Xet-Token-Expiration": str(int(time.time()) + 3600)}
            return json_reply({}, headers={**token, "X-Xet-Cas-Url": self.xet_store})
        if what == "auth-check":
            return _gated(repo_id, request) if repo.gated else json_reply({})
        if what == "discussions":
            return json_reply({"discussions": [], "count": 0, "start": 0})
        if what == "commits":
            return json_reply([{"id": commit, "title": "commit", "message": "", "authors": [], "date": _DATE}])
        files = repo.commits[commit]
        if what == "paths-info":
            return json_reply(_paths_info(_entries(files, "", recursive=True), commit, request))
        if what == "tree":
            folder = "/".join(rest[2:])
            entries = _entries(files, folder, recursive=_true(query, "recursive"))
            if folder and not entries:
                return error_reply(404, "EntryNotFound", f"{folder} does not exist", {"X-Repo-Commit": commit})
            return self._page(entries, commit, query, urlsplit(request.path).path, base_url)
        return error_reply(404, None, "Sorry, we can't find the page you are looking for.")

    def _page(
        self, entries: list[dict[str, Any]], commit: str, query: dict[str, list[str]], path: str, base_url: str
    ) -> Reply:
        expand = _true(query, "expand")
        size = min(self.page_size, 50) if expand else self.page_size
        start = int(query.get("cursor", ["0"])[0])
        stop = start + size
        page = [_expanded(entry, commit) if expand else entry for entry in entries[start:stop]]
        if stop >= len(entries):
            return json_reply(page)
        following = {name: values[0] for name, values in query.items()} | {"cursor": str(stop)}
        return json_reply(page, headers={"Link": f'<{base_url}{path}?{urlencode(following)}>; rel="next"'})

    def _commit(self, repo_id: str, revision: str, request: Request) -> tuple[Repo, str] | Reply:
        repo = self.store.get(repo_id)
        if repo is None:
            return _unknown_repo(request)
        commit = repo.resolve(revision)
        if commit is None:
            return error_reply(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, commit


def kind_of(path: str) -> Kind:
    """Which of the hub's services a path belongs to."""
    parts = urlsplit(path).path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 1:
        return "api"
    return "resolve" if "resolve" in parts[1:-1] and parts.index("resolve", 1) + 2 < len(parts) else "other"


def _unknown_repo(request: Request) -> Reply:
    """The real hub does not tell an anonymous client that a repository is absent: it might be private."""
    if request.authenticated:
        return error_reply(404, "RepoNotFound", "Repository not found")
    return error_reply(401, "RepoNotFound", "Invalid username or password.")


def _gated(repo_id: str, request: Request) -> Reply:
    if request.authenticated:
        why = "and you are not in the authorized list. Visit the model's page to ask for access."
        return error_reply(403, "GatedRepo", f"Access to model {repo_id} is restricted {why}")
    why = "You must have access to it and be authenticated to access it. Please log in."
    return error_reply(401, "GatedRepo", f"Access to model {repo_id} is restricted. {why}")


def _service(parts: list[str], request: Request) -> Reply:
    """The addresses that belong to no repository."""
    if parts[0] == "telemetry":
        return Reply(200)
    if parts[0] == "whoami-v2":
        if request.authenticated:
            return json_reply({"type": "user", "name": "tester", "orgs": [], "auth": {"type": "access_token"}})
        return error_reply(401, None, "Invalid username or password.")
    if parts[0] == "models":
        return json_reply([])
    return error_reply(404, None, "Sorry, we can't find the page you are looking for.")


def _info(repo_id: str, repo: Repo, commit: str, *, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for name, blob in repo.commits[commit].items():
        sibling: dict[str, Any] = {"rfilename": name}
        if blobs:
            sibling |= {"size": blob.size, "blobId": blob.oid}
            if blob.sha256:
                sibling["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
        siblings.append(sibling)
    return {
        "_id": commit[:24],
        "id": repo_id,
        "modelId": repo_id,
        "author": repo_id.partition("/")[0],
        "sha": commit,
        "lastModified": _DATE,
        "createdAt": _DATE,
        "private": False,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    }


def _refs(repo: Repo) -> dict[str, Any]:
    def listed(names: dict[str, str], folder: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": names[name]} for name in sorted(names)]

    return {
        "branches": listed(repo.branches, "heads"),
        "tags": listed(repo.tags, "tags"),
        "converts": [],
        "pullRequests": [],
    }


def _entries(files: Any, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """A folder's files and folders as the tree listing tells them."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for name, blob in files.items():
        if not name.startswith(prefix):
            continue
        below = name.removeprefix(prefix).split("/")
        for depth in range(1, len(below)):
            if recursive or depth == 1:
                path = prefix + "/".join(below[:depth])
                entries[path] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
        if recursive or len(below) == 1:
            entries[name] = _file_entry(name, blob)
    return [entries[path] for path in sorted(entries)]


def _file_entry(name: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": name}
    if blob.sha256:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return entry


def _expanded(entry: dict[str, Any], commit: str) -> dict[str, Any]:
    more: dict[str, Any] = {"lastCommit": {"id": commit, "title": "commit", "date": _DATE}}
    if entry["type"] == "file":
        more["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return {**entry, **more}


def _paths_info(entries: list[dict[str, Any]], commit: str, request: Request) -> list[dict[str, Any]]:
    """What is known of the asked paths; absent ones are left out. The body is a form, or JSON."""
    if "json" in request.headers.get("content-type", ""):
        body = json.loads(request.body)
        wanted, expand = set(body["paths"]), bool(body.get("expand"))
    else:
        form = parse_qs(request.body.decode())
        wanted, expand = set(form.get("paths", [])), _true(form, "expand")
    chosen = [entry for entry in entries if entry["path"] in wanted]
    return [_expanded(entry, commit) for entry in chosen] if expand else chosen


def _true(query: dict[str, list[str]], name: str) -> bool:
    return query.get(name, ["false"])[0].lower() in {"true", "1"}
