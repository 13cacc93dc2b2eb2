"""Every line to paste of the error pages runs: what a reader brings (a model, a folder, a batch) is made here."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from doc_blocks import ERRORS, free_names, of_each
from hub_server import Hub

import safetransformers
from safetransformers import testing
from safetransformers.hub import learned

MODULES = ("os", "safetransformers", "torch", "warnings")
# What a block calls, and where that cannot be.
NEEDS = {
    "torch.cuda.get_device_capability": (torch.cuda.is_available, "asks for the capability of a CUDA device"),
    "tf.constant": (lambda: find_spec("tensorflow") is not None, "TensorFlow is not installed"),
}
TEXTS = ["hello world", "a wonderful day"]


class OwnConfig(transformers.BertConfig):
    model_type = "my-type"


class OwnModel(transformers.BertModel):
    config_class = OwnConfig


def language_model() -> Any:
    return testing.tiny_model("llama", "AutoModelForCausalLM")


def classifier(model_type: str = "bert") -> Any:
    return testing.tiny_model(model_type, "AutoModelForSequenceClassification")


def batch() -> Any:
    return testing.tiny_tokenizer()(TEXTS, padding=True, return_tensors="pt")


def reader() -> dict[str, Callable[[], Any]]:
    """What the blocks take for given, made when one asks for it; files lie in the working directory."""
    return {
        "model": language_model,
        "tokenizer": testing.tiny_tokenizer,
        "text": lambda: TEXTS[0],
        "texts": lambda: TEXTS,
        "prompts": lambda: TEXTS,
        "batch": batch,
        "inputs": batch,
        "input_ids": lambda: batch()["input_ids"],
        "mask": lambda: batch()["attention_mask"],
        "labels": lambda: torch.tensor([0, 1]),
        "loader": lambda: [batch()],
        "rows": lambda: 2,
        "evaluate": lambda: lambda model, rows: model(torch.ones(rows, 3, dtype=torch.long)).logits.mean().item(),
        "run": lambda: lambda rows: rows,
        "args": lambda: transformers.TrainingArguments(per_device_train_batch_size=32, output_dir="out"),
        "path": lambda: "saved",
        "base_model": lambda: "saved",
        "MyConfig": lambda: OwnConfig,
        "MyModel": lambda: OwnModel,
        "ThatClass": lambda: OwnConfig,
        "Path": lambda: Path,
    }


def of_page(page: str) -> dict[str, Callable[[], Any]]:
    """The same, where a page is about something else."""
    on_the_cpu = {"TrainingArguments": lambda: partial(transformers.TrainingArguments, use_cpu=True)}
    return {
        "ST-ASSERT-503": {"model": classifier},
        "ST-ASSERT-506": {"path": lambda: "weights.bin"},
        "ST-MASK-004": {"model": lambda: safetransformers.guard(classifier())},
        "ST-MASK-008": {"model": classifier},
        "ST-MASK-006": {"model": lambda: safetransformers.guard(classifier("gpt2"), padding="exact")},
        "ST-MASK-011": {"model": lambda: torch.compile(safetransformers.guard(classifier()))},
        "ST-MASK-012": {"model": lambda: safetransformers.guard(classifier())},
        "ST-OOM-501": on_the_cpu,
        "ST-OOM-503": on_the_cpu,
        "ST-OOM-001": {"model": lambda: safetransformers.guard(language_model())},
    }.get(page, {})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, with what the pages name beside it."""
    folder = testing.tiny_checkpoint("bert", tmp_path_factory.mktemp("docs") / "saved")
    model = testing.tiny_model("bert")
    model.save_pretrained(folder / "model")
    model.save_pretrained(folder, variant="fp16")
    torch.save(model.state_dict(), folder.parent / "weights.bin")
    words = sorted(testing.tiny_tokenizer().get_vocab())
    (folder.parent / "vocab.txt").write_text("\n".join(["[UNK]", "[SEP]", "[CLS]", "[MASK]", *words]))
    (folder.parent / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    return folder


@pytest.fixture
def commit(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The commit of ``org/name``, on a hub that answers; the working directory is the reader's."""
    learned.forget()
    monkeypatch.chdir(saved.parent)
    with Hub() as hub, hub.applied(tmp_path / "hub"):
        files = {path.name: path.read_bytes() for path in saved.iterdir() if path.is_file()}
        yield hub.add("org/name", files)
    torch.serialization.clear_safe_globals()


def look_up(name: str) -> Any:
    return importlib.import_module(name) if name in MODULES else getattr(transformers, name)


@pytest.mark.usefixtures("code_cache")
@of_each(ERRORS)
def test_each_line_to_paste_runs_as_it_stands(page: Path, block: str, commit: str) -> None:
    code = compile(re.sub(r"<[^<>]*commit[^<>]*>", commit, block), page.name, "exec")
    for called, (is_possible, reason) in NEEDS.items():
        if called in block and not is_possible():
            pytest.skip(reason)
    given = reader() | of_page(page.stem)
    names = {name: given[name]() if name in given else look_up(name) for name in free_names(block)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)
