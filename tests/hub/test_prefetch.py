"""A machine is made ready for a start without a network: fetched, verified, checked again, carried over an air gap."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import typer
from checkpoints import REMOTE_CODE, save, save_pickle
from checkpoints import tokenizer as a_tokenizer
from hub_caches import Repo, blob_name, safetensors, sharded, text_model
from hub_server import FAULTS, Access, Hub
from huggingface_hub import constants, scan_cache_dir
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel
from typer.testing import CliRunner

from safetransformers import policy
from safetransformers.cli.prefetch import prefetch as command
from safetransformers.errors import CorruptCacheError, HubError
from safetransformers.hub import bundle, wanted
from safetransformers.hub import prefetch as prefetching
from safetransformers.hub.prefetch import File, Ready, cached, prefetch

ID = "acme/minilm"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A repository as it is on the hub: a model and a tokenizer, and what an offline start has no use for."""
    torch.manual_seed(0)
    folder = save(BertModel(tiny()), tmp_path_factory.mktemp("bert"))
    useless = {"tf_model.h5": b"x" * 99, "onnx/model.onnx": b"x" * 99, "onnx/config.json": b"{}", "dog.png": b"x"}
    useless |= {"original/consolidated.00.pth": b"x" * 99, "pytorch_model.bin": b"x" * 99, "checkpoint-5/a.json": b"{}"}
    return read(folder) | useless | {"README.md": b"a card", "1_Pooling/config.json": b"{}", ".gitattributes": b"x"}


USEFUL = {
    *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    "1_Pooling/config.json",
}


def tiny() -> BertConfig:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertConfig(vocab_size=16, max_position_embeddings=8, **sizes)


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub waits up to 23 seconds before it gives up; how often it asks stays the same."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def names(ready: Ready) -> set[str]:
    return {file.name for file in ready.files}


def state(folder: Path) -> dict[str, str | bytes]:
    """All that is in a folder: each link, each file's bytes, each folder."""
    found: dict[str, str | bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def offline(kind: Any, repo_id: str, cache: Path, **kwargs: Any) -> Any:
    """Plain transformers, as if this process had been started with HF_HUB_OFFLINE and this cache."""
    import transformers.utils.hub as of_transformers

    nobody = Access("http://127.0.0.1:9", {})
    switches = [(constants, "HF_HUB_OFFLINE"), (of_transformers, "_is_offline_mode")]  # the second on 4.57 only
    with nobody.apply(cache=cache), ExitStack() as stack:
        for module, name in switches:
            stack.enter_context(mock.patch.object(module, name, True, create=True))
        return kind.from_pretrained(repo_id, **kwargs)


def offline_process(code: str, cache: Path) -> str:
    """What plain transformers prints in a process of its own that may not ask the hub."""
    home = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache.parent / "home")}
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **home}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def same(model: Any, weights: Mapping[str, torch.Tensor]) -> bool:
    mine = model.state_dict()
    return mine.keys() == weights.keys() and all(torch.equal(mine[name], weights[name]) for name in weights)


def fetched(content: Mapping[str, bytes], cache: Path, **kwargs: Any) -> Ready:
    """A repository with these files, prefetched from a hub that is gone afterwards."""
    with Hub() as hub:
        hub.add(ID, content)
        with hub.applied(cache=cache):
            (ready,) = prefetch([ID], **kwargs)
    return ready


