"""Results as a notebook shows them. Colours are the page's own, so that light and dark pages both show them well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

_CELL: Final = "text-align:left;vertical-align:top;padding:0.2em 0.8em;border-bottom:1px solid currentColor"


def table(caption: str, headers: Sequence[str], rows: Iterable[Sequence[Any]], notes: Iterable[str] = ()) -> str:
    """A table with a line above it and lines below it; every text is escaped.

    Example:
        >>> "&lt;b&gt;" in table("<b>", ("name",), [("value",)])
        True
    """
    head = "".join(f'<th style="{_CELL}">{escape(header)}</th>' for header in headers)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    shown = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div>{_line(caption, 'strong')}{shown if body else ''}{''.join(map(_line, notes))}</div>"


def facts(caption: str, pairs: Iterable[tuple[str, Any]], notes: Iterable[str] = ()) -> str:
    """Names and their values, one a line; what is empty is left out."""
    named = [(name, value) for name, value in pairs if value not in ("", None)]
    body = "".join(f'<tr><th style="{_CELL}">{escape(name)}</th>{_cell(value)}</tr>' for name, value in named)
    shown = f"<table><tbody>{body}</tbody></table>" if body else ""
    return f"<div>{_line(caption, 'strong')}{shown}{''.join(map(_line, notes))}</div>"


def _cell(value: Any) -> str:
    return f'<td style="{_CELL};white-space:pre-wrap">{escape(str(value))}</td>'


def _line(text: str, tag: str = "span") -> str:
    return f"<p><{tag}>{escape(text)}</{tag}></p>" if text else ""
