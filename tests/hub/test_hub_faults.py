"""A user with a complete cache loads what is in it, whatever the network, a proxy or the hub does."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hub_server import FAULTS, Fault, Hub
from hub_worlds import ENTRIES, MINILM, World, copied, same, world
from huggingface_hub import snapshot_download

import safetransformers as st
from safetransformers import compat
from safetransformers.errors import CachedCopyWarning
from safetransformers.hub import client, contact, learned

HANGS_S = 5.0  # longer than any deadline of ours, shorter than those of huggingface_hub
SHORT_S = 0.4  # a deadline for tests in which its length is not what counts

# What the first line of each warning's cause has to say; None where a load of what is cached does not meet the fault.
WORDS: dict[str, str | None] = {
    "refused": "refuses the connection",
    "dns_failure": "cannot be resolved",
    "slow_dns": "no answer .* in time",
    "hang": "no answer .* in time",
    "hang_api": "no answer .* in time",
    "syn_dropped": "no answer .* in time",
    "tls_to_plain": "TLS handshake .* fails",
    "self_signed": "certificate .* is not trusted",
    "corporate_ca": "certificate .* is not trusted",
    "tls_hang": "no answer .* in time",
    "reset": "connection .* is cut",
    "close": "connection .* is cut",
    **{f"status_{code}": rf"server error \({code}\)" for code in (500, 502, 503, 504)},
    "rate_limited": "limits the rate",
    "rate_limited_retry_after": "limits the rate",
    "rate_limited_window": "limits the rate",
    "firewall_403_html": r"firewall blocks .* \(403\)",
    "blocked_451_html": r"firewall blocks .* \(451\)",
    "unauthorized_401": "no such repository, or none that these credentials may see",
    "bad_token_401": "does not accept the credentials",
    "gated": "is gated",
    "gone_repo": "no such repository",
    "gone_revision": "no such revision",
    "proxy_407": "proxy asks for a user name and password",
    "proxy_403": r"proxy does not allow .* \(403\)",
    "proxy_502": r"proxy cannot reach .* \(502\)",
    "proxy_hang": "proxy .* cannot be used",
    "proxy_down": "proxy .* cannot be used",
    "proxy_407_http": "proxy asks for a user name and password",
    "proxy_403_http": r"blocks .* \(403\)",  # a firewall's page looks the same
    "proxy_502_http": r"\(502\)",  # as does the hub's
    "proxy_hang_http": "proxy .* cannot be used",
    "proxy_down_http": "proxy .* cannot be used",
    "portal_200": "captive portal",
    "portal_redirect": "captive portal",
    "portal_get": "captive portal",
    "redirect_loop": "redirects in a circle",
    "redirect_loop_absolute": "redirects in a circle|answers in its place",  # not all clients follow it
    "drip_headers": "no answer .* in time",
    "slow_headers": "no answer .* in time",
    "hang_cdn": None,
    "reset_mid_body": None,
    "reset_mid_body_once": None,
    "truncated_body": None,
    "truncated_body_once": None,
    "stall": None,
    "stall_once": None,
    "drip": None,
    "cdn_down": None,
    "cdn_503": None,
    "fails_2_then_recovers": None,
}
# Whether a load of what is cached meets them depends on whether transformers asks for a list, which some versions do.
SOMETIMES = ("hang_api", "portal_get")
# A recovery is to be waited for, and a circle takes many requests, for which a busy machine needs more time.
NEED_TIME = ("fails_2_then_recovers", "redirect_loop", "redirect_loop_absolute")
SOME = (
    *("refused", "hang", "hang_api", "syn_dropped", "slow_dns", "portal_200", "status_503"),
    *("rate_limited_retry_after", "drip_headers", "redirect_loop"),
)
AUTO = [name for name, entry in ENTRIES.items() if entry.is_auto]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def bare(healthy: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a user who has called snapshot_download, which notes of no file that it is absent."""
    cache = tmp_path_factory.mktemp("bare") / "hub"
    with healthy.hub.applied(cache):
        for repo_id in healthy.folders:
            snapshot_download(repo_id)
    assert not list(cache.rglob(".no_exist"))
    return cache


@pytest.fixture(scope="module")
def minilm() -> dict[str, Any]:
    """What plain transformers gives for the real files, without any hub."""
    return {
        "model": transformers.AutoModel.from_pretrained(MINILM),
        "tokenizer": transformers.AutoTokenizer.from_pretrained(MINILM),
        "pipeline": transformers.pipeline("feature-extraction", str(MINILM), device="cpu"),
    }


