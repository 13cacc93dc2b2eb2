"""What a load reads of a cached commit, and when that is all there."""

from __future__ import annotations

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from checkpoints import save_pickle
from hub_caches import (
    BOTH,
    CONFIG,
    MODEL,
    TOKENIZER,
    Repo,
    gguf_file,
    hdf5,
    problems,
    safetensors,
    served,
    sharded,
    text_model,
    told,
)
from safetensors import SafetensorError
from transformers import AutoModel, BertConfig, BertModel

from safetransformers.hub.completeness import VOCABULARIES
from safetransformers.hub.snapshots import (
    Need,
    choose,
    commits,
)


def tiny_bert(words: int) -> BertConfig:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertConfig(vocab_size=words, max_position_embeddings=8, **sizes)


def test_a_model_in_shards_needs_every_shard(repo: Repo) -> None:
    files = sharded()
    assert problems(repo, files, MODEL) == []
    shard = "model-00002-of-00003.safetensors"
    assert problems(repo, {name: files[name] for name in files if name != shard}, MODEL) == [(shard, "missing")]
    assert problems(repo, {name: files[name] for name in files if name != shard}, Need()) == [(shard, "missing")]
    assert problems(repo, files | {shard: files[shard][:-1]}, MODEL) == [(shard, "truncated")]
    index = "model.safetensors.index.json"
    assert problems(repo, files | {index: b'{"weight_map": {}}'}, MODEL) == [(index, "not its format")]
    assert problems(repo, files | {index: b"[]"}, MODEL) == [(index, "not its format")]


@pytest.mark.parametrize("shard", ["../../../secret", "/etc/passwd", "C:\\x", "a/../../b", ""])
def test_an_index_cannot_name_files_outside_the_commit(repo: Repo, shard: str) -> None:
    (repo.folder / "secret").write_bytes(safetensors())
    files = {**CONFIG, "model.safetensors.index.json": json.dumps({"weight_map": {"a": shard}}).encode()}
    assert problems(repo, files, MODEL) == [(shard, "a name outside the repository")]


def test_the_weights_are_judged_in_the_format_that_transformers_reads_first(tmp_path: Path) -> None:
    """Every set of weight files, whole or not, is given to transformers itself."""
    model = BertModel(tiny_bert(2048))
    model.save_pretrained(tmp_path / "safe")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    save_pickle(model, tmp_path / "pickle")
    save_pickle(model, tmp_path / "pickles", shards=2)
    folders = [tmp_path / name for name in ("safe", "shards", "pickle", "pickles")]
    have = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    safe, shards, pickle, pickles = have
    a_shard, a_pickle = sorted(shards)[1], "pytorch_model-00002-of-00002.bin"
    assert a_shard.startswith("model-00001")
    cases: list[dict[str, bytes]] = [
        *have,
        {**CONFIG},
        {k: v for k, v in shards.items() if k != a_shard},
        {k: v for k, v in shards.items() if k != a_shard} | pickle,
        {k: v for k, v in shards.items() if k != a_shard} | safe,
        {k: v for k, v in pickles.items() if k != a_pickle},
        {k: v for k, v in pickles.items() if k != a_pickle} | pickle,
        {k: v for k, v in pickles.items() if k != a_pickle} | safe,
        safe | {"model.safetensors": safe["model.safetensors"][:-1]},
        safe | pickle | {"model.safetensors": safe["model.safetensors"][:-1]},
        safe | pickle | {"pytorch_model.bin": pickle["pytorch_model.bin"][:-100]},
        pickle | {"pytorch_model.bin": pickle["pytorch_model.bin"][:-100]},
    ]
    for number, files in enumerate(cases):
        repo = Repo(tmp_path / "cache", f"org/case{number}")
        commit = repo.commit("one", files, ref="main")
        for only_safe in (None, True):
            try:
                AutoModel.from_pretrained(repo.folder / "snapshots" / commit, use_safetensors=only_safe)
                loads = True
            except (OSError, RuntimeError, ValueError, SafetensorError):
                loads = False
            whole = served(repo, replace(MODEL, safetensors_only=bool(only_safe))) is not None
            assert whole == loads, (number, only_safe, sorted(files))


