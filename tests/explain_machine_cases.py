"""Failures of names, packages, memory and devices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import transformers
from checkpoints import save, save_remote_code
from explain_making import Case, Made, of, printed, raised
from models import tiny

_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


# Names


def _runs(code: str) -> Callable[[Path], Made]:
    return lambda _: raised(lambda: exec(code, {}))


def _without(package: str, code: str) -> Callable[[Path], Made]:
    """A script where one package cannot be imported."""
    hidden = f"import sys; sys.modules[{package!r}] = None; import transformers; "
    return lambda folder: printed(hidden + code.format(folder=str(folder)))


def _config_of(folder: Path, settings: dict[str, str]) -> Path:
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def _tokenizer_class(folder: Path) -> Made:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    return of("AutoTokenizer", _config_of(folder, {"model_type": "gpt2"}))


def _damaged_tokenizer(folder: Path) -> Made:
    (save(tiny("bert"), folder) / "tokenizer.json").write_bytes(_PAGE)
    return of("AutoTokenizer", folder)


def _damaged_sentencepiece(folder: Path) -> Made:
    (folder / "tokenizer.model").write_bytes(_PAGE)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    return of("AutoTokenizer", _config_of(folder, {"model_type": "llama"}))


def _slow_tokenizer_of_my_own(folder: Path) -> Made:
    class Mine(transformers.ByT5Tokenizer):
        vocab_file = str(folder / "words.txt")

    (folder / "words.txt").write_text("hello\n")
    return raised(lambda: transformers.PreTrainedTokenizerFast(__slow_tokenizer=Mine()))


def _remote_code_that_imports(line: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        file = save_remote_code(folder) / "modeling_remote.py"
        file.write_text(f"{line}\n{file.read_text()}")
        return of("AutoModel", folder, trust_remote_code=True)

    return make


def _other_tokenizers(_: Path) -> Made:
    """The check that transformers makes when it is imported, where the metadata tell of another version."""
    from importlib import metadata

    versions = transformers.utils.versions
    with mock.patch.object(metadata, "version", return_value="0.1.0"):
        return raised(lambda: versions.require_version_core(transformers.dependency_versions_table.deps["tokenizers"]))


def _broken_package(folder: Path) -> Made:
    (folder / "peft").mkdir()
    (folder / "peft" / "__init__.py").write_text('raise RuntimeError("broken")')
    return printed("import transformers; transformers.Trainer", PYTHONPATH=str(folder))


def _own_file(code: str) -> Callable[[Path], Made]:
    """A script beside which there is a file of the user's named transformers.py."""

    def make(folder: Path) -> Made:
        (folder / "transformers.py").write_text("from transformers import AutoModel\n" if "own" in code else "")
        return printed(code, PYTHONPATH=str(folder))

    return make


def _device_map(folder: Path) -> Made:
    save(tiny("gpt2"), folder)
    return _without("accelerate", "transformers.AutoModel.from_pretrained({folder!r}, device_map='auto')")(folder)


def _eight_bit(folder: Path) -> Made:
    settings = transformers.BitsAndBytesConfig(load_in_8bit=True)
    return of("AutoModel", save(tiny("gpt2"), folder), quantization_config=settings)


def _flash(folder: Path) -> Made:
    return of("AutoModel", save(tiny("llama"), folder), attn_implementation="flash_attention_2")


