"""Whatever a load reads is of one commit: the one that the hub has, or the newest whole one of the cache."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import peft
import pytest
import torch
import transformers
from checkpoints import save
from hub_server import FAULTS, Access, Hub
from hub_worlds import ENTRIES, copied, repository, same, world
from models import tiny

import safetransformers as st
from safetransformers import notices
from safetransformers.errors import CachedCopyWarning, HubWarning, NotCachedError
from safetransformers.hub import client, contact, learned
from safetransformers.hub.breaker import breakers

REPO = "me/gpt"
HANGS_S = 10.0  # longer than a download of ours is watched, shorter than the tries of huggingface_hub
STEPS = {
    "model": 1,
    "model_class": 1,
    "tokenizer": 3,
    "pipeline": 4,
}  # a pipeline makes dozens of requests: not each is stopped at
NOBODY = 65534
Files = dict[str, bytes]
Editions = dict[int, Files]

LOADERS: dict[str, Callable[..., Any]] = {
    "config": lambda m, **kwargs: m.AutoConfig.from_pretrained(REPO, **kwargs),
    "model": lambda m, **kwargs: m.AutoModelForCausalLM.from_pretrained(REPO, **kwargs),
    "tokenizer": lambda m, **kwargs: m.AutoTokenizer.from_pretrained(REPO, **kwargs),
    "pipeline": lambda m, **kwargs: m.pipeline("text-generation", REPO, device="cpu", **kwargs),
}


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> Editions:
    """Three commits of one repository: config, weights and vocabulary of each say which it is."""
    made = {}
    for number in (1, 2, 3):
        folder = tmp_path_factory.mktemp("edition")
        model = tiny("gpt2", seed=number, edition=number)
        model.generation_config.max_new_tokens = number
        save(model, folder)
        words = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(words.replace('"wonderful"', f'"edition{number}"'))
        made[number] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return made


@pytest.fixture
def hub(editions: Editions) -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_learned_yet(code_cache: None) -> Iterator[None]:
    """But for the hashes of files: that of the large one is found once for all tests."""
    learned.forget()
    yield
    learned.forget()


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (contact, client):
        monkeypatch.setattr(module, "WITH_COPY_S", 0.4)


def editions_of(thing: Any) -> set[int]:
    """The editions that the parts of a loaded thing are of."""
    if isinstance(thing, transformers.Pipeline):
        return editions_of(thing.model) | editions_of(thing.tokenizer)
    if isinstance(thing, transformers.PreTrainedTokenizerBase):
        return {int(word.removeprefix("edition")) for word in thing.get_vocab() if word.startswith("edition")}
    if not isinstance(thing, torch.nn.Module):
        return {thing.edition}
    found = {thing.config.edition, thing.generation_config.max_new_tokens}
    weights = thing.state_dict()
    for number in (1, 2, 3):
        if all(torch.equal(weights[name], one) for name, one in weights_of(number).items()):
            return found | {number}
    return found | {0}  # of none, or of several


@lru_cache
def weights_of(number: int) -> dict[str, torch.Tensor]:
    return dict(tiny("gpt2", seed=number).state_dict())


def fetch(hub: Hub, cache: Path, *what: str, **kwargs: Any) -> None:
    """What a user of plain transformers gets into the cache."""
    with hub.applied(cache):
        for name in what or ("model", "tokenizer"):
            LOADERS[name](transformers, **kwargs)


def half_upgraded(hub: Hub, cache: Path, editions: Editions, *what: str) -> tuple[str, str]:
    """The whole first edition, and of the second only these parts, with ``refs/main`` at it; gives both commits."""
    first = hub.add(REPO, editions[1])
    fetch(hub, cache)
    second = hub.add(REPO, editions[2])
    fetch(hub, cache, *(what or ("config", "tokenizer")))
    assert (repository(cache, REPO) / "refs" / "main").read_text() == second
    hub.clear()
    return first, second


@contextmanager
def said(category: type[Warning] = CachedCopyWarning) -> Iterator[list[str]]:
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield messages
    messages += [str(warning.message) for warning in told if isinstance(warning.message, category)]


@contextmanager
def no_network(hub: Hub, how: str, cache: Path) -> Iterator[dict[str, Any]]:
    """Gives the arguments of a load: ``local_files_only`` where that is how."""
    with ExitStack() as stack:
        if how in FAULTS:
            access = stack.enter_context(hub.faulty(how))
            stack.enter_context(access.apply(cache))
            yield {}
            return
        stack.enter_context(hub.applied(cache))
        if how == "local_files_only":
            yield {"local_files_only": True}
        else:
            for name in ("huggingface_hub.constants.HF_HUB_OFFLINE", "transformers.utils.hub._is_offline_mode"):
                module, _, constant = name.rpartition(".")
                if hasattr(import_module(module), constant):
                    stack.enter_context(mock.patch(name, True))
            yield {}
        assert not hub.requests


def within(limit_s: float, load: Callable[[], Any]) -> Any:
    start_s = time.monotonic()
    found = load()
    assert time.monotonic() - start_s < limit_s
    return found


NO_NETWORK = ("refused", "hang", "HF_HUB_OFFLINE", "local_files_only")


# A half-finished upgrade


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("how", NO_NETWORK)
@pytest.mark.parametrize("order", [("model", "tokenizer"), ("pipeline",)])
def test_a_user_whose_upgrade_stopped_before_the_weights_gets_the_old_commit_and_hears_what_the_new_one_lacks(
    order: tuple[str, ...], how: str, hub: Hub, cache: Path, editions: Editions
) -> None:
    first, second = half_upgraded(hub, cache, editions)
    with no_network(hub, how, cache) as kwargs, said() as told:
        found = [within(HANGS_S, lambda name=name: LOADERS[name](st, **kwargs)) for name in order]
    assert [editions_of(thing) for thing in found] == [{1}] * len(order)
    assert any(first in text and second[:12] in text and "model.safetensors" in text for text in told)


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("how", NO_NETWORK)
@pytest.mark.parametrize("order", [("pipeline",)])
def test_a_user_whose_upgrade_stopped_before_the_tokenizer_gets_model_and_tokenizer_of_one_commit(
    order: tuple[str, ...], how: str, hub: Hub, cache: Path, editions: Editions
) -> None:
    half_upgraded(hub, cache, editions, "model")
    with no_network(hub, how, cache) as kwargs:
        assert [editions_of(LOADERS[name](st, **kwargs)) for name in order] == [{1}] * len(order)


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("how", NO_NETWORK)
@pytest.mark.parametrize("ref", [None, "0" * 40, "garbled"])
def test_a_user_whose_ref_is_lost_or_wrong_gets_what_is_whole(
    ref: str | None, how: str, hub: Hub, cache: Path, editions: Editions
) -> None:
    hub.add(REPO, editions[1])
    fetch(hub, cache)
    hub.clear()
    path = repository(cache, REPO) / "refs" / "main"
    shutil.rmtree(path.parent) if ref is None else path.write_text(ref)
    with no_network(hub, how, cache) as kwargs:
        for name in LOADERS:
            assert editions_of(within(HANGS_S, lambda name=name: LOADERS[name](st, **kwargs))) == {1}, name


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("how", NO_NETWORK)
def test_each_revision_is_served_as_what_it_means(how: str, hub: Hub, cache: Path, editions: Editions) -> None:
    first = hub.add(REPO, editions[1])
    hub.tag(REPO, "v1", first)
    other = hub.add(REPO, editions[2], branch="feature/x")
    newest = hub.add(REPO, editions[3])
    wanted = {"v1": 1, "feature/x": 2, other: 2, other[:8]: 2, first: 1, "main": 3, newest: 3}
    for revision in wanted:
        fetch(hub, cache, revision=revision)
    hub.clear()
    with no_network(hub, how, cache) as kwargs:
        for revision, name in itertools.product(wanted, ("model", "tokenizer")):
            found = LOADERS[name](st, revision=revision, **kwargs)
            assert editions_of(found) == {wanted[revision]}, (revision, name)
        with pytest.raises(NotCachedError, match="never-cached"):
            LOADERS["model"](st, revision="never-cached", **kwargs)


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("how", ["refused", "HF_HUB_OFFLINE"])
def test_a_short_hash_finds_a_commit_that_was_fetched_by_another_name(
    how: str, hub: Hub, cache: Path, editions: Editions
) -> None:
    commit = hub.add(REPO, editions[2])
    fetch(hub, cache)
    hub.clear()
    with no_network(hub, how, cache) as kwargs:
        assert editions_of(LOADERS["model"](st, revision=commit[:9], **kwargs)) == {2}


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("how", NO_NETWORK)
def test_only_the_default_branch_may_be_a_commit_without_a_name(
    how: str, hub: Hub, cache: Path, editions: Editions
) -> None:
    commit = hub.add(REPO, editions[1])
    hub.tag(REPO, "v1", commit)
    fetch(hub, cache, revision=commit)
    shutil.rmtree(repository(cache, REPO) / "refs", ignore_errors=True)  # some look-ups leave the revision out
    hub.clear()
    with no_network(hub, how, cache) as kwargs:
        with pytest.raises(NotCachedError, match="v1"):
            LOADERS["model"](st, revision="v1", **kwargs)
        assert editions_of(LOADERS["model"](st, **kwargs)) == {1}


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("name", LOADERS)
def test_a_config_says_the_same_commit_as_through_plain_transformers(
    name: str, hub: Hub, cache: Path, editions: Editions
) -> None:
    def commit_of(thing: Any) -> Any:
        thing = getattr(thing, "model", thing)
        return getattr(getattr(thing, "config", thing), "_commit_hash", None)

    hub.add(REPO, editions[1])
    fetch(hub, cache, *LOADERS)
    with hub.applied(cache):
        expected = commit_of(LOADERS[name](transformers))
        assert commit_of(LOADERS[name](st)) == expected
    for how in ("refused", "hang"):
        with no_network(hub, how, cache):
            assert commit_of(LOADERS[name](st)) == expected


# A hub that moves


class At(list[Any]):
    """The record of a hub's requests, which does something when the hub has read so many."""

    def __init__(self, count: int, do: Callable[[], object]) -> None:
        super().__init__()
        self._count, self._do = count, do

    def append(self, request: Any) -> None:
        super().append(request)
        if len(self) == self._count:
            self._do()


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("name", ["model", "tokenizer", "pipeline", "model_class"])
def test_a_hub_that_gets_a_commit_at_any_moment_of_a_load_gives_all_of_one(
    name: str, is_warm: bool, tmp_path: Path, editions: Editions
) -> None:
    seen = set()
    for count in itertools.count(1, STEPS[name]):
        learned.forget()
        cache = tmp_path / str(count)
        with Hub() as hub:
            commits = {hub.add(REPO, editions[1])}
            if is_warm:
                fetch(hub, cache)
                commits.add(hub.add(REPO, editions[2]))
            hub.requests = At(count, lambda hub=hub, commits=commits: commits.add(hub.add(REPO, editions[3])))
            with hub.applied(cache), said() as told:
                if name == "model_class":
                    with st.patched():
                        found = transformers.GPT2LMHeadModel.from_pretrained(REPO)
                else:
                    found = LOADERS[name](st)
            assert not told
            assert len(editions_of(found)) == 1, (count, editions_of(found))
            seen |= editions_of(found)
            if len(hub.requests) < count:
                break
    assert seen == {2 if is_warm else 1, 3}


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("fault", ["rate_limited", "portal_200", "hang"])
@pytest.mark.parametrize("name", ["model", "pipeline"])
def test_a_hub_that_dies_at_any_moment_of_an_upgrade_gives_all_of_one_commit(
    name: str, fault: str, tmp_path: Path, editions: Editions
) -> None:
    seen = set()
    with Hub() as hub:
        hub.add(REPO, editions[1])
        fetch(hub, tmp_path / "whole")
        hub.add(REPO, editions[2])
        for count in itertools.count(1, STEPS[name]):
            learned.forget()
            cache = copied(tmp_path / "whole", tmp_path / str(count))
            with ExitStack() as stack:
                stack.enter_context(hub.applied(cache))
                hub.requests = At(count, lambda stack=stack: stack.enter_context(hub.faulty(fault)))
                found = within(HANGS_S, lambda: LOADERS[name](st))
                is_over = len(hub.requests) < count
            assert len(editions_of(found)) == 1, (count, editions_of(found))
            seen |= editions_of(found)
            if is_over:
                break
    assert seen == {1, 2}