def run(*arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


# Making ready


def test_what_was_prefetched_loads_when_the_hub_is_gone(bert: dict[str, bytes], cache: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        commit = hub.add(ID, bert)
        with hub.applied(cache=cache):
            (ready,) = prefetch([ID])
            fetched_names = {part for one in hub.requests for part in [one.path.partition("?")[0]] if one.kind == "cdn"}
    assert (ready.repo_id, ready.revision, ready.commit, ready.why) == (ID, "main", commit, "asked for")
    assert USEFUL <= names(ready) <= USEFUL | {"special_tokens_map.json"}
    assert len(fetched_names) == 1  # one format of the weights, and nothing else from the file store
    for file in ready.files:
        content = bert[file.name]
        assert (file.size, file.hash) == (len(content), blob_name(file.name, content))
    folder = tmp_path / "plain"
    for name in names(ready):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bert[name])
    plain = offline(AutoModel, str(folder), cache)
    assert same(offline(AutoModel, ID, cache), plain.state_dict())
    text = "hello wonderful world"
    assert offline(AutoTokenizer, ID, cache)(text) == offline(AutoTokenizer, str(folder), cache)(text)
    code = f"from transformers import AutoModel, AutoTokenizer as T\nAutoModel.from_pretrained('{ID}')\n"
    said = offline_process(code + f"print(T.from_pretrained('{ID}')('{text}')['input_ids'])", cache)
    assert said.strip() == str(a_tokenizer()(text)["input_ids"])
    scan = scan_cache_dir(cache)
    assert not scan.warnings and {repo.repo_id for repo in scan.repos} == {ID}
    assert [revision.refs for repo in scan.repos for revision in repo.revisions] == [frozenset({"main"})]


def test_a_second_prefetch_downloads_nothing(bert: dict[str, bytes], cache: Path) -> None:
    with Hub() as hub:
        hub.add(ID, bert)
        with hub.applied(cache=cache):
            first = prefetch([ID])
            hub.clear()
            assert prefetch([ID]) == first
            assert {one.kind for one in hub.requests} == {"api"}


def test_a_file_known_to_be_absent_is_marked_so_and_the_others_are_not(bert: dict[str, bytes], cache: Path) -> None:
    ready = fetched(bert, cache)
    markers = read(cache / "models--acme--minilm" / ".no_exist" / ready.commit)
    assert set(markers) == set(ready.absent) and not set(markers).intersection(bert)
    assert {"adapter_config.json", "generation_config.json", "model.safetensors.index.json", "merges.txt"} <= set(
        markers
    )
    assert set(markers.values()) == {b""}


@pytest.mark.parametrize("named", ["branch", "tag", "commit"])
def test_the_revision_that_was_asked_for_works_offline(named: str, bert: dict[str, bytes], cache: Path) -> None:
    other = bert | {"config.json": bert["config.json"] + b"\n"}
    with Hub() as hub:
        hub.add(ID, bert)
        commit = hub.add(ID, other, branch="dev/one")
        hub.tag(ID, "v1", commit)
        revision = {"branch": "dev/one", "tag": "v1", "commit": commit}[named]
        with hub.applied(cache=cache):
            (ready,) = prefetch([ID], revision=revision)
    assert (ready.revision, ready.commit) == (revision, commit)
    offline(AutoModel, ID, cache, revision=revision)
    assert (cache / "models--acme--minilm" / "refs").exists() == (named != "commit")
    with pytest.raises(OSError, match="couldn't find them"):
        offline(AutoModel, ID, cache)


def test_a_new_commit_that_cannot_be_fetched_leaves_the_old_one_in_use(
    impatient: None, bert: dict[str, bytes], cache: Path
) -> None:
    with Hub() as hub:
        old = hub.add(ID, bert)
        with hub.applied(cache=cache):
            prefetch([ID])
        hub.add(ID, bert | {"model.safetensors": safetensors(5)})
        with hub.faulty("cdn_503") as access, access.apply(cache=cache), pytest.raises(HubError) as caught:
            prefetch([ID])
    assert caught.value.code == "ST-HUB-101"
    assert (cache / "models--acme--minilm/refs/main").read_text() == old
    offline(AutoModel, ID, cache)


def test_weights_in_shards_come_whole_and_only_in_one_format(cache: Path, tmp_path: Path) -> None:
    model = BertModel(tiny())
    model.save_pretrained(tmp_path / "shards", max_shard_size="2KB")
    files = read(tmp_path / "shards") | {
        "pytorch_model.bin.index.json": b"{}",
        "pytorch_model-00001-of-00001.bin": b"x",
    }
    ready = fetched(files, cache)
    shards = {name for name in files if name.endswith(".safetensors")}
    assert len(shards) >= 2 and names(ready) == {*shards, "config.json", "model.safetensors.index.json"}
    assert same(offline(AutoModel, ID, cache), model.state_dict())


def test_pickle_weights_come_where_there_are_no_others(cache: Path, tmp_path: Path) -> None:
    model = BertModel(tiny())
    files = read(save_pickle(model, tmp_path / "pickle"))
    assert "pytorch_model.bin" in names(fetched(files, cache))
    with policy(weights="safetensors"), pytest.raises(HubError, match="weights='safetensors'") as caught:
        fetched(files, tmp_path / "other")
    assert caught.value.code == "ST-HUB-102"


def test_a_variant_is_fetched_in_place_of_the_plain_weights(bert: dict[str, bytes], cache: Path) -> None:
    files = bert | {"model.fp16.safetensors": bert["model.safetensors"]}
    ready = fetched(files, cache, variant="fp16")
    assert "model.fp16.safetensors" in names(ready) and "model.safetensors" not in names(ready)
    offline(AutoModel, ID, cache, variant="fp16")
    with pytest.raises(HubError, match="variants: fp16") as caught:
        fetched(files, cache, variant="bf16")
    assert caught.value.code == "ST-HUB-102"


def test_all_takes_the_whole_commit(bert: dict[str, bytes], cache: Path) -> None:
    assert names(fetched(bert, cache, everything=True)) == set(bert)


def test_of_several_gguf_files_one_has_to_be_named(cache: Path) -> None:
    files = {f"m-{kind}.gguf": b"GGUF" + kind.encode() for kind in ("Q4", "Q8")} | {"config.json": b"{}"}
    files |= {f"big-0000{n}-of-00002.gguf": b"GGUF" for n in (1, 2)}
    with pytest.raises(HubError, match=r"there are 3: .*m-Q4\.gguf.*\n.*--file NAME") as caught:
        fetched(files, cache)
    assert caught.value.code == "ST-HUB-102"
    assert names(fetched(files, cache, files=["m-Q4.gguf"])) == {"config.json", "m-Q4.gguf"}
    assert names(fetched(files, cache, files=["*Q8*"])) == {"config.json", "m-Q8.gguf"}
    shards = {"big-00001-of-00002.gguf", "big-00002-of-00002.gguf"}
    assert names(fetched(files, cache, files=["big-00001-of-00002.gguf"])) == {"config.json", *shards}
    assert names(fetched({"one.gguf": b"GGUF"}, cache)) == {"one.gguf"}
    both = files | {name: content for name, content in sharded().items() if name != "config.json"}
    assert names(fetched(both, cache, files=["m-Q4.gguf"])) == {"config.json", "m-Q4.gguf"}
    with pytest.raises(HubError, match=r"no file is named 'm-Q5\.gguf'"):
        fetched(files, cache, files=["m-Q5.gguf"])


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b"{}", "consolidated.safetensors": b"x"},
        {"model_index.json": b"{}", "unet/diffusion_pytorch_model.safetensors": b"x"},
    ],
)
def test_weights_that_transformers_does_not_look_for_are_not_left_out_in_silence(
    files: dict[str, bytes], cache: Path
) -> None:
    with pytest.raises(HubError, match="which weights") as caught:
        fetched(files, cache)
    assert caught.value.code == "ST-HUB-102" and "--all" in caught.value.do
    assert names(fetched(files, cache, everything=True)) == set(files)


