"""``safetransformers explain``: what a pasted traceback, a log or an error message is about."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

_CODE: Final = re.compile(r"ST-[A-Z]+-\d{3}")
_LAST_BYTES: Final = 4_000_000  # of a longer log: a run ends with what ended it


def explain(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A file, - for standard input, or a code such as ST-HUB-004.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say what an error is about: what happened, why we think so, and what to do.

    Exit code: 0 explained; 1 the text is not known; 2 the command is wrong.

    Example: python train.py 2>&1 | safetransformers explain
    """
    from ..explanations.find import explain as find

    told = find(_text(file))
    if as_json:
        print(json.dumps({"known": told is not None, "explanation": told.as_dict() if told else None}, indent=2))
    elif told is None:
        print("not known: no rule is about this text, and a guess would not help", file=sys.stderr)
    else:
        _show(str(told))
    if told is None:
        raise SystemExit(1)


def _text(file: str | None) -> str:
    if file is None and sys.stdin.isatty():
        raise typer.BadParameter("name a file, or pipe the text in: safetransformers explain < error.log")
    if file is not None and _CODE.fullmatch(file):
        return file
    try:
        content = sys.stdin.buffer.read() if file is None or file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror or error}") from None
    if b"\0" in content[:4096]:
        raise typer.BadParameter(f"{file or 'standard input'} is binary: an error message or a log is wanted")
    return content[-_LAST_BYTES:].decode("utf-8", errors="replace")


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text(text)
    shown.highlight_regex(r"(?m)^(?:\[ST-\S+\]|Why:|Do:|More:)", "bold")
    Console().print(shown)
