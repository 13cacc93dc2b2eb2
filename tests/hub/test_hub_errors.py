"""What a load says that neither the hub nor the cache can serve rightly: which file, which bytes, and what cures it."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
import torch
import transformers
from checkpoints import WORDS, save, tokenizer
from hub_caches import PORTAL
from hub_server import FAULTS, Hub
from models import tiny, weights
from transformers import BertTokenizer, ByT5Tokenizer, CanineTokenizer

import safetransformers as st
from safetransformers.errors import (
    CachedCopyWarning,
    CorruptCacheError,
    HubWarning,
    IncompleteFetchWarning,
    NotCachedError,
    StaleCacheError,
    VocabularyError,
)
from safetransformers.hub import contact
from safetransformers.hub.breaker import breakers

REPO = "me/bert"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead hub is given up soon, where the time is not what a test is about."""
    monkeypatch.setattr(contact, "WITHOUT_COPY_S", 0.3)
    monkeypatch.setattr("safetransformers.hub.client.WITHOUT_COPY_S", 0.3)


def replace(path: Path, content: bytes) -> bytes:
    """Other bytes under the same blob name; gives those that were there."""
    blob = path.resolve()
    before = blob.read_bytes()
    blob.write_bytes(content)
    return before


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def said(call: Callable[[], Any]) -> tuple[type[BaseException], str]:
    """How a call fails."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one it is, the caller compares
        call()
    return raised.type, str(raised.value)


def run(command: str, hub: Hub, cache: Path) -> None:
    """What a user pastes from a message into a shell, where ``hf`` is that of this environment."""
    bin_folder = Path(sys.executable).parent
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    unset = {"HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"}
    env = {name: value for name, value in os.environ.items() if name not in unset} | own | {"NO_PROXY": "*"}
    done = subprocess.run(shlex.split(command), check=False, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# Corruption

DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "weights that were cut": ("model.safetensors", lambda content: content[:-100], "truncated"),
    "a page in place of weights": ("model.safetensors", lambda content: PORTAL, "an HTML page"),
    "a page in place of the config": ("config.json", lambda content: PORTAL, "an HTML page"),
    "a config that was cut": ("config.json", lambda content: content[: len(content) // 2], ""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_user_is_told_which_file_is_broken_and_the_command_that_is_given_repairs_it(
    hub: Hub, cache: Path, snapshot: Path, damage: str
) -> None:
    name, broken, problem = DAMAGES[damage]
    good = (snapshot / name).read_bytes()
    bad = broken(good)
    replace(snapshot / name, bad)
    with hub.applied(cache):
        plain, plain_text = said(lambda: transformers.AutoModel.from_pretrained(REPO))
        assert "hf download" not in plain_text
        with pytest.raises(CorruptCacheError) as raised:
            st.AutoModel.from_pretrained(REPO)
    error = raised.value
    assert isinstance(error, OSError)
    assert isinstance(error.__cause__, plain)
    assert error.details["files"] == [name]
    assert error.details["commit"] == snapshot.name
    assert (
        name in error.what
        and problem in error.what
        and "expected ," not in error.what
        and "expected )" not in error.what
    )
    if problem == "truncated":
        assert f"expected {len(good)} bytes" in error.what and f"found {len(bad)} bytes" in error.what
    run(error.do, hub, cache)
    assert (snapshot / name).read_bytes() == good
    with hub.applied(cache), warnings.catch_warnings():
        warnings.simplefilter("error", HubWarning)
        repaired = st.AutoModel.from_pretrained(REPO)
    assert torch.equal(weights(repaired), weights(tiny("bert")))


def test_a_user_whose_tokenizer_file_is_a_login_page_is_told_so_and_can_repair_it(
    hub: Hub, cache: Path, snapshot: Path
) -> None:
    good = replace(snapshot / "tokenizer.json", PORTAL)
    with hub.applied(cache), pytest.raises(CorruptCacheError, match=r"tokenizer\.json: an HTML page") as raised:
        st.AutoTokenizer.from_pretrained(REPO)
    run(raised.value.do, hub, cache)
    assert (snapshot / "tokenizer.json").read_bytes() == good
    with hub.applied(cache):
        assert (
            st.AutoTokenizer.from_pretrained(REPO)("hello world")["input_ids"]
            == tokenizer()("hello world")["input_ids"]
        )


def test_a_user_of_plain_transformers_gets_flipped_weights_silently_and_with_verify_hash_an_error_and_a_cure(
    hub: Hub, cache: Path, snapshot: Path
) -> None:
    good = (snapshot / "model.safetensors").read_bytes()
    replace(snapshot / "model.safetensors", flipped(good))
    with hub.applied(cache), warnings.catch_warnings():
        warnings.simplefilter("error")
        wrong = transformers.AutoModel.from_pretrained(REPO)
    assert not torch.equal(weights(wrong), weights(tiny("bert")))
    with hub.applied(cache), st.policy(verify="hash"), pytest.raises(CorruptCacheError) as raised:
        st.AutoModel.from_pretrained(REPO)
    named = (snapshot / "model.safetensors").resolve().name  # the sha256 that the hub names the blob by
    assert (
        f"expected sha256 {named[:12]}" in raised.value.what and "model.safetensors: other bytes" in raised.value.what
    )
    run(raised.value.do, hub, cache)
    assert (snapshot / "model.safetensors").read_bytes() == good
    with hub.applied(cache), st.policy(verify="hash"):
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert")))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_user_behind_a_dead_hub_never_gets_a_copy_with_flipped_bytes(
    hub: Hub, cache: Path, snapshot: Path, quick: None, name: str
) -> None:
    """On the way to a fallback every copy is compared with its hash, whatever ``verify`` says."""
    good = (snapshot / name).read_bytes()
    bad = flipped(good) if name == "model.safetensors" else good.replace(b'"', b'"', 1).replace(b"32", b"64", 1)
    if name == "tokenizer.json":
        bad = good.replace(b"hello", b"jello")
    assert bad != good and len(bad) == len(good)
    replace(snapshot / name, bad)
    entry = "AutoTokenizer" if name == "tokenizer.json" else "AutoModel"
    with hub.faulty("refused") as access, access.apply(cache):
        if name != "config.json":
            getattr(transformers, entry).from_pretrained(REPO, local_files_only=True)  # plain says nothing
        with pytest.raises((NotCachedError, CorruptCacheError)) as raised:
            getattr(st, entry).from_pretrained(REPO)
    assert f"{name}: other bytes" in str(raised.value)


def test_a_user_who_prefers_the_cache_never_gets_a_copy_with_flipped_bytes(
    hub: Hub, cache: Path, snapshot: Path
) -> None:
    replace(snapshot / "model.safetensors", flipped((snapshot / "model.safetensors").read_bytes()))
    with hub.applied(cache), st.policy(offline="prefer"), pytest.raises(CorruptCacheError, match="other bytes"):
        st.AutoModel.from_pretrained(REPO)


def test_a_user_with_an_older_sound_commit_gets_it_only_where_the_hub_is_away_and_is_told(
    hub: Hub, cache: Path, snapshot: Path, files: dict[str, bytes], quick: None
) -> None:
    newer = save(tiny("bert", seed=1), cache.parent / "newer")
    commit = hub.add(REPO, newer)
    with hub.applied(cache):
        st.AutoModel.from_pretrained(REPO)
    broken = snapshot.parent / commit / "model.safetensors"
    replace(broken, broken.read_bytes()[:-100])
    with hub.applied(cache), pytest.raises(CorruptCacheError, match=r"model\.safetensors: truncated"):
        st.AutoModel.from_pretrained(REPO)
    breakers.forget()
    with hub.faulty("refused") as access, access.apply(cache):
        with pytest.warns(CachedCopyWarning) as told:
            older = st.AutoModel.from_pretrained(REPO)
        with st.strict(), pytest.raises(StaleCacheError):
            st.AutoModel.from_pretrained(REPO)
        with st.strict(), pytest.raises((NotCachedError, CorruptCacheError)):
            st.AutoModel.from_pretrained(REPO, revision=commit)
    assert torch.equal(weights(older), weights(tiny("bert")))
    (text,) = {str(warning.message) for warning in told if issubclass(warning.category, HubWarning)}
    assert snapshot.name in text and "truncated" in text and commit[:12] in text


def test_a_user_whose_download_arrives_with_other_bytes_is_told_to_load_again_and_then_it_works(
    hub: Hub, cache: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right length and no error of HTTP: a middlebox has rewritten the bytes on the way."""
    hub.add(REPO, files)
    blob = hub._repo(REPO).resolve("main")
    stored = hub._repo(REPO).commits[blob]["model.safetensors"]
    read = type(stored).read

    def rewritten(self: Any, start: int, stop: int) -> Iterator[bytes]:
        for chunk in read(self, start, stop):
            yield flipped(chunk) if self.oid == stored.oid else chunk

    with hub.applied(cache):
        with monkeypatch.context() as middlebox:
            middlebox.setattr(type(stored), "read", rewritten)
            with pytest.raises(CorruptCacheError, match=r"model\.safetensors: other bytes") as raised:
                st.AutoModel.from_pretrained(REPO)
        assert raised.value.do == "load again"
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert")))


