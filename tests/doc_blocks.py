"""The Python blocks of the documentation, and what each takes for given."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def python_blocks(page: Path) -> list[str]:
    """Those that are no sessions, which run as doctests."""
    found = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in found if ">>>" not in block]


def free_names(block: str) -> set[str]:
    """The names that a block reads and does not make itself."""
    loaded, made = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return loaded - made


def _blocks(pages: Iterable[Path]) -> list[tuple[Path, str]]:
    return [(page, block) for page in pages for block in python_blocks(page)]


GUIDES = _blocks([ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "errors")])
ERRORS = _blocks(sorted((DOCS / "errors").glob("*.md")))


def of_each(found: list[tuple[Path, str]]) -> pytest.MarkDecorator:
    """The test runs for each block, under its page and its first line."""
    ids = [f"{page.name}: {block.splitlines()[0]}" for page, block in found]
    return pytest.mark.parametrize(("page", "block"), found, ids=ids)