NAMES = (
    Case("a removed name", "ST-NAME-002", _runs("from transformers import AdamW"), ("AdamW",)),
    Case("a removed attribute", "ST-NAME-002", _runs("import transformers; transformers.AdamW"), ("AdamW",)),
    Case("a module that is not there", "ST-NAME-005", _runs("import transformers.no_such"), ("no_such",)),
    Case(
        "a TensorFlow class that was removed",
        "ST-NAME-003",
        _runs("from transformers import TFBertModel"),
        ("BertModel",),
        only=5,
        otherwise="has the name, and needs TensorFlow when it is used",
    ),
    Case(
        "an unknown model type",
        "ST-NAME-013",
        lambda folder: of("AutoConfig", _config_of(folder, {"model_type": "gpt99"})),
        ("gpt99",),
    ),
    Case("no model type", "ST-NAME-014", lambda folder: of("AutoConfig", _config_of(folder, {}))),
    Case(
        "an unknown tokenizer class",
        "ST-NAME-021",
        _tokenizer_class,
        ("NoSuchTokenizer",),
        only=4,
        otherwise="looks for any tokenizer, and says that it cannot make one",
    ),
    Case(
        "remote code that imports a removed name",
        "ST-NAME-031",
        _remote_code_that_imports("from transformers import AdamW"),
        ("AdamW", "modeling_remote.py"),
    ),
    Case(
        "remote code that imports a removed module",
        "ST-NAME-031",
        _remote_code_that_imports("import transformers.no_such"),
        ("no_such", "modeling_remote.py"),
    ),
    Case(
        "remote code that needs a package",
        "ST-NAME-502",
        _remote_code_that_imports("import package_that_nobody_has"),
        ("package_that_nobody_has",),
    ),
    Case(
        "a name that huggingface_hub has no more",
        "ST-NAME-501",
        _runs("from huggingface_hub import cached_download"),
        ("cached_download", "huggingface_hub"),
    ),
    Case("tokenizers of another version", "ST-NAME-501", _other_tokenizers, ("tokenizers", "0.1.0")),
    Case(
        "a processor without its library",
        "ST-NAME-004",
        _without("PIL", "transformers.ViTImageProcessor()"),
        ("pillow",),
    ),
    Case("an optional package", "ST-NAME-502", _runs("import flash_attn"), ("pip install flash-attn",)),
    Case("device_map without accelerate", "ST-NAME-502", _device_map, ("accelerate",)),
    Case("eight bits without bitsandbytes", "ST-NAME-502", _eight_bit, ("bitsandbytes",)),
    Case("flash attention without its package", "ST-NAME-502", _flash, ("sdpa",)),
    Case(
        "a model without torch",
        "ST-NAME-004",
        _without("torch", "transformers.AutoModel.from_pretrained('x')"),
        ("pip install torch",),
        only=4,
        otherwise="names the version that it needs",
    ),
    Case(
        "a model without torch, or with an old one",
        "ST-NAME-505",
        _without("torch", "transformers.AutoModel.from_pretrained('x')"),
        (">=",),
        only=5,
        otherwise="names the library only",
    ),
    Case(
        "a tokenizer file that is a page",
        "ST-NAME-503",
        _damaged_tokenizer,
        ("protobuf", "damaged"),
        only=4,
        otherwise="raises what the JSON reader raises",
    ),
    Case(
        "a sentencepiece file that is a page",
        "ST-NAME-506",
        _damaged_sentencepiece,
        ("probably",),
        only=5,
        otherwise="asks for protobuf",
    ),
    Case("a slow tokenizer that nothing converts", "ST-NAME-506", _slow_tokenizer_of_my_own, ("tokenizer.json",)),
    Case(
        "a torchvision for another torch",
        "ST-NAME-504",
        # What torchvision runs when it is imported: torch does not know the operator.
        lambda _: raised(lambda: torch.library.register_fake("torchvision::nms")(lambda *boxes: None)),
        ("nms",),
    ),
    Case("a package that breaks when it is imported", "ST-NAME-507", _broken_package, ("Trainer",)),
    Case("a file transformers.py", "ST-NAME-508", _own_file("from transformers import AutoModel"), ("rename",)),
    Case("a file transformers.py that imports itself", "ST-NAME-508", _own_file("import transformers  # own")),
    Case("a file transformers.py where a module is wanted", "ST-NAME-508", _own_file("import transformers.models")),
)


# Memory and devices


def _limited(code: str) -> Callable[[Path], Made]:
    """A script that may have four gigabytes of address space."""
    limit = "import resource, torch; resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2); "
    return lambda _: printed(limit + code)


def _full(code: str) -> Callable[[Path], Made]:
    """A script that may have no more memory than it has already."""
    limit = """
import resource, torch
x, w = torch.ones(8, 64, 256, 256), torch.ones(64, 64, 3, 3)
with open("/proc/self/statm") as file:
    held = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held, held))
"""
    return lambda _: printed(limit + code)


def _nan_logits(_: Path) -> Made:
    model = tiny("gpt2")
    model.lm_head.weight.data.fill_(float("nan"))
    return raised(lambda: model.generate(torch.tensor([[5, 6]]), do_sample=True, max_new_tokens=2))


def _saved_elsewhere(folder: Path) -> Made:
    torch.save(torch.ones(1), folder / "weights.pt")
    return raised(lambda: torch.load(folder / "weights.pt", map_location="cuda"))


MACHINE = (
    Case(
        "memory that the machine does not have",
        "ST-OOM-502",
        lambda _: raised(lambda: torch.empty(10**15)),
        ("3.6 PiB",),
    ),
    Case("memory that the process may not have", "ST-OOM-502", _limited("torch.zeros(2**31)"), ("8.0 GiB",)),
    Case("memory that Python may not have", "ST-OOM-502", _limited("bytearray(2**33)"), ("ulimit",)),
    Case(
        "memory that oneDNN may not have", "ST-OOM-504", _full("torch.conv2d(x, w, padding=1)"), ("probably", "ulimit")
    ),
    Case("memory for an array", "ST-OOM-502", lambda _: raised(lambda: np.zeros(10**15)), ("7.11 PiB", "float64")),
    Case(
        "a token beyond the embedding",
        "ST-ASSERT-502",
        lambda _: raised(lambda: tiny("bert")(torch.tensor([[5, 99]]))),
        ("resize_token_embeddings",),
    ),
    Case(
        "a label beyond the classes",
        "ST-ASSERT-503",
        lambda _: raised(lambda: tiny("bert-classifier")(torch.tensor([[5, 9]]), labels=torch.tensor([7]))),
        ("label 7",),
    ),
    Case("logits that are nan", "ST-ASSERT-504", _nan_logits, ("nan",)),
    Case(
        "operands on two devices",
        "ST-ASSERT-508",
        lambda _: raised(lambda: torch.zeros(2, 2) + torch.zeros(2, 2, device="meta")),
        ("cpu", "meta"),
    ),
)
# Where torch was built with CUDA, as on a machine with a GPU, these do not fail so.
WITHOUT_CUDA = (
    Case("a torch without CUDA", "ST-ASSERT-506", lambda _: raised(lambda: torch.zeros(1).to("cuda"))),
    Case("tensors of a device that is not here", "ST-ASSERT-506", _saved_elsewhere, ("map_location",)),
)