# Not cached


def test_a_user_without_a_copy_is_told_within_five_seconds_of_a_hanging_hub_what_to_do(
    hub: Hub, cache: Path, snapshot: Path
) -> None:
    with hub.faulty("hang") as access, access.apply(cache):
        start_s = time.monotonic()
        with pytest.raises(NotCachedError) as raised:
            st.AutoModel.from_pretrained("me/bret")
        assert time.monotonic() - start_s < 5
    error = raised.value
    assert isinstance(error, OSError)
    assert "no answer from 127.0.0.1" in error.why  # what was tried
    assert "like name: me/bert" in error.why
    for cure in (
        "safetransformers prefetch me/bret --to bundle",
        "prefetch --from bundle",
        "HF_ENDPOINT",
        "snapshot folder",
    ):
        assert cure in error.do
    assert error.details["fault"] == "timeout" and error.details["repo_id"] == "me/bret"
    assert len(str(error).splitlines()) <= 10


@pytest.mark.parametrize("how", ["a dead hub", "local files only", "HF_HUB_OFFLINE"])
def test_a_user_with_half_a_copy_is_told_which_files_are_missing_and_which_commits_are_there(
    hub: Hub, cache: Path, snapshot: Path, quick: None, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (snapshot / "model.safetensors").resolve().unlink()
    (snapshot / "model.safetensors").unlink()
    with hub.faulty("refused") as access, access.apply(cache):
        if how == "HF_HUB_OFFLINE":
            go_offline(monkeypatch)
        with pytest.raises(NotCachedError) as raised:
            st.AutoModel.from_pretrained(REPO, **({"local_files_only": True} if how == "local files only" else {}))
    error = raised.value
    assert "model.safetensors" in error.why and snapshot.name[:12] in error.why
    assert error.details["missing"] == ["model.safetensors"]
    assert error.details["commits"] == [snapshot.name]
    assert ("refuses the connection" if how == "a dead hub" else "no request is allowed") in error.why
    assert error.details["fault"] == ("refused" if how == "a dead hub" else None)


def test_a_user_who_brings_a_bundle_as_the_error_says_loads_behind_the_dead_hub(
    hub: Hub, cache: Path, snapshot: Path, tmp_path: Path, quick: None
) -> None:
    """The two commands of the message, run: the first where there is a network, the second here."""
    empty, bundle = tmp_path / "empty", tmp_path / "bundle"
    with hub.faulty("refused") as access, access.apply(empty), pytest.raises(NotCachedError) as raised:
        st.AutoModel.from_pretrained(REPO)
    there, here = (part.partition(": ")[2] for part in raised.value.do.partition(". Or")[0].split("; "))
    command = [sys.executable, "-m", "safetransformers"]
    for text, into in ((there, cache), (here, empty)):
        words = [str(bundle) if word == "bundle" else word for word in shlex.split(text)[1:]]
        run(shlex.join([*command, *words]), hub, into)
    breakers.forget()
    with hub.faulty("refused") as access, access.apply(empty), pytest.warns(CachedCopyWarning):
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert")))


HUB_SAYS_NO = ["gated", "gone_repo", "gone_revision", "unauthorized_401", "bad_token_401"]


@pytest.mark.parametrize("entry", ["AutoModel", "AutoTokenizer"])
@pytest.mark.parametrize("fault", HUB_SAYS_NO)
def test_a_user_whom_the_hub_itself_refuses_gets_the_same_error_as_from_plain_transformers(
    hub: Hub, cache: Path, files: dict[str, bytes], fault: str, entry: str
) -> None:
    hub.add(REPO, files)
    with hub.faulty(fault) as access, access.apply(cache):
        plain = said(lambda: getattr(transformers, entry).from_pretrained(REPO))
        assert said(lambda: getattr(st, entry).from_pretrained(REPO)) == plain
        with st.strict():
            assert said(lambda: getattr(st, entry).from_pretrained(REPO)) == plain


def test_a_user_who_names_what_the_hub_has_not_gets_the_same_error_as_from_plain_transformers(
    hub: Hub, cache: Path, files: dict[str, bytes]
) -> None:
    hub.add(REPO, {name: content for name, content in files.items() if name != "model.safetensors"})
    calls: dict[str, Callable[[Any], Any]] = {
        "repository": lambda library: library.AutoModel.from_pretrained("me/none"),
        "branch": lambda library: library.AutoModel.from_pretrained(REPO, revision="none"),
        "file": lambda library: library.AutoModel.from_pretrained(REPO),
    }
    with hub.applied(cache):
        for what, call in calls.items():
            assert said(lambda call=call: call(st)) == said(lambda call=call: call(transformers)), what


def test_a_user_who_forces_a_download_from_a_dead_hub_gets_an_error_quickly_and_never_the_cache(
    hub: Hub, cache: Path, snapshot: Path
) -> None:
    with hub.faulty("hang") as access, access.apply(cache):
        start_s = time.monotonic()
        with pytest.raises(NotCachedError) as raised:
            st.AutoModel.from_pretrained(REPO, force_download=True)
        assert time.monotonic() - start_s < 5
        assert "force_download" in str(raised.value) and "is not in the cache" not in raised.value.what
    breakers.forget()
    with hub.applied(cache):
        hub.clear()
        st.AutoModel.from_pretrained(REPO, force_download=True)
    assert any(request.method == "GET" and request.kind == "cdn" for request in hub.requests)


@pytest.mark.parametrize("mode", ["fallback", "prefer", "raise"])
@pytest.mark.parametrize("entry", ["AutoModel", "AutoTokenizer", "AutoConfig"])
def test_a_user_who_forces_a_download_never_gets_the_cache_from_any_entry(
    hub: Hub, cache: Path, snapshot: Path, quick: None, entry: str, mode: str
) -> None:
    """Plain transformers gives the cached files, though new ones were asked for."""
    with hub.faulty("refused") as access, access.apply(cache), st.policy(offline=mode):
        for revision in ("main", snapshot.name):
            with pytest.raises((NotCachedError, StaleCacheError)):
                getattr(st, entry).from_pretrained(REPO, force_download=True, revision=revision)


def test_a_user_is_told_of_optional_files_that_could_not_be_looked_up(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """Config and weights of a first download come; the server breaks down over what the model may have besides."""
    save(tiny("gpt2"), tmp_path / "gpt2")
    hub.add("me/gpt2", tmp_path / "gpt2")
    fault = FAULTS["status_503"]

    def breaks_down(exchange: Any) -> bool:
        assert fault.act is not None
        if "generation_config" in exchange.request.path:
            return fault.act(exchange)
        exchange.send(exchange.reply)
        return True

    partly = dataclasses.replace(fault, act=breaks_down)
    with hub.faulty(partly) as access, access.apply(cache), pytest.warns(HubWarning) as told:
        model = st.AutoModelForCausalLM.from_pretrained("me/gpt2")
    assert torch.equal(weights(model), weights(tiny("gpt2")))
    assert {warning.category for warning in told if issubclass(warning.category, HubWarning)} == {
        IncompleteFetchWarning
    }
    text = str(told[0].message)
    assert "generation_config.json" in text and "server error (503)" in text
    assert "safetransformers prefetch me/gpt2" in text


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had been started with HF_HUB_OFFLINE=1, which both libraries read at import."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if hasattr(transformers.utils.hub, "_is_offline_mode"):
        monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)


# Tokenizers without a vocabulary


@pytest.fixture
def model_only(hub: Hub, cache: Path, files: dict[str, bytes]) -> Path:
    """The cache of a user who has loaded the model and not the tokenizer."""
    commit = hub.add(REPO, files)
    with hub.applied(cache):
        transformers.AutoModel.from_pretrained(REPO)
    return cache / "models--me--bert" / "snapshots" / commit


def test_a_user_with_only_the_model_cached_gets_the_tokenizer_from_a_healthy_hub(
    hub: Hub, cache: Path, model_only: Path
) -> None:
    with hub.applied(cache), warnings.catch_warnings():
        warnings.simplefilter("error", HubWarning)
        loaded = st.AutoTokenizer.from_pretrained(REPO)
    assert loaded("hello world")["input_ids"] == tokenizer()("hello world")["input_ids"]


@pytest.mark.parametrize("mode", ["fallback", "prefer", "raise"])
@pytest.mark.parametrize("how", ["a dead hub", "local files only", "HF_HUB_OFFLINE"])
def test_a_user_with_only_the_model_cached_never_gets_a_tokenizer_without_words(
    hub: Hub, cache: Path, model_only: Path, quick: None, monkeypatch: pytest.MonkeyPatch, how: str, mode: str
) -> None:
    with hub.faulty("refused") as access, access.apply(cache), st.policy(offline=mode):
        if how == "HF_HUB_OFFLINE":
            go_offline(monkeypatch)
        with pytest.raises((NotCachedError, VocabularyError, StaleCacheError)) as raised:
            st.AutoTokenizer.from_pretrained(REPO, **({"local_files_only": True} if how == "local files only" else {}))
    if mode != "raise":
        assert isinstance(raised.value, (NotCachedError, VocabularyError))
        assert "safetransformers prefetch me/bert" in raised.value.do


def test_a_user_of_a_folder_with_a_config_only_is_told_that_the_vocabulary_is_missing(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_bytes(files["config.json"])
    with pytest.raises(VocabularyError) as raised:
        st.AutoTokenizer.from_pretrained(folder)
    assert isinstance(raised.value, OSError)
    assert str(tmp_path) not in str(raised.value)
    assert "vocab.txt" in raised.value.why


def test_a_user_of_a_byte_level_tokenizer_needs_no_files(hub: Hub, cache: Path, tmp_path: Path) -> None:
    config = b'{"model_type": "t5", "tokenizer_class": "ByT5Tokenizer"}'
    hub.add("me/bytes", {"config.json": config})
    plain = ByT5Tokenizer()("hello")["input_ids"]
    with hub.applied(cache):
        assert st.AutoTokenizer.from_pretrained("me/bytes")("hello")["input_ids"] == plain
    with hub.faulty("refused") as access, access.apply(cache), pytest.warns(CachedCopyWarning):
        assert st.AutoTokenizer.from_pretrained("me/bytes")("hello")["input_ids"] == plain
    (tmp_path / "config.json").write_bytes(b'{"model_type": "canine"}')
    canine = st.AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(canine, CanineTokenizer)
    assert canine("hello")["input_ids"] == [canine.cls_token_id, *map(ord, "hello"), canine.sep_token_id]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of every kind of tokenizer file that loads today, each as its library writes it."""
    base = tmp_path_factory.mktemp("tokenizers")
    vocabulary = base / "vocab.txt"
    vocabulary.write_text("\n".join([*WORDS, "[MASK]"]) + "\n")
    (base / "corpus.txt").write_text("\n".join(["hello world", "a wonderful day"] * 50))
    trained = base / "spiece"
    sentencepiece.SentencePieceTrainer.Train(
        input=str(base / "corpus.txt"), model_prefix=str(trained), vocab_size=18, minloglevel=2
    )
    made = {
        "vocab.txt only": {"vocab.txt": vocabulary.read_bytes(), "config.json": b'{"model_type": "bert"}'},
        "sentencepiece": {
            "spiece.model": trained.with_suffix(".model").read_bytes(),
            "config.json": b'{"model_type": "t5"}',
        },
        "vocab.json and merges.txt": {
            "vocab.json": b'{"<|endoftext|>": 0, "h": 1, "e": 2, "l": 3, "o": 4, "he": 5, "ll": 6, "hell": 7}',
            "merges.txt": b"#version: 0.2\nh e\nl l\nhe ll\n",
            "config.json": b'{"model_type": "gpt2"}',
        },
    }
    for name, contents in made.items():
        (base / name).mkdir()
        for file, content in contents.items():
            (base / name / file).write_bytes(content)
    BertTokenizer(str(vocabulary)).save_pretrained(base / "saved by BertTokenizer")
    tokenizer().save_pretrained(base / "tokenizer.json only")
    for path in (base / "tokenizer.json only").iterdir():
        if path.name != "tokenizer.json":
            path.unlink()
    (base / "tokenizer.json only" / "config.json").write_bytes(b'{"model_type": "bert"}')
    names = [*made, "saved by BertTokenizer", "tokenizer.json only"]
    return {name: base / name for name in names}


KINDS = [
    "vocab.txt only",
    "sentencepiece",
    "vocab.json and merges.txt",
    "saved by BertTokenizer",
    "tokenizer.json only",
]


@pytest.mark.parametrize("use_fast", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_users_tokenizer_of_every_kind_loads_as_it_does_in_plain_transformers(
    hub: Hub, cache: Path, tokenizers: dict[str, Path], kind: str, use_fast: bool, quick: None
) -> None:
    def words(library: Any, source: object) -> Any:
        try:
            loaded = library.AutoTokenizer.from_pretrained(source, use_fast=use_fast)
            return type(loaded).__name__, loaded("hello world")["input_ids"], len(loaded)
        except Exception as error:  # noqa: BLE001 - what plain cannot load need not load
            return type(error).__name__

    hub.add("me/words", tokenizers[kind])
    plain = words(transformers, tokenizers[kind])
    assert words(st, tokenizers[kind]) == plain
    with hub.applied(cache):
        assert words(transformers, "me/words") == plain
        assert words(st, "me/words") == plain
    if not isinstance(plain, str):
        with hub.faulty("refused") as access, access.apply(cache), pytest.warns(CachedCopyWarning):
            assert words(st, "me/words") == plain


def test_a_users_tokenizer_inside_a_gguf_file_loads_as_it_does_in_plain_transformers(
    hub: Hub, cache: Path, tmp_path: Path
) -> None:
    """The vocabulary is in the weights' file: no other file is missed."""
    file = tmp_path / "gguf" / "tiny.gguf"
    file.parent.mkdir()
    write_gguf(file)
    hub.add("me/gguf", file.parent)
    with hub.applied(cache):
        plain = transformers.AutoTokenizer.from_pretrained("me/gguf", gguf_file=file.name)
        ours = st.AutoTokenizer.from_pretrained("me/gguf", gguf_file=file.name)
    with hub.faulty("refused") as access, access.apply(cache), pytest.warns(CachedCopyWarning):
        away = st.AutoTokenizer.from_pretrained("me/gguf", gguf_file=file.name)
    expected = plain("hello world")["input_ids"]
    assert len(set(expected)) > 1
    assert ours("hello world")["input_ids"] == away("hello world")["input_ids"] == expected


def write_gguf(path: Path) -> None:
    """A Llama's tokenizer and the few numbers of a config, without tensors."""
    tokens = ["<unk>", "<s>", "</s>", "\u2581", *"helowrd", "he", "ll", "hell", "\u2581hell"]
    writer = gguf.GGUFWriter(path, "llama")
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"llama.{key}", 2)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(rank) for rank in range(len(tokens))])
    writer.add_token_types([2, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