def test_a_repository_of_a_tokenizer_alone_is_ready_without_weights(cache: Path, tmp_path: Path) -> None:
    a_tokenizer().save_pretrained(tmp_path / "words")
    files = read(tmp_path / "words") | {"training_args.bin": b"x"}
    assert "tokenizer.json" in names(fetched(files, cache))
    assert offline(AutoTokenizer, ID, cache)("hello")["input_ids"]
    ((_, damages),) = cached([ID], cache_dir=cache)
    assert damages == ()


def test_the_modules_of_a_sentence_transformer_come_with_their_weights(bert: dict[str, bytes], cache: Path) -> None:
    modules = [{"path": ""}, {"path": "2_Dense"}, {"path": "../secret"}]
    dense = {
        "2_Dense/config.json": b"{}",
        "2_Dense/model.safetensors": safetensors(),
        "2_Dense/pytorch_model.bin": b"x",
    }
    ready = fetched(bert | dense | {"modules.json": json.dumps(modules).encode(), "3/model.safetensors": b"x"}, cache)
    assert "2_Dense/model.safetensors" in names(ready)
    assert not {"2_Dense/pytorch_model.bin", "3/model.safetensors"} & names(ready)


def test_further_chat_templates_are_found_offline(bert: dict[str, bytes], cache: Path) -> None:
    templates = {"chat_template.jinja": b"plain", "additional_chat_templates/tool.jinja": b"of tools"}
    fetched(bert | templates, cache)
    code = f"from transformers import AutoTokenizer\nprint(AutoTokenizer.from_pretrained('{ID}').chat_template)"
    said = offline_process(code, cache)
    assert "of tools" in said and "plain" in said


def test_names_with_pattern_characters_are_fetched_as_they_are(bert: dict[str, bytes], cache: Path) -> None:
    odd = {"a[1].json": b"{}", "b*.txt": b"b"}
    assert set(odd) <= names(fetched(bert | odd, cache))


# What else is needed


def an_adapter(base: str, **more: object) -> dict[str, bytes]:
    from peft import LoraConfig, get_peft_model_state_dict
    from peft import inject_adapter_in_model as inject
    from safetensors.torch import save as save_tensors

    config = LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    weights = get_peft_model_state_dict(inject(config, BertModel(tiny())))
    settings = {"peft_type": "LORA", "r": 2, "target_modules": ["query"], "base_model_name_or_path": base, **more}
    tensors = {f"base_model.model.{name}": tensor for name, tensor in weights.items()}
    return {"adapter_config.json": json.dumps(settings).encode(), "adapter_model.safetensors": save_tensors(tensors)}


def test_an_adapter_brings_its_base_model_along(bert: dict[str, bytes], cache: Path) -> None:
    with Hub() as hub:
        hub.add(ID, bert)
        hub.add("me/adapter", an_adapter(ID) | {"training_args.bin": b"x"})
        with hub.applied(cache=cache):
            adapter, base = prefetch(["me/adapter"])
    assert names(adapter) == {"adapter_config.json", "adapter_model.safetensors"}
    assert (base.repo_id, base.why) == (ID, "base model of me/adapter") and "model.safetensors" in names(base)
    shapes = offline(AutoModel, "me/adapter", cache).state_dict()
    assert any("lora_A" in name for name in shapes)
    found = cached(["me/adapter"], cache_dir=cache)
    assert [(repo.repo_id, damages) for repo, damages in found] == [("me/adapter", ()), (ID, ())]


def test_the_base_is_there_at_the_adapters_revision_and_at_the_plain_name(bert: dict[str, bytes], cache: Path) -> None:
    with Hub() as hub:
        new = hub.add(ID, bert)
        old = hub.add(ID, bert | {"README.md": b"old"}, branch="v0")
        hub.add("me/adapter", an_adapter(ID, revision="v0"))
        with hub.applied(cache=cache):
            ready = prefetch(["me/adapter"])
    assert {(repo.revision, repo.commit) for repo in ready if repo.repo_id == ID} == {("v0", old), ("main", new)}
    offline(AutoModel, "me/adapter", cache)


def test_an_adapter_of_a_local_folder_is_said_to_need_it(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len([fetched(an_adapter("/home/me/secret/llama"), cache)]) == 1
    assert "base model is a local folder" in caplog.text and "secret" not in caplog.text


def test_remote_code_in_another_repository_comes_along(code_cache: None, cache: Path) -> None:
    auto_map = {"AutoConfig": "me/code--modeling.RemoteConfig", "AutoModel": "me/code--modeling.RemoteModel"}
    torch.manual_seed(1)
    from safetensors.torch import save as save_tensors

    weights = {"embed.weight": torch.randn(64, 8)}
    config = {"model_type": "of-my-own", "auto_map": auto_map}
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save_tensors(weights, metadata={"format": "pt"}),
        "tokenizer_config.json": json.dumps({"auto_map": {"AutoTokenizer": ["me/words--words.Slow", None]}}).encode(),
    }
    code = {"modeling.py": b"from .beside import *\n" + REMOTE_CODE.encode(), "beside.py": b"x = 1\n"}
    with Hub() as hub:
        hub.add(ID, files)
        hub.add("me/code", code | {"model.safetensors": b"x", "config.json": json.dumps(config).encode()})
        hub.add("me/words", {"words.py": b"class Slow: pass\n", "tokenizer.json": b"{}"})
        with hub.applied(cache=cache):
            ready = prefetch([ID])
    assert {repo.repo_id: repo.why for repo in ready} == {
        ID: "asked for",
        "me/code": f"remote code of {ID}",
        "me/words": f"remote code of {ID}",
    }
    assert {repo.repo_id: names(repo) for repo in ready if repo.repo_id != ID} == {
        "me/code": set(code),
        "me/words": {"words.py"},
    }
    assert same(offline(AutoModel, ID, cache, trust_remote_code=True), weights)


