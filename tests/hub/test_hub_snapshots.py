"""Which commit of a cached repository is served when the hub does not answer, and what the others lack."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from checkpoints import tokenizer as a_tokenizer
from hub_caches import (
    BOTH,
    MODEL,
    PORTAL,
    TOKENIZER,
    Repo,
    commit_hash,
    problems,
    served,
    text_model,
    told,
)
from huggingface_hub import _CACHED_NO_EXIST, scan_cache_dir, try_to_load_from_cache
from transformers import AutoModel, BertConfig, BertModel

from safetransformers.hub.snapshots import (
    Choice,
    Need,
    choose,
    commits,
    lacks,
    ref,
    repo_folder,
    similar_repos,
)


def test_the_caches_of_these_tests_are_caches_to_huggingface_hub(repo: Repo) -> None:
    old = repo.commit("old", text_model(1), ref="v1.0", age_s=100)
    new = repo.commit("new", text_model(2) | {"onnx/model.onnx": b"x"}, ref="main", absent=("added_tokens.json",))
    scan = scan_cache_dir(repo.cache)
    (found,) = scan.repos
    assert not scan.warnings
    assert found.repo_path == repo_folder(repo.cache, "org/model") == repo.folder
    assert {revision.commit_hash: set(revision.refs) for revision in found.revisions} == {old: {"v1.0"}, new: {"main"}}
    for snapshot in commits(repo.folder):
        (revision,) = [one for one in found.revisions if one.commit_hash == snapshot.commit]
        assert {path: path.resolve().name for path in snapshot.files().values()} == {
            file.file_path: file.blob_path.name for file in revision.files
        }
        assert all(snapshot.blob_of(name) == path.resolve().name for name, path in snapshot.files().items())
        assert snapshot.size_bytes() == sum(file.size_on_disk for file in revision.files)
    assert [snapshot.commit for snapshot in commits(repo.folder)] == [new, old]

    newest = commits(repo.folder)[0]
    for name in (*text_model(), "onnx/model.onnx", "added_tokens.json", "merges.txt"):
        cached = try_to_load_from_cache("org/model", name, repo.cache, "main")
        path = newest.files().get(name)
        assert cached == (_CACHED_NO_EXIST if newest.known_absent(name) else path and str(path)), name


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("verify", ["size", "hash"])
def test_a_whole_commit_is_served_for_every_load(tmp_path: Path, links: bool, verify: str) -> None:
    repo = Repo(tmp_path, links=links)
    commit = repo.commit("one", text_model(), ref="main")
    for need in (BOTH, MODEL, TOKENIZER, Need(config=True), Need(), replace(BOTH, safetensors_only=True)):
        assert choose(tmp_path, "org/model", None, need, verify=verify) == Choice(commits(repo.folder)[0], ())
        assert served(repo, need, "main") == served(repo, need, commit) == served(repo, need, "") == commit


def test_a_half_finished_upgrade_is_passed_over_by_every_load(repo: Repo) -> None:
    old = repo.commit("old", text_model(1), age_s=1000)
    half = {name: content for name, content in text_model(2).items() if name != "model.safetensors"}
    new = repo.commit("new", half, ref="main")
    for need in (BOTH, MODEL, TOKENIZER, Need(config=True), Need()):
        choice = choose(repo.cache, "org/model", None, need)
        assert choice.snapshot is not None and choice.snapshot.commit == old
        assert [commit for commit, _ in choice.passed_over] == [new]
        assert told(choice) == [("model.safetensors", "missing")]


def test_a_first_download_that_stopped_serves_what_it_has(repo: Repo) -> None:
    files = {name: content for name, content in text_model().items() if name != "model.safetensors"}
    commit = repo.commit("one", files, ref="main")
    assert served(repo, TOKENIZER) == commit
    assert served(repo, MODEL) is None
    assert told(choose(repo.cache, "org/model", None, MODEL)) == [("model.safetensors", "missing")]


def test_a_ref_whose_download_never_began_gives_way(repo: Repo) -> None:
    old = repo.commit("old", text_model(), age_s=10)
    repo.write_ref("main", commit_hash("new"))
    choice = choose(repo.cache, "org/model", None, BOTH)
    assert choice.snapshot is not None and choice.snapshot.commit == old
    assert told(choice) == [(f"snapshots/{commit_hash('new')}", "missing")]


def test_cut_weights_are_passed_over_and_named(repo: Repo) -> None:
    old = repo.commit("old", text_model(1), age_s=1000)
    new = repo.commit("new", text_model(2), ref="main")
    repo.truncate(new, "model.safetensors", 200)
    for need in (BOTH, TOKENIZER, Need()):
        choice = choose(repo.cache, "org/model", "main", need)
        assert choice.snapshot is not None and choice.snapshot.commit == old
        assert told(choice) == [("model.safetensors", "truncated")]


def test_one_flipped_bit_of_the_weights_is_found_where_hashes_are_asked_for(repo: Repo) -> None:
    old = repo.commit("old", text_model(1), age_s=1000)
    new = repo.commit("new", text_model(2), ref="main")
    repo.flip(new, "model.safetensors")
    assert served(repo, BOTH, verify="size") == new
    choice = choose(repo.cache, "org/model", None, BOTH, verify="hash")
    assert choice.snapshot is not None and choice.snapshot.commit == old
    assert told(choice) == [("model.safetensors", "other bytes")]
    assert served(repo, TOKENIZER, verify="hash") == new  # the load does not read them


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_cut_or_changed_text_file_is_always_found(repo: Repo, file: str) -> None:
    commit = repo.commit("one", text_model(), ref="main")
    content = repo.path(commit, file).read_bytes()
    for broken, word in ((content[:-9], ("other bytes", "truncated")), (PORTAL, ("an HTML page",)), (b"", ("empty",))):
        repo.replace(commit, file, broken)
        ((name, problem),) = told(choose(repo.cache, "org/model", None, BOTH))
        assert name == file and problem in word
    repo.replace(commit, file, content)
    assert served(repo, BOTH) == commit


def test_bytes_that_the_repository_really_has_are_no_damage(repo: Repo) -> None:
    """An empty merges.txt, a vocabulary that looks like a page: as the hub has them, so as a load online reads them."""
    files = text_model() | {"merges.txt": b"", "vocab.txt": b"<html>\n</html>\n", "special_tokens_map.json": b""}
    files["model.safetensors"] += b"more"
    assert problems(repo, files, BOTH) == []
    copied = Repo(repo.cache, "org/copied", links=False)  # nothing tells what the hub has
    assert sorted(problems(copied, files, BOTH)) == [
        ("merges.txt", "empty"),
        ("model.safetensors", "longer than its header says"),
        ("special_tokens_map.json", "empty"),
        ("vocab.txt", "an HTML page"),
    ]


def test_a_link_whose_blob_is_gone_is_damage_only_where_it_is_read(repo: Repo) -> None:
    commit = repo.commit("one", text_model() | {"tf_model.h5": None, "vocab.txt": None}, ref="main")
    assert served(repo, MODEL) == commit
    assert told(choose(repo.cache, "org/model", None, TOKENIZER)) == [("vocab.txt", "dangling link")]
    assert set(told(choose(repo.cache, "org/model", None, Need()))) == {
        ("vocab.txt", "dangling link"),
        ("tf_model.h5", "dangling link"),
    }


def test_a_tag_or_branch_means_its_own_commit_and_no_other(repo: Repo) -> None:
    main = repo.commit("main", text_model(1), ref="main", age_s=5)
    tag = repo.commit("tag", text_model(2), ref="v1.0", age_s=4)
    pr = repo.commit("pr", text_model(3), ref="refs/pr/7", age_s=3)
    loose = repo.commit("loose", text_model(4), age_s=2)
    for revision, commit in ((None, main), ("v1.0", tag), ("refs/pr/7", pr), (loose, loose), (loose[:7], loose)):
        assert served(repo, BOTH, revision) == commit
    for commit in (main, tag, pr):
        repo.truncate(commit, "model.safetensors", 100)
    assert served(repo, BOTH, None) == loose  # newest that no other ref names
    assert served(repo, BOTH, "v1.0") is served(repo, BOTH, "refs/pr/7") is served(repo, BOTH, tag) is None
    assert choose(repo.cache, "org/model", "v2.0", BOTH) == Choice(None, ())


def test_main_never_means_the_commit_of_another_ref(repo: Repo) -> None:
    for name, refname in (("one", "dev"), ("two", "refs/pr/1"), ("three", "feature/x")):
        repo.commit(name, text_model(), ref=refname)
    assert served(repo, BOTH) is None
    first = repo.commit("first", text_model(), age_s=50)
    second = repo.commit("second", text_model(), age_s=20)
    assert served(repo, BOTH) == second  # no refs/main: the newest
    repo.write_ref("main", first)
    assert served(repo, BOTH) == first
    assert served(repo, BOTH, barred={first}) == second
    assert served(repo, BOTH, barred={first, second}) is None


def test_an_abbreviated_hash_means_one_commit_or_none(repo: Repo) -> None:
    one = repo.commit("abcdef0" + "1" * 33, text_model(1))
    repo.commit("abcdef0" + "2" * 33, text_model(2))
    assert served(repo, BOTH, "abcdef01") == served(repo, BOTH, "ABCDEF01") == served(repo, BOTH, one.upper()) == one
    assert served(repo, BOTH, "abcdef0") is None
    other = repo.commit("fedcba9" + "3" * 33, text_model(4))
    assert served(repo, BOTH, "fedcba9") == other
    assert served(repo, BOTH, "fedcba") is None  # as short a name is a branch's
    branch = repo.commit("branch", text_model(3), ref="abcdef01")
    assert served(repo, BOTH, "abcdef01") == branch


@pytest.mark.parametrize("text", ["", "not a commit", "0" * 39, "0" * 41, "G" * 40, "../" * 20, "\xff\xfe", "é" * 40])
def test_a_garbled_ref_is_no_ref(repo: Repo, text: str) -> None:
    commit = repo.commit("one", text_model())
    repo.write_ref("main", text)
    assert ref(repo.folder, "main") is None
    assert served(repo, BOTH) == commit


def test_a_ref_is_read_only_inside_its_folder(repo: Repo) -> None:
    commit = repo.commit("one", text_model(), ref="main")
    (repo.folder / "secret").write_text(commit)
    assert ref(repo.folder, "main") == commit
    repo.write_ref("trailing", commit + "\n")
    assert ref(repo.folder, "trailing") == commit
    for name in (
        "../secret",
        "/secret",
        str(repo.folder / "secret"),
        "a/../main",
        "./main",
        "",
        "refs",
        "nul\0",
        "x" * 300,
    ):
        assert ref(repo.folder, name) is None, name
        assert choose(repo.cache, "org/model", name or "other", BOTH).snapshot is None


def test_a_cache_in_any_state_gives_an_answer(tmp_path: Path) -> None:
    def state(name: str) -> Repo:
        return Repo(tmp_path, f"org/{name}")

    assert choose(tmp_path / "no cache", "org/model", None, BOTH) == Choice(None, ())
    assert choose(tmp_path, "org/never", None, BOTH) == Choice(None, ())
    for odd in ("", "a/b/c", "..", "../..", "nul\0", "x" * 300, "spaces and é", "a\\b"):
        assert choose(tmp_path, odd, None, BOTH) == Choice(None, ())
    (tmp_path / "models--org--file").write_text("a file in place of the repository")
    assert choose(tmp_path, "org/file", None, BOTH) == Choice(None, ())

    empty = state("empty")
    commit = empty.commit("one", {}, ref="main")
    ((passed, (damage,)),) = choose(tmp_path, "org/empty", None, BOTH).passed_over
    assert (passed, damage.problem, damage.found) == (commit, "missing", "an empty folder")

    files = state("files")
    files.write_ref("main", commit)
    (files.folder / "snapshots" / commit).write_text("a file in place of a commit")
    ((_, (damage,)),) = choose(tmp_path, "org/files", None, BOTH).passed_over
    assert (damage.problem, damage.found) == ("missing", "Not a directory")
    shutil.rmtree(files.folder / "snapshots")
    (files.folder / "snapshots").write_text("a file in place of all commits")
    assert served(files, BOTH) is None

    refs = state("refs")
    whole = refs.commit("one", text_model())
    (refs.folder / "refs").write_text("a file in place of refs")
    assert served(refs, BOTH) == whole

    loop = state("loop")
    whole = loop.commit("one", text_model(), ref="main")
    loop.path(whole, "up").symlink_to("..")
    loop.path(whole, "self").symlink_to("self")
    (loop.folder / "snapshots" / "loop").symlink_to("loop")
    (loop.folder / "refs" / "around").symlink_to("around")
    assert served(loop, BOTH) == whole
    loops = told(choose(tmp_path, "org/loop", None, Need()))
    assert sorted(loops) == [("self", "unreadable"), ("up", "unreadable")]

    odd = state("odd")
    whole = odd.commit("one", text_model() | {"a b\n\u202e é.json": b"{}", "-rf": b"", "deep/" * 40 + "x.json": b"{}"})
    assert served(odd, Need()) == whole


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="another user can be played by root only")
def test_the_cache_of_another_user_gives_an_answer() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        repo = Repo(Path(folder))
        closed = repo.commit("closed", text_model(1), ref="main", age_s=1)
        whole = repo.commit("open", text_model(2), age_s=100)
        (repo.folder / "snapshots" / closed).chmod(0o700)
        os.seteuid(65534)
        try:
            choice = choose(folder, "org/model", None, BOTH)
        finally:
            os.seteuid(0)
        assert choice.snapshot is not None and choice.snapshot.commit == whole
        assert "Permission denied" in str(choice.passed_over)


def test_a_misspelt_repository_finds_its_neighbours(tmp_path: Path) -> None:
    for name in ("google-bert/bert-base-uncased", "google-bert/bert-base-cased", "openai/whisper-tiny", "gpt2"):
        Repo(tmp_path, name)
    assert similar_repos(tmp_path, "google-bert/bert-base-uncasd")[0] == "google-bert/bert-base-uncased"
    assert similar_repos(tmp_path, "bert-base-uncased")[0] == "google-bert/bert-base-uncased"
    assert similar_repos(tmp_path, "OpenAI/Whisper-Tiny") == ["openai/whisper-tiny"]
    assert "gpt2" not in similar_repos(tmp_path, "gpt2")
    Repo(tmp_path, "an-organisation-of-a-very-long-name/tiny")
    assert similar_repos(tmp_path, "tiny")[0] == "an-organisation-of-a-very-long-name/tiny"
    assert similar_repos(tmp_path, "qqqqqqqqqqqq/zzzzzzzz") == similar_repos(tmp_path / "none", "gpt2") == []


def test_a_load_that_is_served_works_and_one_that_is_not_says_why(tmp_path: Path) -> None:
    """The commit that is chosen loads with transformers; nothing in it was written or moved."""
    BertModel(BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path / "saved"
    )
    a_tokenizer().save_pretrained(tmp_path / "saved")
    repo = Repo(tmp_path)
    files = {file.name: file.read_bytes() for file in (tmp_path / "saved").iterdir()}
    commit = repo.commit("one", files, ref="main")
    before = {path: os.lstat(path) for path in repo.folder.rglob("*")}
    choice = choose(tmp_path, "org/model", None, BOTH, verify="hash")
    assert choice.snapshot is not None and choice.snapshot.commit == commit
    after = {path: os.lstat(path) for path in repo.folder.rglob("*")}
    assert {path: (one.st_mtime_ns, one.st_size) for path, one in before.items()} == {
        path: (one.st_mtime_ns, one.st_size) for path, one in after.items()
    }
    AutoModel.from_pretrained(choice.snapshot.folder)
    assert transformers.AutoTokenizer.from_pretrained(choice.snapshot.folder)("hello")["input_ids"] == [4]
    assert lacks(choice.snapshot, BOTH, [choice.snapshot], verify="hash") == ()