def test_a_user_of_a_healthy_hub_gets_all_of_its_new_commit(hub: Hub, cache: Path, editions: Editions) -> None:
    hub.add(REPO, editions[1])
    fetch(hub, cache)
    second = hub.add(REPO, editions[2])
    with hub.applied(cache), said() as told:
        assert [editions_of(LOADERS[name](st)) for name in LOADERS] == [{2}] * len(LOADERS)
    assert not told
    snapshot = repository(cache, REPO) / "snapshots" / second
    plain = cache.parent / "plain"
    fetch(hub, plain, *LOADERS)
    expected = repository(plain, REPO) / "snapshots" / second
    assert {path.name for path in snapshot.iterdir()} == {path.name for path in expected.iterdir()}
    assert all(path.read_bytes() == editions[2][path.name] for path in snapshot.iterdir())


UPGRADE_FAULTS = (
    *("cdn_down", "cdn_503", "hang_cdn", "stall", "drip", "reset_mid_body", "truncated_body", "portal_get"),
)


@pytest.mark.parametrize("fault", UPGRADE_FAULTS)
def test_a_user_gets_the_old_commit_while_the_new_one_cannot_be_fetched_and_the_new_one_afterwards(
    fault: str, hub: Hub, cache: Path, editions: Editions
) -> None:
    first = hub.add(REPO, editions[1])
    fetch(hub, cache)
    second = hub.add(REPO, editions[2])
    with hub.faulty(fault) as access, access.apply(cache):
        with said(HubWarning) as told:
            assert editions_of(within(HANGS_S, lambda: LOADERS["model"](st))) == {1}
        (message,) = told
        assert first in message
        if fault != "portal_get":  # which may also answer where the hub would say which commit it has
            assert second[:12] in message
        hub.clear()
        assert editions_of(LOADERS["model"](st)) == {1}
        assert editions_of(LOADERS["tokenizer"](st)) == {1}
        assert not hub.requests, "a commit that could not be fetched is not tried at once again"
    breakers.forget()
    with hub.applied(cache), said() as told:
        assert editions_of(LOADERS["model"](st)) == {2}
        assert editions_of(LOADERS["tokenizer"](st)) == {2}
    assert not told