def test_a_variant_is_another_set_of_files(repo: Repo) -> None:
    fp16 = {"model.fp16.safetensors": safetensors(), **CONFIG}
    assert problems(repo, fp16, replace(MODEL, variant="fp16")) == []
    assert problems(repo, fp16, MODEL) == [("model.safetensors", "missing")]
    assert problems(repo, CONFIG, replace(MODEL, variant="fp16")) == [("model.fp16.safetensors", "missing")]
    weight_map = {"weight_map": {"a": "model.fp16-00001-of-00001.safetensors"}}
    index = {"model.safetensors.index.fp16.json": json.dumps(weight_map).encode(), **CONFIG}
    need = replace(MODEL, variant="fp16")
    assert problems(repo, index, need) == [("model.fp16-00001-of-00001.safetensors", "missing")]
    assert problems(repo, index | {"model.fp16-00001-of-00001.safetensors": safetensors()}, need) == []


def test_a_tokenizer_is_taken_from_the_commit_whose_variant_is_whole(repo: Repo) -> None:
    files = {name: content for name, content in text_model().items() if name != "model.safetensors"}
    old = repo.commit("old", files | {"model.fp16.safetensors": safetensors()}, age_s=100)
    repo.commit("new", files, ref="main")
    assert served(repo, TOKENIZER) == served(repo, replace(MODEL, variant="fp16")) == old


@pytest.mark.parametrize(
    "weights",
    [
        {"tf_model.h5": None},
        {"flax_model.msgpack": b"\x81\xa1a\x01"},
        {"model.ckpt.index": b"x", "model.ckpt.data-00000-of-00001": b"y", "model.ckpt.meta": b"z"},
        {"any-name-Q4.gguf": None},
    ],
)
def test_other_formats_are_weights_where_there_is_none_that_is_preferred(
    repo: Repo, weights: dict[str, bytes | None]
) -> None:
    gguf_file(repo.cache / "made.gguf")
    made = {".h5": hdf5(0, 600), ".gguf": (repo.cache / "made.gguf").read_bytes()}
    files = CONFIG | {name: content or made[name[name.rindex(".") :]] for name, content in weights.items()}
    assert problems(repo, files, MODEL) == []
    assert problems(repo, files, replace(MODEL, safetensors_only=True)) == [("model.safetensors", "missing")]
    last = [name for name in weights if name != "model.ckpt.meta"][-1]
    assert problems(repo, {name: files[name] for name in files if name != last}, MODEL) != []


