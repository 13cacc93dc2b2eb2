"""Failures of padding, of tasks, and of the files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from checkpoints import save, save_pickle, save_remote_code, tokenizer
from explain_making import Case, Made, logged, of, raised
from models import EOS, padded_rows, tiny

_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n"
_HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
_GOES_ON = "loads a tokenizer where there is no processor"
_ANY_TOKENIZER = "looks for any tokenizer, and says that it cannot make one"
_NO_TF = "has no code for TensorFlow and Flax, and looks for torch files only"


# Padding


def _right_padded_prompt(_: Path) -> Made:
    ids = padded_rows("right")
    return logged(lambda: tiny("gpt2").generate(ids, attention_mask=(ids != 0).long(), max_new_tokens=1))


def _may_be_padded(_: Path) -> Made:
    model = tiny("bert")
    return logged(lambda: model.warn_if_padding_and_no_attention_mask(padded_rows("right"), None))


def _pad_is_eos(_: Path) -> Made:
    model = tiny("gpt2", pad_token_id=EOS)
    return logged(lambda: model.generate(padded_rows("left", pad=EOS), max_new_tokens=1))


def _neither_mask_nor_pad(_: Path) -> Made:
    return logged(lambda: tiny("gpt2", pad_token_id=None).generate(torch.tensor([[5, 6]]), max_new_tokens=1))


def _no_pad_token(_: Path) -> Made:
    words = tokenizer()
    words.pad_token = None
    return raised(lambda: words(["hello", "hello world"], padding=True))


def _classify_two_without_pad(_: Path) -> Made:
    model = transformers.GPT2ForSequenceClassification(tiny("gpt2").config)
    model.config.pad_token_id = None
    return raised(lambda: model(torch.tensor([[5, 6], [7, 8]])))


def _too_long(_: Path) -> Made:
    words = tokenizer()
    words.model_max_length = 3
    return logged(lambda: words("hello world a wonderful day"))


PADDING = (
    Case("a prompt padded on the right", "ST-MASK-009", _right_padded_prompt, ('padding_side = "left"',)),
    Case("ids that may be padded", "ST-MASK-002", _may_be_padded, ("probably",)),
    Case("a pad token that is eos too", "ST-MASK-003", _pad_is_eos, ("eos",)),
    Case(
        "generate without a mask and a pad token",
        "ST-MASK-502",
        _neither_mask_nor_pad,
        ("pad_token_id=",),
        only=4,
        otherwise="says nothing for a single row",
    ),
    Case("padding without a pad token", "ST-MASK-501", _no_pad_token, ("add_special_tokens",)),
    Case(
        "rows of two lengths in one tensor",
        "ST-MASK-503",
        lambda _: raised(lambda: tokenizer()(["hello", "hello world"], return_tensors="pt")),
        ("padding=True",),
    ),
    Case("two rows for a classifier without a pad token", "ST-MASK-504", _classify_two_without_pad),
    Case("a text that is too long", "ST-MASK-505", _too_long, ("5 tokens", "takes 3")),
)


# Tasks


def _config_of(folder: Path, model_type: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def _no_feature_extractor_type(folder: Path) -> Made:
    (folder / "preprocessor_config.json").write_text("{}")
    return of("AutoFeatureExtractor", _config_of(folder, "gpt2"))


def _config_of_my_own(folder: Path) -> Made:
    class MyConfig(transformers.PretrainedConfig):
        model_type = "of-mine"

    return of("AutoTokenizer", folder, config=MyConfig())


def _pipeline_of_another_task(_: Path) -> Made:
    return logged(
        lambda: transformers.pipeline("text-classification", model=tiny("bert"), tokenizer=tokenizer(), device="cpu")
    )


def _pipeline_that_no_class_loads(folder: Path) -> Made:
    settings = json.loads((save(tiny("t5"), folder) / "config.json").read_text())
    del settings["architectures"]  # by which a pipeline would load the class that was saved
    (folder / "config.json").write_text(json.dumps(settings))
    return raised(lambda: transformers.pipeline("text-generation", model=str(folder)))


def _unknown_task(folder: Path) -> Made:
    return raised(lambda: transformers.pipeline("text-to-poetry", model=str(save(tiny("gpt2"), folder))))


TASKS = (
    Case(
        "an Auto class that does not fit",
        "ST-TASK-001",
        lambda folder: of("AutoModelForSpeechSeq2Seq", save(tiny("gpt2"), folder)),
        ("AutoModelForSpeechSeq2Seq", "GPT2Config"),
    ),
    Case(
        "a processor of a model of text",
        "ST-TASK-002",
        lambda folder: of("AutoProcessor", _config_of(folder, "gpt2")),
        ("processing class",),
        only=4,
        otherwise=_GOES_ON,
    ),
    Case("a feature extractor of no kind", "ST-TASK-002", _no_feature_extractor_type, ("feature extractor",)),
    Case(
        "a feature extractor that is not there",
        "ST-TASK-002",
        lambda folder: of("AutoFeatureExtractor", _config_of(folder, "gpt2")),
        ("preprocessor_config.json",),
    ),
    Case(
        "a tokenizer for a config of my own",
        "ST-TASK-002",
        _config_of_my_own,
        ("MyConfig",),
        only=4,
        otherwise=_ANY_TOKENIZER,
    ),
    Case(
        "a tokenizer of a model of images",
        "ST-TASK-002",
        lambda folder: of("AutoTokenizer", _config_of(folder, "vit")),
        ("ViTConfig",),
        only=4,
        otherwise=_ANY_TOKENIZER,
    ),
    Case("a task that does not exist", "ST-TASK-003", _unknown_task, ("text-to-poetry",)),
    Case("a pipeline over a model without a head", "ST-TASK-003", _pipeline_of_another_task, ("BertModel",)),
    Case("a pipeline that no class loads", "ST-TASK-001", _pipeline_that_no_class_loads, ("T5Config",)),
)


# Files


def _weights_named(folder: Path, *names: str) -> Path:
    tiny("bert").config.save_pretrained(folder)
    for name in names:
        (folder / name).write_bytes(_HDF5)
    return folder


def _damaged(folder: Path, name: str, content: bytes | None = None) -> Path:
    """A checkpoint in which one file is something else, or lacks its end."""
    (save_pickle if name.endswith(".bin") else save)(tiny("bert"), folder)
    file = folder / name
    file.write_bytes(file.read_bytes()[:-5000] if content is None else content)
    return folder


def _shard_lost(folder: Path) -> Path:
    save_pickle(tiny("bert"), folder, shards=2)
    (folder / "pytorch_model-00001-of-00002.bin").unlink()
    return folder


class _OfMyOwn:
    pass


def _pickle_of_my_own(folder: Path) -> Made:
    torch.save({"settings": _OfMyOwn()}, folder / "trained.pt")
    return raised(lambda: torch.load(folder / "trained.pt"))


def _new_head(folder: Path) -> Made:
    save(tiny("bert"), folder)
    return logged(lambda: transformers.AutoModelForSequenceClassification.from_pretrained(folder))


def _other_state(_: Path) -> Made:
    state = tiny("bert", vocab_size=70).state_dict()
    return raised(lambda: tiny("bert").load_state_dict(state))


def _off_meta(_: Path) -> Made:
    return raised(lambda: tiny("bert").to("meta").to("cpu"))


def _no_chat_template(_: Path) -> Made:
    return raised(lambda: tokenizer().apply_chat_template([{"role": "user", "content": "hello"}]))


def _class(name: str) -> Any:
    return lambda folder: raised(lambda: getattr(transformers, name).from_pretrained(folder))


FILES = (
    Case(
        "TensorFlow weights only",
        "ST-TF-501",
        lambda folder: of("AutoModel", _weights_named(folder, "tf_model.h5")),
        ("TensorFlow", "safetransformers convert"),
    ),
    Case(
        "a saved model of TensorFlow only",
        "ST-TF-501",
        lambda folder: of("AutoModel", _weights_named(folder, "saved_model.pb")),
        ("saved_model.pb",),
    ),
    Case(
        "Flax weights only",
        "ST-TF-502",
        lambda folder: of("AutoModel", _weights_named(folder, "flax_model.msgpack")),
        ("Flax",),
    ),
    Case(
        "from_tf without TensorFlow",
        "ST-TF-503",
        lambda folder: of("AutoModel", _weights_named(folder, "tf_model.h5"), from_tf=True),
        ("tensorflow is not installed",),
        only=4,
        otherwise=_NO_TF,
    ),
    Case(
        "from_tf, which is dropped",
        "ST-TF-501",
        lambda folder: of("AutoModel", _weights_named(folder, "tf_model.h5"), from_tf=True),
        ("tf_model.h5",),
        only=5,
        otherwise="reads it, and needs TensorFlow",
    ),
    Case("a TensorFlow class", "ST-TF-504", _class("TFBertModel"), ("import BertModel",), only=4, otherwise=_NO_TF),
    Case("a Flax class", "ST-TF-504", _class("FlaxBertModel"), ("import BertModel",), only=4, otherwise=_NO_TF),
    Case(
        "tensors of TensorFlow",
        "ST-TF-505",
        lambda _: raised(lambda: tokenizer()("hello", return_tensors="tf")),
        ('return_tensors="pt"',),
    ),
    Case("no weights", "ST-HUB-506", lambda folder: of("AutoModel", _weights_named(folder)), ("config.json",)),
    Case(
        "pickle where safetensors are asked for",
        "ST-HUB-506",
        lambda folder: of("AutoModel", save_pickle(tiny("bert"), folder), use_safetensors=True),
        ("pytorch_model.bin",),
    ),
    Case(
        "a shard that is missing",
        "ST-HUB-506",
        lambda folder: of("AutoModel", _shard_lost(folder)),
        ("pytorch_model-00001-of-00002.bin",),
    ),
    Case(
        "a page in place of config.json",
        "ST-HUB-006",
        lambda folder: of("AutoModel", _damaged(folder, "config.json", _PAGE)),
        ("config.json is not JSON",),
    ),
    Case(
        "a Git LFS pointer in place of weights",
        "ST-HUB-006",
        lambda folder: of("AutoModel", _damaged(folder, "model.safetensors", _POINTER)),
        ("git lfs pull",),
    ),
    Case(
        "safetensors that were cut",
        "ST-HUB-006",
        lambda folder: of("AutoModel", _damaged(folder, "model.safetensors")),
        ("cut short",),
    ),
    Case(
        "a .bin that was cut",
        "ST-HUB-006",
        lambda folder: of("AutoModel", _damaged(folder, "pytorch_model.bin")),
        ("archive",),
    ),
    Case(
        "a page in place of a .bin, whose path is told",
        "ST-HUB-006",
        lambda folder: of("AutoModel", _damaged(folder, "pytorch_model.bin", _PAGE)),
        ("pytorch_model.bin",),
        only=4,
        otherwise="raises what torch.load raises",
    ),
    Case(
        "a page in place of a .bin",
        "ST-LOAD-503",
        lambda folder: of("AutoModel", _damaged(folder, "pytorch_model.bin", _PAGE)),
        ("60", "probably no torch file"),
        only=5,
        otherwise="wraps it",
    ),
    Case("a pickle with a class of my own", "ST-LOAD-503", _pickle_of_my_own, ("_OfMyOwn",)),
    Case(
        "code that was not allowed",
        "ST-LOAD-501",
        lambda folder: of("AutoModel", save_remote_code(folder)),
        ("trust_remote_code=True",),
    ),
    Case(
        "weights of another size",
        "ST-LOAD-001",
        lambda folder: of("BertModel", save(tiny("bert"), folder), vocab_size=99),
        ("ignore_mismatched_sizes",),
    ),
    Case("a state dict of another size", "ST-LOAD-001", _other_state, ("[70, 32]", "BertModel")),
    Case("a head that is new", "ST-LOAD-001", _new_head, ("BertForSequenceClassification", "classifier.")),
    Case("a weight on the meta device", "ST-LOAD-504", _off_meta),
    Case("no chat template", "ST-LOAD-505", _no_chat_template),
)
