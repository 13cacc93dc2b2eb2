"""What a name means in the cache is the hub's to say: no load of ours moves a ref, or answers for somebody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from checkpoints import save
from hub_server import Hub
from models import tiny, weights

import safetransformers as st
from safetransformers.hub import freshness, load
from safetransformers.hub.breaker import breakers

REPO = "me/bert"


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    for forget in (breakers.forget, load.verified.clear, freshness.forget):
        forget()
    yield
    breakers.forget()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def add(hub: Hub, tmp_path: Path, seed: int, **files: bytes) -> str:
    folder = save(tiny("bert", seed=seed), tmp_path / f"bert-{seed}")
    for name, content in files.items():
        (folder / f"{name}.json").write_bytes(content)
    return hub.add(REPO, folder)


def refs(cache: Path) -> dict[str, bytes]:
    folder = cache / f"models--{REPO.replace('/', '--')}" / "refs"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def two(hub: Hub, cache: Path, tmp_path: Path) -> tuple[str, str]:
    """Two whole commits in the cache, the first by its hash only; main is the second."""
    first = add(hub, tmp_path, 1)
    with hub.applied(cache):
        transformers.AutoModel.from_pretrained(REPO, revision=first)
        transformers.AutoTokenizer.from_pretrained(REPO, revision=first)
    second = add(hub, tmp_path, 2)
    with hub.applied(cache):
        transformers.AutoModel.from_pretrained(REPO)
        transformers.AutoTokenizer.from_pretrained(REPO)
    return first, second


def test_a_user_who_loads_a_tag_finds_main_as_plain_transformers_leaves_it(
    hub: Hub, cache: Path, tmp_path: Path
) -> None:
    hub.tag(REPO, "v1", add(hub, tmp_path, 1))
    add(hub, tmp_path, 2)
    for library, folder in ((transformers, tmp_path / "plain"), (st, cache)):
        with hub.applied(folder):
            transformers.AutoModel.from_pretrained(REPO)
            library.AutoModel.from_pretrained(REPO, revision="v1")
    assert refs(cache) == refs(tmp_path / "plain")


@pytest.mark.parametrize("fault", ["refused", "hang"])
def test_a_user_who_has_loaded_an_older_commit_by_hash_still_gets_main_when_the_hub_is_away(
    fault: str, hub: Hub, cache: Path, two: tuple[str, str]
) -> None:
    before = refs(cache)
    with hub.faulty(fault) as access, access.apply(cache):
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO, revision=two[0])), weights(tiny("bert", seed=1)))
        st.AutoTokenizer.from_pretrained(REPO, revision=two[0])
        assert torch.equal(weights(st.AutoModel.from_pretrained(REPO)), weights(tiny("bert", seed=2)))
    assert refs(cache) == before


@pytest.mark.parametrize("refs_are", ["missing", "unfinished"])
def test_a_user_whose_copy_is_not_what_main_names_finds_the_refs_as_they_were(
    refs_are: str, hub: Hub, cache: Path, two: tuple[str, str]
) -> None:
    folder = cache / f"models--{REPO.replace('/', '--')}"
    if refs_are == "missing":
        (folder / "refs" / "main").unlink()
    else:
        (folder / "snapshots" / two[1] / "model.safetensors").unlink()
    before = refs(cache)
    with hub.faulty("refused") as access, access.apply(cache):
        model = st.AutoModel.from_pretrained(REPO)
        st.AutoTokenizer.from_pretrained(REPO)
    assert torch.equal(weights(model), weights(tiny("bert", seed=2 if refs_are == "missing" else 1)))
    assert refs(cache) == before


@pytest.mark.parametrize("how", ["local_files_only", "prefer"])
def test_a_running_process_loads_the_commit_that_another_one_brings(
    how: str, hub: Hub, cache: Path, tmp_path: Path
) -> None:
    kwargs = {"local_files_only": True} if how == "local_files_only" else {}
    add(hub, tmp_path, 1)
    with hub.applied(cache):
        transformers.AutoModel.from_pretrained(REPO)
        with st.policy(offline="prefer" if how == "prefer" else "fallback"):
            assert torch.equal(weights(st.AutoModel.from_pretrained(REPO, **kwargs)), weights(tiny("bert", seed=1)))
            add(hub, tmp_path, 2)
            transformers.AutoModel.from_pretrained(REPO)
            before = refs(cache)
            assert torch.equal(weights(st.AutoModel.from_pretrained(REPO, **kwargs)), weights(tiny("bert", seed=2)))
    assert refs(cache) == before


def test_another_threads_downloads_are_its_own(hub: Hub, cache: Path, tmp_path: Path) -> None:
    first = add(hub, tmp_path, 1, marker=b'"one"')
    add(hub, tmp_path, 2, marker=b'"two"')
    stop, seen = threading.Event(), []

    def fetch() -> None:
        while not stop.is_set():
            path = huggingface_hub.hf_hub_download(REPO, "marker.json", cache_dir=tmp_path / "other")
            seen.append(Path(path).read_text())

    with hub.applied(cache):
        thread = threading.Thread(target=fetch)
        thread.start()
        for _ in range(10):
            st.AutoModel.from_pretrained(REPO, revision=first)
        stop.set()
        thread.join()
    assert set(seen) == {'"two"'}


def test_under_patch_a_library_with_a_cache_of_its_own_reads_that(hub: Hub, cache: Path, tmp_path: Path) -> None:
    add(hub, tmp_path, 1, marker=b'"one"')
    with hub.applied(cache):
        transformers.AutoModel.from_pretrained(REPO)
    second = add(hub, tmp_path, 2, marker=b'"two"')
    with hub.applied(cache):
        huggingface_hub.hf_hub_download(REPO, "marker.json", cache_dir=tmp_path / "other")
    before = refs(tmp_path / "other")
    with hub.faulty("refused") as access, access.apply(cache), st.patched():
        path = huggingface_hub.hf_hub_download(REPO, "marker.json", cache_dir=tmp_path / "other")
    assert Path(path).read_text() == '"two"' and second in path
    assert refs(tmp_path / "other") == before


def test_a_pipelines_own_cache_is_the_one_that_stands_in(hub: Hub, cache: Path, tmp_path: Path) -> None:
    add(hub, tmp_path, 1)
    with hub.applied(cache):
        transformers.pipeline("feature-extraction", REPO)
    add(hub, tmp_path, 2)
    kwargs = {"model_kwargs": {"cache_dir": str(tmp_path / "other")}}
    with hub.applied(cache):
        transformers.pipeline("feature-extraction", REPO, **kwargs)
    with hub.faulty("refused") as access, access.apply(cache):
        pipe = st.pipeline("feature-extraction", REPO, **kwargs)
    assert torch.equal(weights(pipe.model), weights(tiny("bert", seed=2)))


def test_a_user_who_gives_the_vocabulary_by_argument_needs_no_file(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "bert"}')
    plain = transformers.BertTokenizer.from_pretrained(tmp_path / "folder", vocab_file=str(words))
    with st.patched():
        ours = transformers.BertTokenizer.from_pretrained(tmp_path / "folder", vocab_file=str(words))
    assert ours.get_vocab() == plain.get_vocab() and "hello" in ours.get_vocab()
