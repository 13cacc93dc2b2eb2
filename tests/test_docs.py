"""What the documentation shows works: each Python block runs, each name exists, and the site has no loose end."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from convert import saves
from doc_blocks import DOCS, ERRORS, GUIDES, ROOT, of_each
from hub_server import Hub
from transformers import BertConfig, BertModel

import safetransformers
from safetransformers.hub import learned


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the blocks of the guides take for given: a model, its folder, an error, a TensorFlow save, a hub."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=64, **sizes)).eval()
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("saved")
    saves.tf_model(Path("my-tf-model"), saves.model())
    learned.forget()
    with Hub() as hub, hub.applied(tmp_path / "hub"):
        hub.add("org/name", {path.name: path.read_bytes() for path in Path("saved").iterdir()}, branch="v1.0")
        error = ImportError("No module named 'sentencepiece'")
        yield {"model": model, "folder": "saved", "error_or_traceback": error}


@of_each(GUIDES)
def test_each_block_of_a_guide_runs_as_it_stands(page: Path, block: str, names: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block, page.name, "exec"), names)


def test_each_name_and_policy_of_ours_in_a_line_to_paste_exists() -> None:
    for page, block in [*ERRORS, *GUIDES]:
        for node in ast.walk(ast.parse(block)):
            dotted = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else []
            if dotted[:1] == ["safetransformers"] and all(part.isidentifier() for part in dotted):
                assert reduce(getattr, dotted[1:], safetransformers), page.name
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("safetransformers.policy", "safetransformers.configure"):
                fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
                assert safetransformers.Policy(**fields), page.name


def test_the_reference_has_each_public_name_from_where_it_is_defined() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    entries = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for name in set(safetransformers.__all__) - {"__version__"}:
        (path,) = (entry for entry in entries if entry.endswith(f".{name}"))
        module, _, attribute = path.rpartition(".")
        assert getattr(importlib.import_module(module), attribute) is getattr(safetransformers, name)
        assert f"heading: safetransformers.{name}\n" in text
    assert "`safetransformers.__version__`" in text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None:
        pytest.skip(
            "mkdocs, of the extra docs, is not installed: the site is built where it is, on the newest transformers"
        )
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: warnings that are not logged are not counted either, and --strict then passes.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_without_a_link_or_an_anchor_that_leads_nowhere(site: Path) -> None:
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert {page.relative_to(DOCS) for page in DOCS.rglob("*.md")} <= built


def test_a_reader_behind_a_firewall_gets_the_whole_site_from_one_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]+src=\"([^\"]+)|<link[^>]+href=\"([^\"]+)", html)
        assert [url for pair in fetched for url in pair if re.match(r"(https?:)?//", url)] == [], page.name


def test_a_browser_is_told_which_pages_are_japanese(site: Path) -> None:
    languages = {path.relative_to(site): path.read_text(encoding="utf-8")[:200] for path in site.rglob("ST-*.html")}
    assert languages
    for path, head in languages.items():
        assert f'lang="{"ja" if path.parts[0] == "ja" else "en"}"' in head, path


def test_an_example_of_a_docstring_is_shown_as_a_session(site: Path) -> None:
    page = (site / "reference" / "policy.html").read_text(encoding="utf-8")
    assert "&gt;&gt;&gt;" in page
    assert "<blockquote>" not in page