@pytest.fixture(scope="module")
def minilm_cache(healthy: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for many tests, each of which leaves it as it is: its large file is hashed once."""
    return copied(healthy.cache, tmp_path_factory.mktemp("minilm") / "hub", "org/minilm")


@pytest.fixture
def cache(healthy: World, tmp_path: Path) -> Path:
    return copied(healthy.cache, tmp_path / "hub")


@pytest.fixture(autouse=True)
def nothing_learned_yet(code_cache: None) -> Iterator[None]:
    """But for the hashes of files: that of the large one is found once for all tests."""
    learned.forget()
    yield
    learned.forget()


@pytest.fixture
def short_deadlines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every fault but those of ``NEED_TIME``."""
    if request.node.callspec.params["fault"] in NEED_TIME:
        return
    for module in (contact, client):
        monkeypatch.setattr(module, "WITH_COPY_S", SHORT_S)


@contextmanager
def broken(hub: Hub, fault: str | Fault, cache: Path) -> Iterator[list[str]]:
    """The hub has the fault and the user has the cache; gives the messages of the warnings that come."""
    messages: list[str] = []
    with hub.faulty(fault) as access, access.apply(cache), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield messages
    messages += [str(warning.message) for warning in told if isinstance(warning.message, CachedCopyWarning)]


def within_time(load: Callable[[], Any]) -> Any:
    start_s = time.monotonic()
    found = load()
    assert time.monotonic() - start_s < HANGS_S
    return found


def cause(message: str) -> str:
    (found,) = re.findall(r"^Why: (.*)$", message.replace("\n  ", "\n"), re.MULTILINE)
    return str(found)


def repositories(messages: list[str]) -> set[str]:
    return {found[1] for message in messages if (found := re.search(r"(\S+) was loaded from the cache", message))}


def test_every_fault_of_the_test_hub_has_its_words() -> None:
    assert WORDS.keys() == FAULTS.keys()


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("what", ["model", "tokenizer", "pipeline"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_user_with_minilm_in_the_cache_loads_it_and_is_told_once_what_is_wrong(
    fault: str, what: str, healthy: World, minilm_cache: Path, minilm: dict[str, Any]
) -> None:
    healthy.hub.clear()
    before = files_of(minilm_cache)
    with broken(healthy.hub, fault, minilm_cache) as told:
        for _ in range(2):
            found = within_time(lambda: ENTRIES[what].load(st))
            assert same(found, minilm[what])
    assert files_of(minilm_cache) == before
    words = WORDS[fault]
    if fault in SOMETIMES and not met(healthy.hub, FAULTS[fault]):
        words = None
    if words is None:
        assert told == []
        return
    (message,) = told
    assert re.search(words, cause(message))
    assert f"org/minilm was loaded from the cache: commit {healthy.commits['org/minilm']}" in message


def files_of(folder: Path) -> list[Path]:
    """All but the locks, where huggingface_hub and the ranks of a launch leave files of their own."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir() and ".locks" not in path.parts)


def met(hub: Hub, fault: Fault) -> bool:
    return any(
        request.kind in fault.on and (fault.methods is None or request.method in fault.methods)
        for request in hub.requests
    )


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("name", AUTO)
@pytest.mark.parametrize("fault", SOME)
def test_a_user_of_any_entry_point_gets_what_is_cached(fault: str, name: str, healthy: World, tmp_path: Path) -> None:
    cache = copied(healthy.cache, tmp_path / "hub", *ENTRIES[name].repo_ids)
    with broken(healthy.hub, fault, cache) as told:
        found = within_time(lambda: ENTRIES[name].load(st))
        assert same(found, healthy.plain[name])
    if fault != "hang_api":
        assert ENTRIES[name].repo_id in repositories(told)
        assert all(re.search(str(WORDS[fault]), cause(message)) for message in told)


@pytest.mark.parametrize("fault", SOME)
def test_code_that_knows_transformers_only_gets_what_is_cached_under_patch(
    fault: str, healthy: World, cache: Path
) -> None:
    names = list(ENTRIES)
    first = SOME.index(fault)  # each fault is met first by another entry
    st.patch()
    with broken(healthy.hub, fault, cache) as told:
        for name in [*names[first:], *names[:first]]:
            found = within_time(lambda name=name: ENTRIES[name].load(transformers))
            assert same(found, healthy.plain[name]), name
    if fault != "hang_api":
        assert repositories(told) == healthy.folders.keys()


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("name", ["generation_config", "peft_adapter", "model_with_adapter", "processor"])
@pytest.mark.parametrize("fault", ["refused", "hang", "portal_200"])
def test_the_first_thing_that_patched_code_loads_may_be_no_model(
    fault: str, name: str, healthy: World, tmp_path: Path
) -> None:
    cache = copied(healthy.cache, tmp_path / "hub", *ENTRIES[name].repo_ids)
    st.patch()
    with broken(healthy.hub, fault, cache) as told:
        found = within_time(lambda: ENTRIES[name].load(transformers))
        assert same(found, healthy.plain[name])
    assert ENTRIES[name].repo_id in repositories(told)


def test_every_auto_model_class_loads_what_is_cached(healthy: World, minilm_cache: Path) -> None:
    mappings = {name: getattr(cls, "_model_mapping", None) for name, cls in compat.auto_classes().items()}
    names = [name for name, models in mappings.items() if models is not None and transformers.BertConfig in models]
    assert len(names) > 8
    with broken(healthy.hub, "refused", minilm_cache):
        for name in names:
            torch.manual_seed(1)  # a head that the checkpoint has not is made anew
            expected = getattr(transformers, name).from_pretrained(MINILM)
            torch.manual_seed(1)
            assert same(within_time(lambda name=name: getattr(st, name).from_pretrained("org/minilm")), expected), name


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("fault", ["refused", "hang"])
def test_a_user_who_has_only_called_snapshot_download_loads_it(
    fault: str, name: str, healthy: World, bare: Path, tmp_path: Path
) -> None:
    entry = ENTRIES[name]
    cache = copied(bare, tmp_path / "hub", *entry.repo_ids)
    with ExitStack() as stack:
        if not entry.is_auto:
            stack.enter_context(st.patched())
        told = stack.enter_context(broken(healthy.hub, fault, cache))
        found = within_time(lambda: entry.load(st if entry.is_auto else transformers))
        assert same(found, healthy.plain[name])
    assert entry.repo_id in repositories(told)