def test_repositories_that_name_each_other_are_fetched_once(bert: dict[str, bytes], cache: Path) -> None:
    with Hub() as hub:
        hub.add("me/a", bert | an_adapter("me/b"))
        hub.add("me/b", bert | an_adapter("me/a"))
        with hub.applied(cache=cache):
            ready = prefetch(["me/a", "me/a"])
    assert [repo.repo_id for repo in ready] == ["me/a", "me/b"]


# What goes wrong


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_file_of_the_cache_is_fetched_again(file: str, bert: dict[str, bytes], cache: Path) -> None:
    with Hub() as hub:
        commit = hub.add(ID, bert)
        with hub.applied(cache=cache):
            prefetch([ID])
            Repo(cache, ID).flip(commit, file)
            assert [[damage.file for damage in found] for _, found in cached([ID], cache_dir=cache)] == [[file]]
            prefetch([ID])
    assert (cache / "models--acme--minilm/snapshots" / commit / file).read_bytes() == bert[file]


def test_a_file_that_arrives_damaged_twice_is_an_error_and_the_name_is_not_taken(
    bert: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download as download

    again = []

    def damaging(*args: Any, **kwargs: Any) -> str:
        again.append(kwargs["force_download"])
        folder = download(*args, **kwargs)
        for path in Path(folder).glob("model.safetensors"):
            path.resolve().write_bytes(bert["model.safetensors"][:-1] + b"\0")
        return folder

    monkeypatch.setattr("huggingface_hub.snapshot_download", damaging)
    with pytest.raises(CorruptCacheError, match=r"model\.safetensors.*other bytes") as caught:
        fetched(bert, cache)
    assert caught.value.code == "ST-HUB-006" and again.count(True) == 1
    assert not (cache / "models--acme--minilm/refs").exists()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("refused", "refuses the connection"),
        ("status_503", "server error"),
        ("gated", "gated"),
        ("gone_revision", "no such revision"),
        ("portal_200", "answers in its place"),
    ],
)
def test_a_hub_that_does_not_give_the_files_is_one_clear_error(
    fault: str, says: str, impatient: None, bert: dict[str, bytes], cache: Path
) -> None:
    with Hub() as hub:
        hub.add(ID, bert)
        with hub.faulty(FAULTS[fault]) as access, access.apply(cache=cache, token="hf_secret"):
            with pytest.raises(HubError) as caught:
                prefetch([ID])
            code, said, told = run(ID, "--json")
    text = str(caught.value)
    assert caught.value.code == "ST-HUB-101" and says in text and "Do: " in text and len(text.splitlines()) <= 10
    assert "hf_secret" not in text + said + told and "Traceback" not in told
    assert code == 1 and json.loads(said)["error"]["code"] == "ST-HUB-101"


def test_a_hub_that_names_no_hashes_is_not_trusted(bert: dict[str, bytes], cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("hub_server.store._git_oid", lambda *_: "W/unknown")
    with pytest.raises(HubError, match="without its hash"):
        fetched(bert, cache)
    assert not (cache / "models--acme--minilm").exists()


def test_a_repository_that_is_not_there_is_named_with_the_one_that_needs_it(cache: Path) -> None:
    with pytest.raises(HubError, match=r"me/gone \(base model of acme/minilm\)") as caught:
        fetched(an_adapter("me/gone"), cache)
    assert caught.value.details["fault"] == "no_repo" and not (cache / "models--acme--minilm/refs").exists()


def test_offline_mode_is_said_to_be_the_cause(bert: dict[str, bytes], cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        prefetch([ID], cache_dir=cache)


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "/etc", "C:\\x", "a--b", "./x"])
def test_a_name_that_is_no_repository_is_refused_before_any_request(name: str, cache: Path) -> None:
    with pytest.raises(HubError) as caught:
        prefetch([name], cache_dir=cache)
    assert caught.value.code == "ST-HUB-103" and not cache.exists()


@pytest.mark.parametrize("revision", ["../../x", "/etc/passwd", "a//b", "C:/x"])
def test_a_revision_cannot_lead_out_of_the_cache(revision: str, cache: Path) -> None:
    with pytest.raises(HubError) as caught:
        prefetch([ID], revision=revision, cache_dir=cache)
    assert caught.value.code == "ST-HUB-103" and not cache.exists()