def test_a_sharded_gguf_needs_all_its_shards(repo: Repo) -> None:
    gguf_file(repo.cache / "made.gguf")
    part = (repo.cache / "made.gguf").read_bytes()
    names = [f"big-Q4-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    need = Need(config=True, weights=True, tokenizer=True, files=(names[0],))
    assert problems(repo, dict.fromkeys(names, part), need) == []
    assert problems(repo, {names[0]: part, names[2]: part[:-600]}, need) == [
        (names[1], "missing"),
        (names[2], "truncated"),
    ]
    assert (
        problems(repo, {**CONFIG, "x.gguf": part, "model.safetensors": b"cut"}, replace(need, files=("x.gguf",))) == []
    )
    assert problems(repo, {**CONFIG, names[0]: part, "whole.gguf": part}, MODEL) == []
    assert problems(repo, {**CONFIG, "other.gguf": part}, replace(MODEL, files=("mine.gguf",))) == [
        ("mine.gguf", "missing")
    ]


def test_an_adapter_is_its_config_and_its_weights(repo: Repo) -> None:
    adapter = {"adapter_config.json": b"{}", "adapter_model.safetensors": safetensors()}
    need = Need(adapter=True)
    assert problems(repo, adapter, need) == problems(repo, adapter, MODEL) == []
    assert problems(repo, {"adapter_config.json": b"{}"}, need) == [("adapter_model.safetensors", "missing")]
    assert problems(repo, {"adapter_model.bin": b"\x80\x02."}, need) == [("adapter_config.json", "missing")]
    assert problems(repo, {"adapter_config.json": b"{}", "adapter_model.bin": b"\x80\x02."}, need) == []


def test_a_subfolder_is_judged_by_itself(repo: Repo) -> None:
    inner = {f"encoder/{name}": content for name, content in text_model().items()}
    need = replace(BOTH, subfolder="encoder")
    assert problems(repo, inner, need) == problems(repo, text_model(), BOTH) == []
    assert problems(repo, text_model(), need)[0] == ("encoder/config.json", "missing")
    assert problems(repo, inner | {"encoder/vocab.txt": None}, need) == [("encoder/vocab.txt", "dangling link")]
    assert problems(repo, inner | {"vocab.txt": None}, need) == []


def test_every_vocabulary_file_of_the_installed_transformers_is_known() -> None:
    settings = {"tokenizer_config.json", "normalizer.json", "special_tokens_map.json", "added_tokens.json"}
    names: set[str] = set()
    for path in Path(transformers.__file__).parent.rglob("token*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).upper() == "VOCAB_FILES_NAMES"
            if named and isinstance(node.value, ast.Dict):
                names |= {value.value for value in node.value.values if isinstance(value, ast.Constant)}
    assert len(names) > 20
    assert names - settings <= VOCABULARIES


@pytest.mark.parametrize(
    ("files", "lacking"),
    [
        ({"tokenizer.json": b"{}"}, []),
        ({"vocab.txt": b"a\n"}, []),
        ({"spiece.model": b"x"}, []),
        ({"my.own.model": b"x"}, []),
        ({"qwen.tiktoken": b"x"}, []),
        ({"tokenizer.model.v3": b"x"}, []),
        ({"tekken.json": b"{}"}, []),
        ({"vocab.json": b"{}"}, []),  # a CTC tokenizer
        ({"vocab.json": b"{}", "merges.txt": b"#\n"}, []),
        ({"merges.txt": b"#\n"}, ["tokenizer.json"]),
        ({"tokenizer_config.json": b"{}"}, ["tokenizer.json"]),
        ({"tokenizer_config.json": b'{"tokenizer_class": "ByT5Tokenizer"}'}, []),
        ({"tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["tok.Mine", null]}}'}, []),
        ({"config.json": b'{"model_type": "canine"}'}, []),
        ({"question_encoder_tokenizer/vocab.txt": b"a\n"}, []),
        ({"tokenizer_config.json": b"[]", "config.json": b"[]"}, ["tokenizer.json"]),
    ],
)
def test_a_tokenizer_needs_a_vocabulary(repo: Repo, files: dict[str, bytes], lacking: list[str]) -> None:
    found = problems(repo, CONFIG | files, TOKENIZER)
    assert found == [(name, "missing") for name in lacking]


def test_a_tokenizer_that_stopped_arriving_is_compared_with_the_older_one(repo: Repo) -> None:
    bpe = {**CONFIG, "tokenizer_config.json": b"{}", "vocab.json": b"{}", "merges.txt": b"#\n"}
    old = repo.commit("old", bpe, age_s=1000)
    for gone in ("merges.txt", "vocab.json", "tokenizer_config.json"):
        new = repo.commit(f"no {gone}", {name: bpe[name] for name in bpe if name != gone}, ref="main")
        assert served(repo, TOKENIZER) == old, gone
        marker = repo.folder / ".no_exist" / new / gone
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()  # the hub has said so: this commit has none
        expected = old if gone == "vocab.json" else new  # merges alone are no vocabulary
        assert served(repo, TOKENIZER) == expected, gone
        shutil.rmtree(repo.folder / "snapshots" / new)


def test_a_fast_tokenizer_is_whole_by_its_one_file(repo: Repo) -> None:
    files = {
        **CONFIG,
        "tokenizer_config.json": b"{}",
        "vocab.json": b"{}",
        "merges.txt": b"#\n",
        "tokenizer.json": b"{}",
    }
    old = repo.commit("old", files, age_s=1000)
    new = repo.commit("new", {name: files[name] for name in files if name != "merges.txt"}, ref="main")
    assert served(repo, TOKENIZER) == new
    slow = repo.commit("slow", {name: files[name] for name in files if name != "tokenizer.json"}, ref="main")
    assert served(repo, TOKENIZER, barred={new}) == old  # it did not arrive
    repo.commit("slow", {}, absent=("tokenizer.json",))
    assert served(repo, TOKENIZER) == slow


def test_a_file_asked_for_by_name_does_not_wait_for_other_weights(repo: Repo) -> None:
    repo.commit("old", text_model(1), age_s=1000)
    new = repo.commit("new", text_model(2) | {"adapter/model.safetensors": safetensors()}, ref="main")
    repo.truncate(new, "model.safetensors", 50)
    assert served(repo, Need(files=("adapter/model.safetensors",))) == new
    assert served(repo, Need(files=("README.md",))) != new


def test_a_processor_needs_its_settings(repo: Repo) -> None:
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"):
        assert problems(repo, {**CONFIG, name: b"{}"}, Need(processor=True)) == []
        assert problems(repo, {**CONFIG, name: None}, Need(processor=True)) == [(name, "dangling link")]
    assert problems(repo, CONFIG, Need(processor=True)) == [("preprocessor_config.json", "missing")]


def test_generation_settings_are_missed_where_an_older_commit_has_them(repo: Repo) -> None:
    old = repo.commit("old", text_model(1) | {"generation_config.json": b"{}"}, age_s=1000)
    new = repo.commit("new", text_model(2), ref="main")
    assert served(repo, MODEL) == old
    assert served(repo, replace(MODEL, generation=False)) == new
    repo.commit("new", {}, absent=("generation_config.json",))
    assert served(repo, MODEL) == new


def test_what_only_a_newer_commit_has_is_not_missed_in_an_older_one(repo: Repo) -> None:
    old = repo.commit("old", text_model(1), age_s=1000)
    new = repo.commit("new", text_model(2) | {"generation_config.json": b"{}"}, ref="main")
    repo.truncate(new, "model.safetensors", 20)
    assert served(repo, MODEL) == old


def test_code_of_the_repository_is_needed_where_it_will_run(repo: Repo) -> None:
    auto_map = {
        "AutoConfig": "configuration_x.C",
        "AutoModel": "modeling_x.M",
        "AutoTokenizer": ["tokenization_x.T", None],
    }
    files = {
        "config.json": json.dumps(
            {"auto_map": auto_map | {"AutoModelForCausalLM": "other/repo--modeling_y.M"}}
        ).encode(),
        "configuration_x.py": b"",
        "modeling_x.py": b"import torch\nfrom .configuration_x import C\nfrom .layers import L\n",
        "layers.py": b"from .modeling_x import M\n",
        "model.safetensors": safetensors(),
    }
    need = replace(MODEL, remote_code=True)
    assert problems(repo, files, need) == []
    assert problems(repo, files | {"modeling_x.py": None}, need)[0] == ("modeling_x.py", "dangling link")
    without = {name: content for name, content in files.items() if name != "layers.py"}
    assert problems(repo, without, need) == [("layers.py", "missing")]
    assert problems(repo, without, MODEL) == []
    assert ("tokenization_x.py", "missing") in problems(repo, files, Need(tokenizer=True, remote_code=True))


def test_the_listing_of_huggingface_hub_2_tells_sizes_hashes_and_absence(tmp_path: Path) -> None:
    repo = Repo(tmp_path, links=False)  # as on Windows: no link tells the blob's name
    old = repo.commit("old", text_model(1) | {"tokenizer.json": b"{}", "merges.txt": b"#"}, age_s=100)
    files = text_model(2)
    new = repo.commit("new", files, ref="main", listed=files)
    snapshot = commits(repo.folder)[0]
    assert served(repo, BOTH, verify="hash") == new and snapshot.blob_of("config.json") is None
    assert snapshot.known_absent("merges.txt") and not snapshot.known_absent("vocab.txt")
    repo.replace(new, "vocab.txt", files["vocab.txt"][:-4])
    assert served(repo, BOTH) == old
    repo.replace(new, "vocab.txt", files["vocab.txt"])
    repo.flip(new, "model.safetensors")
    assert (served(repo, BOTH), served(repo, BOTH, verify="hash")) == (new, old)
    repo.write_tree(new, files | {"model.safetensors": files["model.safetensors"] + b"more"})
    assert told(choose(tmp_path, "org/model", None, BOTH)) == [("model.safetensors", "truncated")]
    for garbled in ("", "[]", "{}", '{"files": 3}', '{"files": {"config.json": 3}}', '{"files": [1]}', "\0\0"):
        (repo.folder / "trees" / f"{new}.json").write_text(garbled)
        assert served(repo, BOTH) == new
    (repo.folder / "trees" / f"{new}.json").write_text('{"files": {"config.json": {"size": "x", "blob_id": 4}}}')
    assert served(repo, BOTH, verify="hash") == new
