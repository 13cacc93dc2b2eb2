"""The doctor on hub caches as users have them: whole, broken, half downloaded, and with what nobody needs any more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_caches import Repo, safetensors, sharded, text_model

from safetransformers.doctor import cache as doctor
from safetransformers.doctor.finding import Finding, is_fine
from safetransformers.hub import integrity

PREFETCH = "safetransformers prefetch org/model"


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    integrity.forget()
    yield
    integrity.forget()


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "hub")


def told(repo: Repo, *, verify: str = "size") -> list[Finding]:
    """All that is not ok, but how full this disk is; each with a reason and a remedy."""
    found = list(doctor.findings(replace(doctor.look(repo.cache, verify=verify), free_bytes=2**50)))
    bad = [one for one in found if one.level != "ok"]
    assert all(one.why and one.do for one in bad)
    return bad


def test_a_whole_cache_is_fine_and_its_size_is_told(repo: Repo) -> None:
    files = text_model()
    repo.commit("one", files, ref="main")
    facts = doctor.look(repo.cache)
    assert told(repo) == told(repo, verify="hash") == []
    assert facts.size_bytes == sum(map(len, files.values())) + 40  # and the ref
    assert facts.free_bytes > 0 and [one.repo_id for one in facts.repos] == ["org/model"]


@pytest.mark.parametrize("how", ["truncated", "dangling link", "not JSON", "an HTML page", "missing shard"])
def test_a_broken_commit_that_loads_would_read_is_a_problem(how: str, repo: Repo) -> None:
    if how == "missing shard":
        files: dict[str, bytes | None] = {**sharded()}
        del files["model-00002-of-00003.safetensors"]
    else:
        files = {**text_model()}
    if how == "dangling link":
        files["vocab.txt"] = None
    commit = repo.commit("one", files, ref="main")
    if how == "truncated":
        repo.truncate(commit, "model.safetensors", 50)
    elif how == "not JSON":
        repo.replace(commit, "config.json", b"model_type: bert")
    elif how == "an HTML page":
        repo.replace(commit, "tokenizer.json", b"<!DOCTYPE html><html>sign in</html>")
    problems = [one for one in told(repo) if one.level == "problem"]
    assert [one.do for one in problems] == [PREFETCH]
    word = "model-00002-of-00003.safetensors: missing" if how == "missing shard" else how
    assert "org/model at main is broken" in problems[0].what and word in problems[0].what


def test_one_flipped_bit_is_found_where_hashes_are_asked_for(repo: Repo) -> None:
    commit = repo.commit("one", text_model(), ref="main")
    repo.flip(commit, "model.safetensors")
    assert told(repo) == []
    assert [one.level for one in told(repo, verify="hash")] == ["problem"]


def test_a_ref_to_a_commit_that_is_gone_and_a_garbled_one_are_problems(repo: Repo) -> None:
    repo.commit("one", text_model(), ref="main")
    repo.write_ref("v2", "b" * 40)
    repo.write_ref("v3", "not a hash")
    found = told(repo)
    assert [one.level for one in found] == ["problem", "problem"]
    assert "refs/v3 names no commit" in found[0].what and "org/model at v2 is broken" in found[1].what
    assert found[1].do == f"{PREFETCH} --revision v2"


def test_an_old_commit_that_is_broken_is_a_note(repo: Repo) -> None:
    repo.commit("new", text_model(1), ref="main")
    old = repo.commit("old", text_model(2), age_s=9999)
    repo.truncate(old, "model.safetensors", 50)
    (finding,) = told(repo)
    assert finding.level == "note" and old[:12] in finding.what and "hf cache prune" in finding.do


def test_a_commit_that_no_name_means_is_a_note(repo: Repo) -> None:
    repo.commit("one", text_model())
    (finding,) = told(repo)
    assert finding.level == "note" and "no name means" in finding.what and finding.do == PREFETCH


def test_a_repository_of_which_only_the_tokenizer_was_fetched_is_a_note(repo: Repo) -> None:
    files = text_model()
    del files["model.safetensors"]
    repo.commit("one", files, ref="main")
    (finding,) = told(repo)
    assert finding.level == "note" and "model.safetensors" in finding.what and finding.do == PREFETCH


def test_an_adapter_whose_base_is_not_cached_is_a_note_that_names_the_base(repo: Repo) -> None:
    config = b'{"base_model_name_or_path": "org/base", "peft_type": "LORA"}'
    repo.commit("one", {"adapter_config.json": config, "adapter_model.safetensors": safetensors()}, ref="main")
    (finding,) = told(repo)
    assert finding.level == "note" and "org/base (base model of org/model)" in finding.what


def test_what_fills_the_disk_for_nothing_is_a_note_with_a_command_that_removes_only_that(repo: Repo) -> None:
    repo.commit("one", text_model(), ref="main")
    blobs = repo.folder / "blobs"
    (blobs / ("a" * 64)).write_bytes(b"x" * 1000)
    (blobs / ("b" * 64 + ".incomplete")).write_bytes(b"x" * 500)
    going_on = told(repo)
    assert [one.level for one in going_on] == ["note", "note"] and "still be going on" in going_on[0].why
    os.utime(blobs / ("b" * 64 + ".incomplete"), (time.time() - 9999,) * 2)
    unfinished, orphan = told(repo)
    assert unfinished.do.startswith(f"{PREFETCH}, and then: rm ")
    for command in (unfinished.do.partition("then: ")[2], orphan.do):
        assert os.system(command) == 0
    assert told(repo) == []


def test_the_command_that_removes_is_right_for_folders_with_spaces_and_says_not_whose_home_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    repo = Repo(tmp_path / "my cache; really")
    repo.commit("one", text_model(), ref="main")
    (repo.folder / "blobs" / "orphan").touch()
    (finding,) = told(repo)
    assert str(tmp_path) not in finding.do and os.system(finding.do) == 0
    assert told(repo) == []


def test_a_cache_without_links_is_looked_at_too(tmp_path: Path) -> None:
    repo = Repo(tmp_path, links=False)
    commit = repo.commit("one", text_model(), ref="main")
    assert told(repo) == []
    os.truncate(repo.path(commit, "model.safetensors"), 50)
    assert [one.level for one in told(repo)] == ["problem"]


def test_no_cache_an_empty_one_and_other_folders_in_it_are_fine(tmp_path: Path) -> None:
    (tmp_path / "hub" / "datasets--org--data" / "snapshots").mkdir(parents=True)
    (tmp_path / "hub" / ".locks").mkdir()
    for folder in (tmp_path / "none", tmp_path / "hub"):
        assert is_fine(doctor.findings(replace(doctor.look(folder), free_bytes=2**50)))


def test_a_cache_that_cannot_be_written_or_read_and_a_full_disk_are_problems() -> None:
    locked = doctor.Facts("~/hub", True, False, repos=(doctor.Repo("org/model", unreadable=True),))
    assert [one.level for one in doctor.findings(locked) if one.level != "ok"] == ["problem", "problem"]
    full = doctor.Facts("~/hub", True, True, free_bytes=2**20)
    assert [one.level for one in doctor.findings(full)] == ["problem"]
    assert [one.level for one in doctor.findings(replace(full, free_bytes=2**32))] == ["note"]


def test_nothing_is_changed(repo: Repo) -> None:
    commit = repo.commit("one", text_model(), ref="main")
    repo.truncate(commit, "model.safetensors", 50)
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in repo.cache.rglob("*"))
    told(repo, verify="hash")
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in repo.cache.rglob("*")) == before