def test_a_full_disk_is_told_before_the_download(bert: dict[str, bytes], cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(HubError, match="no room") as caught:
        fetched(bert, cache)
    assert caught.value.code == "ST-HUB-106" and "HF_HUB_CACHE" in caught.value.do
    assert not (cache / "models--acme--minilm" / "snapshots").exists()


# The list and the check


def whole(cache: Path, files: Mapping[str, bytes] | None = None) -> list[Ready]:
    """A cache laid out by hand with a whole repository, and its list."""
    files = text_model() if files is None else files
    commit = Repo(cache, ID).commit("one", files, ref="main")
    found = tuple(File(name, len(content), blob_name(name, content)) for name, content in sorted(files.items()))
    return [Ready(ID, "main", commit, found, absent=("added_tokens.json",))]


def test_a_list_says_the_same_when_it_is_read_again(cache: Path, tmp_path: Path) -> None:
    ready = whole(cache)
    bundle.write_list(ready, tmp_path / "ready.json")
    assert bundle.read_list(tmp_path / "ready.json") == ready
    written = json.loads((tmp_path / "ready.json").read_text())
    assert written["version"] == 1
    assert {file["algorithm"] for file in written["repos"][0]["files"]} == {"sha256", "git-sha1"}
    bundle.write_list(ready, tmp_path / "ready.json")  # a list may be written again, and nothing else
    (tmp_path / "thesis.json").write_text("{}")
    with pytest.raises(HubError, match="is not a list") as caught:
        bundle.write_list(ready, tmp_path / "thesis.json")
    assert caught.value.code == "ST-HUB-103" and (tmp_path / "thesis.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "ready.json", "thesis.json"]


def flip(repo: Repo, commit: str) -> None:
    repo.flip(commit, "model.safetensors")


def cut(repo: Repo, commit: str) -> None:
    repo.truncate(commit, "vocab.txt", 3)


def drop(repo: Repo, commit: str) -> None:
    repo.path(commit, "config.json").unlink()


def drop_blob(repo: Repo, commit: str) -> None:
    repo.path(commit, "tokenizer.json").resolve().unlink()


def move_ref(repo: Repo, commit: str) -> None:
    repo.commit("two", text_model(2), ref="main")


def drop_ref(repo: Repo, commit: str) -> None:
    (repo.folder / "refs" / "main").unlink()


@pytest.mark.parametrize(
    ("harm", "file", "problem"),
    [
        (flip, "model.safetensors", "other bytes"),
        (cut, "vocab.txt", "other bytes"),
        (drop, "config.json", "missing"),
        (drop_blob, "tokenizer.json", "dangling link"),
        (move_ref, "refs/main", "another commit"),
        (drop_ref, "refs/main", "missing"),
    ],
)
def test_a_check_finds_what_has_changed_since(
    harm: Callable[[Repo, str], None], file: str, problem: str, cache: Path, tmp_path: Path
) -> None:
    ready = whole(cache)
    bundle.write_list(ready, tmp_path / "ready.json")
    arguments = ("--check", "--list", tmp_path / "ready.json", "--cache-dir", cache)
    assert run(*arguments)[0] == 0
    harm(Repo(cache, ID), ready[0].commit)
    ((_, found),) = bundle.check(bundle.read_list(tmp_path / "ready.json"), cache)
    assert [(damage.file, damage.problem) for damage in found] == [(file, problem)]
    code, said, told = run(*arguments)
    assert (
        code == 1 and f"{ID}: {file}: {problem}" in said and f"Do: safetransformers prefetch {ID}" in said and not told
    )
    code, said, _ = run(*arguments, "--json")
    shown = json.loads(said)
    assert code == 1 and not shown["ready"] and [one["file"] for one in shown["repos"][0]["problems"]] == [file]


def test_a_file_of_the_right_hash_and_a_false_size_in_the_list_is_not_ready(cache: Path) -> None:
    (ready,) = whole(cache)
    files = (File(ready.files[0].name, ready.files[0].size + 1, ready.files[0].hash),)
    ((_, found),) = bundle.check([Ready(ID, "main", ready.commit, files)], cache)
    assert [damage.problem for damage in found] == ["other bytes"]


@pytest.mark.parametrize("harm", [flip, cut, drop, drop_blob, drop_ref])
def test_a_check_without_a_list_goes_by_what_a_start_reads(harm: Any, cache: Path) -> None:
    (ready,) = whole(cache)
    assert run(ID, "--check", "--cache-dir", cache)[0] == 0
    harm(Repo(cache, ID), ready.commit)
    assert run(ID, "--check", "--cache-dir", cache)[0] == 1


def test_a_check_without_a_list_hashes_files_that_a_plain_start_does_not_read(cache: Path) -> None:
    (ready,) = whole(cache, text_model() | {"model.fp16.safetensors": safetensors(4)})
    Repo(cache, ID).flip(ready.commit, "model.fp16.safetensors")
    ((_, found),) = cached([ID], cache_dir=cache)
    assert [(damage.file, damage.problem) for damage in found] == [("model.fp16.safetensors", "other bytes")]


@pytest.mark.parametrize("lost", ["model-00002-of-00003.safetensors", "config.json"])
def test_a_check_without_a_list_misses_what_was_never_there(lost: str, cache: Path) -> None:
    files = sharded()
    del files[lost]
    whole(cache, files)
    code, said, _ = run(ID, "--check", "--cache-dir", cache)
    assert code == 1 and f"{lost}: missing" in said


def test_a_check_makes_no_request(bert: dict[str, bytes], cache: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        hub.add(ID, bert)
        with hub.applied(cache=cache):
            bundle.write_list(prefetch([ID]), tmp_path / "ready.json")
            hub.clear()
            assert run(ID, "--check")[0] == run("--check", "--list", tmp_path / "ready.json")[0] == 0
            assert not hub.connections


# Over an air gap


@pytest.fixture
def stick(cache: Path, tmp_path: Path) -> Path:
    """A bundle of a small repository."""
    bundle.save(whole(cache), tmp_path / "stick", cache)
    return tmp_path / "stick"


def test_a_bundle_loads_on_another_machine_bit_for_bit(bert: dict[str, bytes], cache: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        hub.add(ID, bert)
        hub.add("me/adapter", an_adapter(ID))
        with hub.applied(cache=cache):
            assert run("me/adapter", "--to", tmp_path / "stick")[0] == 0
    here = offline(AutoModel, ID, cache).state_dict()
    shutil.rmtree(cache)
    assert not [path for path in (tmp_path / "stick").rglob("*") if path.is_symlink()]
    there = tmp_path / "there"
    code, said, told = run("--from", tmp_path / "stick", "--cache-dir", there, "--json")
    assert code == 0 and not told
    assert [repo["repo_id"] for repo in json.loads(said)["repos"]] == ["me/adapter", ID]
    assert same(offline(AutoModel, ID, there), here)
    offline(AutoModel, "me/adapter", there)
    offline(AutoTokenizer, ID, there)
    offline_process(f"import transformers\ntransformers.AutoModel.from_pretrained('{ID}')", there)
    scan = scan_cache_dir(there)
    assert not scan.warnings and {repo.repo_id for repo in scan.repos} == {ID, "me/adapter"}
    assert all(not damages for _, damages in cached(["me/adapter"], cache_dir=there))
    assert not [path for path in there.rglob("*") if path.name.startswith(".link-") or path.suffix == ".incomplete"]


def test_a_restored_cache_is_laid_out_as_the_hub_lays_it_out(cache: Path, stick: Path, tmp_path: Path) -> None:
    (ready,) = bundle.restore(stick, tmp_path / "there")
    marker = cache / "models--acme--minilm/.no_exist" / ready.commit / "added_tokens.json"
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert state(tmp_path / "there") == state(cache)


def test_a_disk_without_links_gets_plain_files(stick: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    there = tmp_path / "there"
    ready = bundle.restore(stick, there)
    assert not [path for path in there.rglob("*") if path.is_symlink()]
    assert not list((there / "models--acme--minilm/blobs").iterdir())
    assert [damages for _, damages in bundle.check(ready, there)] == [()]
    assert not scan_cache_dir(there).warnings
    before = state(there)
    bundle.restore(stick, there)
    assert state(there) == before


def test_what_is_sound_in_the_cache_stays_and_what_is_damaged_is_mended(cache: Path, stick: Path) -> None:
    repo = Repo(cache, ID)
    (ready,) = bundle.read_list(stick / bundle.LIST_NAME)
    kept = [repo.path(ready.commit, name).resolve() for name in ("vocab.txt", "config.json")]  # drop() takes a link
    facts = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in kept]
    flip(repo, ready.commit)
    drop(repo, ready.commit)
    drop_blob(repo, ready.commit)
    bundle.restore(stick, cache)
    assert [damages for _, damages in bundle.check([ready], cache)] == [()]
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in kept] == facts


def test_a_bundle_takes_in_a_second_repository_and_drops_what_is_old(cache: Path, stick: Path) -> None:
    other = Repo(cache, "me/other")
    content = safetensors(9)
    commit = other.commit("a", {"model.safetensors": content}, ref="main")
    second = Ready("me/other", "main", commit, (File("model.safetensors", len(content), blob_name("a.bin", content)),))
    assert [repo.repo_id for repo in bundle.save([second], stick, cache)] == [ID, "me/other"]
    assert all(not damages for _, damages in bundle.check_bundle(stick))
    (old,) = (repo for repo in bundle.read_list(stick / bundle.LIST_NAME) if repo.repo_id == ID)
    smaller = Ready(ID, "main", old.commit, old.files[:1])
    bundle.save([smaller], stick, cache)
    kept = {old.files[0].hash, second.files[0].hash}
    assert {path.name for path in (stick / "files").iterdir()} == kept
    assert {path.name for path in stick.iterdir()} == {"files", bundle.LIST_NAME}


def test_a_folder_with_other_things_in_it_is_not_made_a_bundle(cache: Path, tmp_path: Path) -> None:
    ready = whole(cache)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dog.png").write_bytes(b"x")
    before = state(tmp_path)
    for target in (tmp_path / "photos", tmp_path / "photos" / "dog.png"):
        with pytest.raises(HubError, match="not a bundle") as caught:
            bundle.save(ready, target, cache)
        assert caught.value.code == "ST-HUB-103"
    assert state(tmp_path) == before
    (tmp_path / "empty").mkdir()
    bundle.save(ready, tmp_path / "empty", cache)
    assert all(not damages for _, damages in bundle.check_bundle(tmp_path / "empty"))


def test_a_damaged_cache_makes_no_bundle(cache: Path, tmp_path: Path) -> None:
    ready = whole(cache)
    flip(Repo(cache, ID), ready[0].commit)
    with pytest.raises(CorruptCacheError, match=r"model\.safetensors"):
        bundle.save(ready, tmp_path / "stick", cache)
    drop(Repo(cache, ID), ready[0].commit)
    with pytest.raises(CorruptCacheError, match=r"config\.json.*missing"):
        bundle.save(ready, tmp_path / "stick", cache)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_damaged_cache_leaves_an_old_bundle_as_it_was(cache: Path, stick: Path) -> None:
    content = safetensors(9)
    other = Repo(cache, "me/other")
    commit = other.commit("a", {"model.safetensors": content}, ref="main")
    other.flip(commit, "model.safetensors")
    before = state(stick)
    file = File("model.safetensors", len(content), blob_name("a.bin", content))
    with pytest.raises(CorruptCacheError):
        bundle.save([Ready("me/other", "main", commit, (file,))], stick, cache)
    assert state(stick) == before


def carry(way: str, stick: Path, cache: Path, where: Path) -> None:
    """Makes another bundle, or restores the bundle into another cache."""
    if way == "to":
        bundle.save(bundle.read_list(stick / bundle.LIST_NAME), where / "other", cache)
    else:
        bundle.restore(stick, where / "machine" / "there")


@pytest.mark.parametrize("way", ["to", "from"])
def test_a_stick_or_disk_without_room_is_told_before_a_byte_is_written(
    way: str, cache: Path, stick: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    before = state(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(HubError, match="no room") as caught:
        carry(way, stick, cache, tmp_path)
    assert caught.value.code == "ST-HUB-106" and state(tmp_path) == before


@pytest.mark.parametrize("way", ["to", "from"])
def test_a_disk_that_fails_half_way_leaves_nothing_behind(
    way: str, cache: Path, stick: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    before, copies = state(tmp_path), []

    def failing(function: Any) -> Any:
        def copy(*args: Any, **kwargs: Any) -> Any:
            copies.append(1)
            if len(copies) == 3:
                raise OSError(errno.EIO, "Input/output error")
            return function(*args, **kwargs)

        return copy

    for name in ("copyfile", "copyfileobj"):
        monkeypatch.setattr(shutil, name, failing(getattr(shutil, name)))
    with pytest.raises(HubError, match="Input/output error") as caught:
        carry(way, stick, cache, tmp_path)
    assert caught.value.code == "ST-HUB-106" and state(tmp_path) == before


# Bundles that must not be trusted


def edit(stick: Path, change: Callable[[Any], object]) -> None:
    content = json.loads((stick / bundle.LIST_NAME).read_text())
    change(content)
    (stick / bundle.LIST_NAME).write_text(json.dumps(content))


def refused(stick: Path, there: Path, code: str) -> None:
    """The bundle is refused, and nothing around the cache or in it has changed."""
    before = state(there.parent)
    with pytest.raises(HubError) as caught:
        bundle.restore(stick, there)
    assert caught.value.code == code, caught.value
    assert state(there.parent) == before
    exit_code, _, told = run("--from", stick, "--cache-dir", there)
    assert exit_code == (2 if code == "ST-HUB-103" else 1) and told.startswith(f"[{code}]") and "Traceback" not in told


BAD_NAMES = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "C:/x",
    "C:x",
    "a\\b",
    "..\\x",
    "",
    ".",
    "a//b",
    "a\0b",
    "a\x1b[2Jb",
    5,
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("part", ["file", "absent", "revision"])
def test_a_bundle_cannot_name_a_file_outside_its_repository(part: str, name: Any, stick: Path, tmp_path: Path) -> None:
    def change(content: Any) -> None:
        repo = content["repos"][0]
        if part == "file":
            repo["files"][0]["name"] = name
        elif part == "absent":
            repo["absent"] = [name]
        else:
            repo["revision"] = name

    edit(stick, change)
    refused(stick, tmp_path / "machine" / "there", "ST-HUB-104")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(version=2),
        lambda content: content.pop("version"),
        lambda content: content.update(repos={}),
        lambda content: content["repos"].append(5),
        lambda content: content["repos"].append(content["repos"][0]),
        lambda content: content["repos"][0].update(repo_id="../../x"),
        lambda content: content["repos"][0].update(repo_id="a/b/c"),
        lambda content: content["repos"][0].update(repo_id="..--x"),
        lambda content: content["repos"][0].update(commit="main"),
        lambda content: content["repos"][0].update(commit="../" * 13 + "x"),
        lambda content: content["repos"][0].update(revision="0" * 40),
        lambda content: content["repos"][0].update(files=[]),
        lambda content: content["repos"][0].update(absent="x"),
        lambda content: content["repos"][0].update(absent=["config.json"]),
        lambda content: content["repos"][0]["files"].append(content["repos"][0]["files"][0]),
        lambda content: content["repos"][0]["files"].append(
            {**content["repos"][0]["files"][0], "name": "config.json/x"}
        ),
        lambda content: content["repos"][0]["files"][0].update(hash="../" * 13 + "x"),
        lambda content: content["repos"][0]["files"][0].update(hash="A" * 40),
        lambda content: content["repos"][0]["files"][0].update(hash="a" * 39),
        lambda content: content["repos"][0]["files"][0].update(algorithm="md5"),
        lambda content: content["repos"][0]["files"][0].update(size=-1),
        lambda content: content["repos"][0]["files"][0].update(size=True),
        lambda content: content["repos"][0]["files"][0].update(size="5"),
    ],
)
def test_a_list_that_is_not_as_it_should_be_is_refused(change: Any, stick: Path, tmp_path: Path) -> None:
    edit(stick, change)
    refused(stick, tmp_path / "machine" / "there", "ST-HUB-104")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'"x"', b"[" * 100_000, b'{"version": 1}'])
def test_a_garbled_list_is_refused(text: bytes, stick: Path, tmp_path: Path) -> None:
    whole_list = (stick / bundle.LIST_NAME).read_bytes()
    for content in (text, whole_list[: len(whole_list) // 2]):
        (stick / bundle.LIST_NAME).write_bytes(content)
        refused(stick, tmp_path / "machine" / "there", "ST-HUB-104")


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def other_bytes(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def a_link_to_the_same_bytes(path: Path) -> None:
    path.rename(path.parent.parent.parent / "outside")
    path.symlink_to("../../outside")


def a_link_to_a_secret(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "harm", [shorter, other_bytes, a_link_to_the_same_bytes, a_link_to_a_secret, a_folder, a_pipe, Path.unlink]
)
@pytest.mark.parametrize("into", ["an empty cache", "a cache with an older commit"])
def test_a_bundle_whose_files_are_not_those_of_its_list_changes_nothing(
    harm: Any, into: str, stick: Path, tmp_path: Path
) -> None:
    there = tmp_path / "machine" / "there"
    if into != "an empty cache":
        Repo(there, ID).commit("older", text_model(3) | {"vocab.txt": b"[PAD]\n"}, ref="main")
    (ready,) = bundle.read_list(stick / bundle.LIST_NAME)
    harm(stick / "files" / next(file.hash for file in ready.files if file.name == "vocab.txt"))
    ((_, found),) = bundle.check_bundle(stick)
    assert [damage.file for damage in found] == ["vocab.txt"]
    refused(stick, there, "ST-HUB-105")
    assert run("--from", stick, "--check")[0] == 1


@pytest.mark.parametrize("part", ["files", bundle.LIST_NAME])
def test_a_bundle_made_of_links_is_refused(part: str, stick: Path, tmp_path: Path) -> None:
    (stick / part).rename(tmp_path / "elsewhere")
    (stick / part).symlink_to(tmp_path / "elsewhere")
    refused(stick, tmp_path / "machine" / "there", "ST-HUB-104")


def test_a_link_swapped_in_after_the_look_is_not_followed(stick: Path, tmp_path: Path, monkeypatch: Any) -> None:
    a_link_to_the_same_bytes(next((stick / "files").iterdir()))
    monkeypatch.setattr(bundle, "_broken", lambda *_: None)
    with pytest.raises(HubError):
        bundle.restore(stick, tmp_path / "machine" / "there")
    assert not (tmp_path / "machine").exists()


@pytest.mark.parametrize("part", ["", "blobs", "snapshots", "refs", ".no_exist"])
def test_nothing_is_written_through_a_link_that_leads_out_of_the_cache(part: str, stick: Path, tmp_path: Path) -> None:
    there, outside = tmp_path / "machine" / "there", tmp_path / "outside"
    outside.mkdir()
    link = there / "models--acme--minilm" / part
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    refused(stick, there, "ST-HUB-103")
    assert not list(outside.iterdir())


def test_a_link_in_place_of_a_blob_or_a_ref_is_replaced_not_followed(stick: Path, tmp_path: Path) -> None:
    there, secret = tmp_path / "there", tmp_path / "secret"
    secret.write_text("keep me")
    (ready,) = bundle.read_list(stick / bundle.LIST_NAME)
    for name in ("refs/main", f"blobs/{ready.files[0].hash}", f"snapshots/{ready.commit}/config.json"):
        link = there / "models--acme--minilm" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(secret)
    bundle.restore(stick, there)
    assert secret.read_text() == "keep me"
    assert [damages for _, damages in bundle.check([ready], there)] == [()]


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere"):
        code, _, told = run("--from", source)
        assert code == 2 and "ST-HUB-103" in told and bundle.LIST_NAME in told
    code, _, told = run("--check", "--list", tmp_path / "nowhere.json")
    assert code == 2 and "nowhere.json" in told and str(tmp_path) not in told


# The command


def test_the_command_prints_a_table_and_writes_the_list(bert: dict[str, bytes], cache: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        hub.add(ID, bert)
        with hub.applied(cache=cache):
            code, said, _ = run(ID, "--list", tmp_path / "ready.json")
            assert code == 0 and ID in said and "ready" in said
            code, said, _ = run(ID, "--json")
    shown = json.loads(said)
    assert code == 0 and shown["ready"] and shown["repos"][0]["why"] == "asked for"
    assert {file["name"] for file in shown["repos"][0]["files"]} >= USEFUL
    assert run("--check", "--list", tmp_path / "ready.json", "--cache-dir", cache)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--check",),
        ("--list", "x"),
        ("--from", "x", ID),
        ("--from", "x", "--to", "y"),
        ("--from", "x", "--list", "y"),
        ("--from", "x", "--all"),
        (ID, "--check", "--to", "x"),
        (ID, "--check", "--list", "x"),
        (ID, "--no-such-option"),
    ],
)
def test_a_command_that_contradicts_itself_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    code, said, told = run(*arguments)
    assert code == 2 and "Usage: " in told and not said


def test_a_name_that_is_no_repository_is_a_usage_error_of_the_command() -> None:
    code, said, told = run("not/a/repository", "--check", "--json")
    assert code == 2 and told.startswith("[ST-HUB-103]") and json.loads(said)["error"]["code"] == "ST-HUB-103"


def test_the_rules_of_choice_read_no_file_of_another_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"auto_map": {"AutoModel": "me/evil--x.Y"}}))
    what = wanted.Wanted(ID, "main")
    assert wanted.others({"config.json": secret}, what) == [
        wanted.Wanted("me/evil", "main", f"remote code of {ID}", code_only=True)
    ]
    assert wanted.others({"config.json": tmp_path / "none"}, what) == wanted.others({}, what) == []


def test_the_hashes_of_the_list_are_those_that_git_and_lfs_give(cache: Path) -> None:
    (ready,) = whole(cache, {"a.txt": b"hello\n", "model.safetensors": b"x"})
    by_name = {file.name: file for file in ready.files}
    assert by_name["a.txt"].hash == hashlib.sha1(b"blob 6\0hello\n").hexdigest()
    assert by_name["a.txt"].algorithm == "git-sha1" and by_name["model.safetensors"].algorithm == "sha256"
    assert not prefetching.problems(cache / "models--acme--minilm/snapshots" / ready.commit, ready.files)