# Adapters


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("how", ["refused", "hang"])
def test_an_adapter_and_its_base_are_each_of_the_commit_that_is_whole(
    how: str, hub: Hub, cache: Path, tmp_path: Path, editions: Editions
) -> None:
    config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["c_attn"], fan_in_fan_out=True)
    peft.get_peft_model(tiny("gpt2", seed=1), config).save_pretrained(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": REPO}))
    hub.add("me/adapter", tmp_path / "adapter")
    base = hub.add(REPO, editions[1])

    def load(m: Any) -> Any:
        return m.AutoModelForCausalLM.from_pretrained("me/adapter")

    def load_on_base(m: Any) -> Any:
        return peft.PeftModel.from_pretrained(LOADERS["model"](m), "me/adapter")

    with hub.applied(cache):
        expected, expected_on_base = load(transformers), load_on_base(transformers)
        hub.add(REPO, editions[2])
        LOADERS["config"](transformers)  # of the base's new commit there is no more than that
    with no_network(hub, how, cache), said() as told:
        assert same(load(st), expected)
        with st.patched():
            assert same(load_on_base(transformers), expected_on_base)
    assert any(base in text and "model.safetensors" in text for text in told)


# Caches that cannot be written

Scenario = dict[str, Any]


def load_as_nobody(scenarios: list[Scenario]) -> list[list[Any]]:
    """What each loader gives in each scenario to a user who may write nothing. For a process of its own."""
    torch.set_num_threads(1)
    for name in LOADERS:  # imports what it needs, which nobody may not be allowed to read
        with Access(**scenarios[0]["access"]).apply(Path(scenarios[0]["own_cache"])):
            LOADERS[name](transformers)
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    results = []
    for scenario in scenarios:
        learned.forget()
        notices.forget()
        with Access(**scenario["access"]).apply(Path(scenario["cache"])):
            results.append([_result(name, scenario["kwargs"]) for name in LOADERS])
    return results


def _result(name: str, kwargs: dict[str, Any]) -> Any:
    with said() as told:
        try:
            found = editions_of(LOADERS[name](st, **kwargs))
        except Exception as error:  # noqa: BLE001 - the test is told
            return f"{type(error).__name__}: {error}"
    return [sorted(found), len(told)]


@pytest.fixture(scope="module")
def read_by_nobody(editions: Editions) -> Iterator[dict[str, list[Any]]]:
    """What nobody gets from caches of the first edition, by scenario."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        same_hub, moved_hub, refusing = (stack.enter_context(Hub()) for _ in range(3))
        for each in (same_hub, moved_hub):
            each.add(REPO, editions[1])
        fetch(same_hub, folder / "hub")
        copied(folder / "hub", folder / "no_refs")
        shutil.rmtree(repository(folder / "no_refs", REPO) / "refs")
        moved_hub.add(REPO, editions[2])
        refused = stack.enter_context(refusing.faulty("refused"))
        settings: dict[str, tuple[Access, str, dict[str, Any]]] = {
            "same commit": (same_hub.access, "hub", {}),
            "hub moved on": (moved_hub.access, "hub", {}),
            "refused": (refused, "hub", {}),
            "no refs": (same_hub.access, "no_refs", {}),
            "no refs, hub moved on": (moved_hub.access, "no_refs", {}),
            "no refs, refused": (refused, "no_refs", {}),
            "no refs, local files only": (same_hub.access, "no_refs", {"local_files_only": True}),
        }
        scenarios = [
            {
                "access": {"endpoint": access.endpoint, "env": dict(access.env)},
                "cache": str(folder / name),
                "own_cache": str(folder / "own"),
                "kwargs": kwargs,
            }
            for access, name, kwargs in settings.values()
        ]
        for path in [*folder.rglob("*"), folder]:
            if not path.is_symlink():
                path.chmod(0o555 if path.is_dir() else 0o444)
        folder.chmod(0o755)
        code = (
            "import json, sys, test_hub_one_commit as tests\n"
            "print('\\n' + json.dumps(tests.load_as_nobody(json.loads(sys.argv[1]))))"
        )
        here = Path(__file__).parent
        path = os.pathsep.join(map(str, [here, here.parent, Path(st.__file__).parent.parent]))
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(scenarios)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=120,
        )
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        yield dict(zip(settings, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize(
    ("scenario", "is_told"),
    {
        "same commit": False,
        "hub moved on": True,
        "refused": True,
        "no refs": False,
        "no refs, hub moved on": True,
        "no refs, refused": True,
        "no refs, local files only": True,
    }.items(),
)
def test_a_user_of_a_read_only_cache_gets_what_is_in_it(
    scenario: str, is_told: bool, read_by_nobody: dict[str, list[Any]]
) -> None:
    found = read_by_nobody[scenario]
    assert [one[0] if isinstance(one, list) else one for one in found] == [[1]] * len(LOADERS)
    assert any(one[1] for one in found) == is_told
    assert all(one[1] <= 1 for one in found)


# Nothing changes where nothing is wrong


def test_a_healthy_hub_gives_what_it_gives_without_us_and_is_asked_no_more(tmp_path: Path) -> None:
    with world(tmp_path) as made, made.hub.applied(made.cache):
        for name, entry in ENTRIES.items():
            if name == "pickled_model":
                continue  # transformers looks for a converted one in a thread, whenever that runs
            asked = {}
            for module in (transformers, st):
                for _ in range(2):  # a first load of either may look up more
                    made.hub.clear()
                    learned.forget()
                    with said() as told:
                        assert same(entry.load(module), made.plain[name]), name
                    assert not told
                    asked[module] = [(request.method, request.path) for request in made.hub.requests]
            assert len(asked[st]) <= len(asked[transformers]), (name, asked)
