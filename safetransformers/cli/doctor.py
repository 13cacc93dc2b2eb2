"""``safetransformers doctor``: what is wrong on this machine, or with a checkpoint, and the command that mends it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import SafeTransformersError
from .common import quietly, tell

if TYPE_CHECKING:
    from ..doctor.finding import Finding

_COLOURS: Final = {"ok": "green", "note": "yellow", "problem": "bold red"}


def doctor(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A folder, or a repository in the cache, to look at too.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Load MODEL and measure its padding.")] = False,
    hashes: Annotated[bool, typer.Option("--hash", help="Read every byte of the cache and compare hashes.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for each step to the hub.")] = 5.0,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit hash of a cached repository.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="The hub cache, if not the usual one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Look at versions, GPU and driver, environment, the way to the hub, the cache, and a checkpoint.

    Nothing is changed. One request is made, without a token; none where HF_HUB_OFFLINE is set. Of MODEL only files are
    read, unless --run is given.

    Exit code: 0 nothing is broken; 1 there is a problem; 2 the command is wrong, or there is no MODEL.

    Example: safetransformers doctor ./my-model --run
    """
    from ..doctor.examine import examine
    from ..doctor.finding import is_fine

    if model is None and (run or revision):
        raise typer.BadParameter("--run and --revision are about a MODEL: name one")
    verify = "hash" if hashes else "size"
    try:
        with quietly():
            looked = examine(model, revision=revision, cache_dir=cache_dir, run=run, verify=verify, limit_s=timeout_s)
            found = list(looked) if as_json else _shown(looked)
    except SafeTransformersError as error:
        tell(error, {"fine": None, "findings": []}, as_json=as_json)
        raise SystemExit(2) from None
    fine = is_fine(found)
    if as_json:
        print(json.dumps({"fine": fine, "findings": [finding.as_dict() for finding in found]}, indent=2))
    else:
        problems = sum(finding.level == "problem" for finding in found)
        print(f"\n{problems} problem{'' if problems == 1 else 's'}" if problems else "\nnothing is broken")
    if not fine:
        raise SystemExit(1)


def _shown(findings: Iterable[Finding]) -> list[Finding]:
    """Print each when it is known: the way to a hub that hangs takes seconds."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    told: list[Finding] = []
    for finding in findings:
        if not told or told[-1].topic != finding.topic:
            console.print(Text(f"{chr(10) if told else ''}{finding.topic}", style="bold"))
        text = Text(f"  {str(finding).replace(chr(10), f'{chr(10)}  ')}")
        text.stylize(_COLOURS[finding.level], 2, 2 + len(finding.level))
        console.print(text)
        sys.stdout.flush()
        told.append(finding)
    return told
