"""``safetransformers audit``: does padding change a model's numbers, and which policy mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .common import UsageError, quietly, tell

if TYPE_CHECKING:
    from ..padding.audit import PaddingAudit

_MENDS: Final = {
    "off": "padding does not change its numbers: no mask is needed",
    "infer": 'the default mends it: safetransformers masks padding by rule (padding="infer")',
    "exact": 'padding="exact" mends it: safetransformers.configure(padding="exact"), or SAFETRANSFORMERS_PADDING=exact',
    "": "no padding policy mends it: run rows of one length together, without padding",
}


def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or a repository in the cache.")],
    auto_class: Annotated[
        str, typer.Option("--as", metavar="AUTOCLASS", help="Such as AutoModel; else the class that it was saved from.")
    ] = "",
    pad_token_id: Annotated[int | None, typer.Option(min=0, help="Where the model's configuration has none.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit hash of a cached repository.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="The hub cache, if not the usual one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Run a model on padded rows and on the same rows alone, and say which padding policy makes them equal.

    The model is loaded from this machine, without a request, and runs on the CPU: about 14 small forwards.

    Exit code: 0 padding never changes the numbers of the guarded model; 1 it does; 2 there is nothing to audit.

    Example: safetransformers audit ./my-model
    """
    try:
        with quietly():
            found = _audited(model, auto_class, pad_token_id, revision, cache_dir)
    except Exception as error:  # noqa: BLE001 - a load or a run raises what it likes, and that is what there is to tell
        tell(error, {"is_invariant": None}, as_json=as_json)
        raise SystemExit(2) from None
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _show(found)
    if not found.is_invariant:
        raise SystemExit(1)


def _audited(
    source: str, auto_class: str, pad_token_id: int | None, revision: str | None, cache_dir: Path | None
) -> PaddingAudit:
    from ..doctor.load import load
    from ..padding.audit import audit_padding
    from ..padding.facts import facts_of, token_id

    model: Any = load(source, auto_class=auto_class, revision=revision, cache_dir=cache_dir)
    facts = facts_of(model)
    if "input_ids" not in facts.parameters:
        raise UsageError(f"{facts.name} takes no input_ids: there is no padding to audit")
    if pad_token_id is not None:
        model.config.get_text_config().pad_token_id = pad_token_id
    elif token_id(model, facts, "pad") is None:
        eos = token_id(model, facts, "eos")
        guess = eos if isinstance(eos, int) else 0
        raise UsageError(
            f"{facts.name} has no pad_token_id\nDo: name the id that your batches are padded with, such as"
            f"{' that of its eos token' if guess == eos else ''} --pad-token-id {guess}"
        )
    return audit_padding(model)


def _show(found: PaddingAudit) -> None:
    if not sys.stdout.isatty():
        print(f"{found}\n\n{_MENDS[found.mended_by]}")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(
        "padding", "run", title=f"{found.model}: padded rows against the same rows alone", title_justify="left"
    )
    for column in ("error", ""):
        table.add_column(column, justify="right")
    table.add_column("worst output")
    for side, run, error, verdict, worst in found.rows():
        colour = "green" if verdict == "right" else "red"
        table.add_row(side, run, error, f"[{colour}]{verdict}[/{colour}]", escape(worst))
    console.print(table)
    console.print(_MENDS[found.mended_by], markup=False, style="bold")
