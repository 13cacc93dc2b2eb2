"""``safetransformers report``: what the guards did in processes that wrote their counts at exit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import UsageError, tell

if TYPE_CHECKING:
    from ..reporting.files import Total


def report(
    path: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", help="What SAFETRANSFORMERS_REPORT named when programs ran.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Sum what the guards did in one or more processes, and say it in words.

    A process that is started with SAFETRANSFORMERS_REPORT=FILE writes its counts there when it ends, if it counted
    anything. Where that is a folder, each process writes a file of its own.

    Exit code: 0 all was read; 1 a file in the folder is no report; 2 there is no report.

    Example: SAFETRANSFORMERS_REPORT=r.json python a.py; safetransformers report r.json
    """
    from ..reporting.files import NoReportError, read

    try:
        total = read(path)
    except (OSError, NoReportError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        tell(UsageError(f"{path}: {reason}"), {"processes": 0, "counts": {}}, as_json=as_json)
        raise SystemExit(2) from None
    if not total.processes and not total.unread:
        tell(UsageError(f"{path}: no report in this folder"), {"processes": 0, "counts": {}}, as_json=as_json)
        raise SystemExit(2)
    for name, why in total.unread:
        print(f"{name} {why}", file=sys.stderr)
    if as_json:
        unread = [{"file": name, "why": why} for name, why in total.unread]
        print(json.dumps({"processes": total.processes, "counts": dict(total.counts), "unread": unread}, indent=2))
    else:
        _show(total)
    if total.unread:
        raise SystemExit(1)


def _show(total: Total) -> None:
    from ..reporting.words import described

    processes = "1 process" if total.processes == 1 else f"{total.processes} processes"
    rows = described(total.counts)
    if not sys.stdout.isatty():
        print(f"what the guards did in {processes}")
        for kind, number, words in rows:
            print(f"{number:>8}  {words}  [{kind}]")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"what the guards did in {processes}", title_justify="left")
    table.add_column("times", justify="right")
    table.add_column("what")
    table.add_column("kind", style="dim")
    for kind, number, words in rows:
        table.add_row(str(number), words, kind)
    Console(highlight=False).print(table)
