"""What mkdocs.yml cannot say: pages that stand outside docs/, and one entry a code."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = {
    "MASK": ("Padding", "パディング"),
    "RANK": ("Several ranks", "複数ランク"),
    "LOAD": ("Loading", "読み込み"),
    "HUB": ("The hub", "ハブ"),
    "TASK": ("Tasks", "タスク"),
    "NAME": ("Names and versions", "名前とバージョン"),
    "TF": ("TensorFlow and Flax", "TensorFlow と Flax"),
    "OOM": ("Memory", "メモリ"),
    "ASSERT": ("Devices", "デバイス"),
    "POLICY": ("Policy", "ポリシー"),
    "GUARD": ("Guards", "ガード"),
    "VERSION": ("Versions", "バージョン"),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the two tabs of errors."""
    docs = Path(config.docs_dir)
    tabs = {"Errors": ("errors", 0), "日本語": ("ja/errors", 1)}
    filled = []
    for entry in config.nav or []:
        (title, pages), *_ = entry.items()
        filled.append({title: error_entries(docs, *tabs[title])} if title in tabs else {title: pages})
    config.nav = filled
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside docs/."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {
        "index.md": re.sub(r"\]\(docs/", "](", readme),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Name the language of a Japanese page: browsers choose the shapes of its characters, and their voice, by it."""
    return output.replace('<html lang="en"', '<html lang="ja"', 1) if page.file.src_uri.startswith("ja/") else output


def error_entries(docs: Path, folder: str, language: int) -> list[Any]:
    """The index, then one section a family; a family without a name here stands under its letters."""
    codes = sorted(path.stem for path in (docs / folder).glob("ST-*.md"))
    families = {name: list(group) for name, group in groupby(codes, key=lambda code: code.split("-")[1])}
    order = sorted(families, key=lambda name: ([*FAMILIES, name].index(name), name))
    entries: list[Any] = [f"{folder}/index.md"]
    for name in order:
        title = FAMILIES.get(name, (name, name))[language]
        entries.append({title: [{code: f"{folder}/{code}.md"} for code in families[name]]})
    return entries
