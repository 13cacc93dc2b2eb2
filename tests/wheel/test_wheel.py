"""What ships is whole: these run with the built wheel installed and no checkout in sight (`make test-wheel`)."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import distribution, entry_points, version
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from packaging.requirements import Requirement

import safetransformers

PACKAGE = Path(safetransformers.__file__).parent
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


def python(*arguments: str) -> str:
    """Run this environment's Python in a new process and return what it prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built() -> Path:
    """The wheel that this environment was installed from."""
    record = distribution("safetransformers").read_text("direct_url.json")
    assert record is not None
    return Path(url2pathname(urlsplit(json.loads(record)["url"]).path))


@pytest.fixture(scope="module")
def in_sdist() -> set[str]:
    (archive,) = built().parent.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


def test_the_package_under_test_is_the_one_from_the_wheel() -> None:
    assert PACKAGE == SITE_PACKAGES / "safetransformers"


@pytest.mark.parametrize("name", ["py.typed", "__init__.pyi", "padding/measured.json", "names/history.json"])
def test_the_wheel_carries_files_that_are_not_modules(name: str) -> None:
    assert (PACKAGE / name).is_file()


def test_the_table_of_names_is_small_in_the_wheel() -> None:
    with zipfile.ZipFile(built()) as archive:
        assert archive.getinfo("safetransformers/names/history.json").compress_size < 150_000


def test_the_wheel_holds_the_package_and_nothing_else() -> None:
    files = distribution("safetransformers").files
    assert files is not None
    top = {file.parts[0] for file in files if not file.parts[0].endswith(".dist-info") and ".." not in file.parts}
    assert top == {"safetransformers"}


@pytest.mark.parametrize(
    "folder", ["safetransformers", "tests", "docs", "benchmarks", "examples", "constraints", "scripts"]
)
def test_the_sdist_carries_all_that_is_needed_to_test_and_document_it(in_sdist: set[str], folder: str) -> None:
    assert any(name.startswith(folder + "/") for name in in_sdist)


def test_the_sdist_carries_the_licence_and_the_test_command(in_sdist: set[str]) -> None:
    assert {"LICENSE", "README.md", "Makefile", "pyproject.toml"} <= in_sdist


def test_the_version_of_the_package_is_that_of_the_wheel() -> None:
    assert safetransformers.__version__ == version("safetransformers")
    assert built().name.startswith(f"safetransformers-{safetransformers.__version__}-")


def test_what_the_wheel_requires_is_met_by_what_it_was_tested_with() -> None:
    requirements = [Requirement(line) for line in distribution("safetransformers").requires or ()]
    needed = {requirement.name: requirement for requirement in requirements if requirement.marker is None}
    assert set(needed) == {"transformers", "torch", "wrapt", "packaging"}
    for name, requirement in needed.items():
        assert requirement.specifier.contains(version(name), prereleases=True), name


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, safetransformers; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    assert python("-c", code).strip() == "[]"


def test_the_command_line_starts_from_the_script_and_from_the_module() -> None:
    (script,) = entry_points(group="console_scripts", name="safetransformers")
    assert script.value == "safetransformers.cli:main"
    assert "demo" in python("-m", "safetransformers", "--help")


def test_a_padded_batch_without_a_mask_gives_each_row_what_it_gives_alone() -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        initializer_range=0.5,
    )  # fmt: skip
    model = BertModel(config).eval()
    row, padded = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7, 0, 0], [8, 9, 10, 11, 12]])
    with torch.no_grad():
        alone = model(row).last_hidden_state[0]
        plain = model(padded).last_hidden_state[0, :3]
        guarded = safetransformers.guard(model)(padded).last_hidden_state[0, :3]
    assert (plain - alone).abs().max() > 1e-2
    torch.testing.assert_close(guarded, alone, atol=1e-5, rtol=0)
