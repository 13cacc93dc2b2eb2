"""Results in a notebook: a table, escaped, in the colours of the page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from IPython.core.formatters import DisplayFormatter
from models import tiny

import safetransformers as st
from safetransformers.counts import Counts
from safetransformers.padding.audit import Finding, PaddingAudit

EVIL = "<script>alert('&')</script>"


class _Read(HTMLParser):
    """Tags that are open and the text that is shown."""

    def __init__(self, shown: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(shown)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def results() -> list[tuple[Any, tuple[str, ...]]]:
    """Each kind of result, and what its reader must see."""
    audit = PaddingAudit(EVIL, (Finding("left", "mask", float("nan"), "", EVIL), Finding("left", "exact", 0.0, EVIL)))
    one = st.Suggestion("AutoModel", "M", EVIL, "why & how", "saved")
    suggestions = st.Suggestions(EVIL, "bert", (EVIL,), (), "", (one,), (one,), (EVIL,))
    sizes = {"tensors": 3, "parameters": 9, "size_bytes": 36, "dtype": "float32", "files": ("a",)}
    report = st.ConversionReport(EVIL, EVIL, "h5", EVIL, (EVIL,), EVIL, unused=(EVIL,), **sizes)
    told = st.Explanation("ST-HUB-004", EVIL, EVIL, "pip install '<x>'")
    return [
        (audit, ("failed", "right", "WRONG", "left")),
        (suggestions, ("why & how", "bert")),
        (report, ("note: not used", "from_pretrained(")),
        (told, ("[ST-HUB-004]", "pip install '<x>'", "docs/errors/ST-HUB-004.md")),
        (Counts({EVIL: 7}), ("7", "does not know")),
    ]


@pytest.mark.parametrize("case", range(5))
def test_a_notebook_shows_every_text_escaped_and_in_the_pages_own_colours(case: int) -> None:
    result, wanted = results()[case]
    data, _ = DisplayFormatter().format(result)
    read = _Read(data["text/html"])
    assert read.open == [] and "script" not in read.tags and EVIL in read.text
    assert all(text in read.text for text in wanted)
    assert "color:" not in data["text/html"].replace("currentColor", "") and "background" not in data["text/html"]
    assert data["text/plain"]


def test_a_notebook_shows_the_numbers_that_print_shows() -> None:
    audit = st.audit_padding(tiny("bert"))
    shown = _Read(audit._repr_html_()).text
    assert all(word in shown for word in str(audit).split())
    found = st.suggest_auto_classes("gpt2")
    assert all(one.line in _Read(found._repr_html_()).text for one in found)
