"""The Japanese pages of the errors say what the English ones say: the same pages, the same code, the same parts."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
ENGLISH, JAPANESE = DOCS / "errors", DOCS / "ja" / "errors"
PAGES = sorted(path.name for path in ENGLISH.glob("*.md"))
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PARTS = ["何が起きたか", "なぜか", "どうすればよいか", "止め方", "関連ページ"]


def both(name: str) -> tuple[str, str]:
    return (ENGLISH / name).read_text(encoding="utf-8"), (JAPANESE / name).read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ .*", BLOCK.sub("", text), re.MULTILINE)


def targets(text: str, folder: Path) -> set[Path]:
    return {(folder / link).resolve() for link in re.findall(r"\]\(([^)#]+)", text)}


def in_code(text: str) -> set[str]:
    """What stands in backticks: names, values and messages, which are not translated."""
    return set(re.findall(r"`([^`]+)`", " ".join(BLOCK.sub("", text).split())))


def test_each_page_is_there_in_both_languages() -> None:
    assert sorted(path.name for path in JAPANESE.glob("*.md")) == PAGES


def test_a_reader_of_japanese_pastes_the_same_lines() -> None:
    for name in PAGES:
        english, japanese = both(name)
        assert BLOCK.findall(japanese) == BLOCK.findall(english), name


def test_a_reader_of_japanese_finds_the_same_parts() -> None:
    for name in PAGES:
        english, japanese = (headings(text) for text in both(name))
        assert [line.partition(" ")[0] for line in japanese] == [line.partition(" ")[0] for line in english], name
        if name != "index.md":
            assert japanese == [f"# {name.removesuffix('.md')}", *(f"## {part}" for part in PARTS)]


def test_each_page_leads_to_the_other_language_and_to_the_same_pages() -> None:
    for name in PAGES:
        english, japanese = both(name)
        from_english, from_japanese = targets(english, ENGLISH), targets(japanese, JAPANESE)
        assert JAPANESE / name in from_english
        assert ENGLISH / name in from_japanese
        counterparts = {JAPANESE / path.name if path.parent == ENGLISH else path for path in from_english}
        assert counterparts - {JAPANESE / name} == from_japanese - {ENGLISH / name, JAPANESE / name}, name
        assert {path for path in from_japanese if not path.is_file()} == set(), name


def test_names_values_and_messages_are_not_translated() -> None:
    of_any_page = {code for name in PAGES for code in in_code(both(name)[0])}
    for name in PAGES:
        english, japanese = (in_code(text) for text in both(name))
        if name == "index.md":  # its tables give the first sentence of each page, in Japanese more of it
            assert japanese <= of_any_page
        else:
            assert japanese == english, name


def test_each_paragraph_of_a_japanese_page_is_japanese() -> None:
    for name in PAGES:
        for paragraph in re.split(r"\n\s*\n", BLOCK.sub("", both(name)[1])):
            words = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|^#.*", "", paragraph).strip(" 、。\n")
            assert not words or re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", words), f"{name}: {paragraph}"
