"""``safetransformers suggest``: which Auto classes load a checkpoint, without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import CheckpointError, SafeTransformersError
from ..quiet import no_log
from .common import tell

if TYPE_CHECKING:
    from ..names.suggestions import Suggestion, Suggestions


def suggest(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a cached repository, or a model_type such as bert.")],
    requested: Annotated[
        str, typer.Option("--for", metavar="AUTOCLASS", help="Such as AutoModelForQuestionAnswering.")
    ] = "",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit hash of a cached repository.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="The hub cache, if not the usual one.")] = None,
    subfolder: Annotated[str, typer.Option(help="The folder inside it that has the configuration.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Name the Auto classes that load a checkpoint, best first. No weights are loaded and no request is made.

    Exit code: 0 there is one, or the one asked for fits; 1 it does not fit, or none is known; 2 there is no checkpoint.

    Example: safetransformers suggest ./my-model --for AutoModelForQuestionAnswering
    """
    from ..names.suggest import suggest_auto_classes

    try:
        with no_log():
            found = suggest_auto_classes(
                checkpoint, requested, revision=revision, cache_dir=cache_dir, subfolder=subfolder
            )
    except SafeTransformersError as error:
        tell(error, {"suggestions": []}, as_json=as_json)
        raise SystemExit(2 if isinstance(error, CheckpointError) or "requested" in error.details else 1) from None
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _show(found)
    if not found.is_fit or not found.ranked:
        raise SystemExit(1)


def _show(found: Suggestions) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(found.describe())}[/bold]")
    if not found.is_fit:
        console.print(f"[red]{escape(found.requested)} does not load it[/red]; these do, best first:")
    for one in (*found.ranked, *found.preprocessors):
        console.print(f"\n  {escape(one.line)}\n    [dim]{escape(one.why)}[/dim]", style=_style(one))
    for note in found.notes:
        console.print(f"\n{escape(note)}")


def _style(one: Suggestion) -> str:
    return "green" if one.fit in ("saved", "whole") else ""
