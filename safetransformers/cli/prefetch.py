"""``safetransformers prefetch``: makes a machine ready for a start without a network, and carries that to another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import PolicyError, SafeTransformersError
from .common import tell

if TYPE_CHECKING:
    from ..hub.integrity import Damage
    from ..hub.prefetch import Ready

    Found = list[tuple[Ready, tuple[Damage, ...]]]

_SHOWN: Final = 8


def prefetch(
    repos: Annotated[list[str] | None, typer.Argument(metavar="REPO", help="Such as org/name.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit hash, for all of them.")] = None,
    variant: Annotated[str | None, typer.Option(help="Such as fp16, for model.fp16.safetensors.")] = None,
    files: Annotated[
        list[str] | None, typer.Option("--file", help="A file besides, or a pattern; for GGUF, the one to take.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole commit, in every format.")] = False,
    listing: Annotated[Path | None, typer.Option("--list", help="Write the list here; with --check, read it.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look at what is there: no request, every byte hashed.")
    ] = False,
    to: Annotated[Path | None, typer.Option("--to", help="Also write a bundle to this folder.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="Restore this bundle into the cache.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="The hub cache, if not the usual one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Fetch and verify all that an offline start needs: weights, tokenizer, templates, code, an adapter's base.

    Exit code: 0 all is there and sound; 1 something is missing, damaged or out of reach; 2 the command is wrong.

    Example: safetransformers prefetch org/name --to /media/stick/bundle
    """
    repos, files = repos or [], files or []
    _refuse_contradictions(repos, [revision, variant, everything or None, *files], listing, check, to, source)
    try:
        found = _run(repos, revision, variant, files, everything, listing, check, to, source, cache_dir)
    except SafeTransformersError as error:
        tell(error, {"ready": False, "repos": []}, as_json=as_json)
        from ..hub.wanted import OF_ARGUMENTS

        usage = isinstance(error, PolicyError) or error.code in OF_ARGUMENTS
        raise SystemExit(2 if usage else 1) from None
    sound = not any(damages for _, damages in found)
    if as_json:
        print(json.dumps({"ready": sound, "repos": [_as_dict(*one) for one in found]}, indent=2))
    else:
        _show(found, source if check else None)
    if not sound:
        raise SystemExit(1)


def _refuse_contradictions(
    repos: list[str],
    choices: list[Any],
    listing: Path | None,
    check: bool,
    to: Path | None,
    source: Path | None,
) -> None:
    chosen = any(choice is not None for choice in choices)
    if not repos and not source and not (check and listing):
        raise typer.BadParameter("name a repository, or --check --list FILE, or --from DIR")
    if source and (repos or chosen or to or listing):
        raise typer.BadParameter("--from DIR restores all that the bundle has: nothing else can be named with it")
    if check and to:
        raise typer.BadParameter("--check only looks: leave out --to DIR")
    if check and listing and (repos or chosen):
        raise typer.BadParameter("--check looks at repositories or at a list: name one of them")


def _run(
    repos: list[str],
    revision: str | None,
    variant: str | None,
    files: list[str],
    everything: bool,
    listing: Path | None,
    check: bool,
    to: Path | None,
    source: Path | None,
    cache_dir: Path | None,
) -> Found:
    from ..hub import bundle
    from ..hub.prefetch import cached, prefetch

    if source and check:
        return bundle.check_bundle(source)
    if source:
        return [(repo, ()) for repo in bundle.restore(source, cache_dir)]
    if check and listing:
        return bundle.check(bundle.read_list(listing), cache_dir)
    if check:
        return cached(
            repos, revision=revision, cache_dir=cache_dir, variant=variant, files=files, everything=everything
        )
    ready = prefetch(repos, revision=revision, cache_dir=cache_dir, variant=variant, files=files, everything=everything)
    if listing:
        bundle.write_list(ready, listing)
    if to:
        bundle.save(ready, to, cache_dir)
    return [(repo, ()) for repo in ready]


def _as_dict(repo: Ready, damages: tuple[Damage, ...]) -> dict[str, Any]:
    return {
        "repo_id": repo.repo_id,
        "revision": repo.revision,
        "commit": repo.commit,
        "why": repo.why,
        "size_bytes": repo.size_bytes,
        "files": [
            {"name": file.name, "size": file.size, "algorithm": file.algorithm, "hash": file.hash}
            for file in repo.files
        ],
        "problems": [vars(damage) for damage in damages],
    }


def _show(found: Found, looked_at: Path | None) -> None:
    if sys.stdout.isatty():
        _show_table(found)
    else:
        for repo, damages in found:
            named = f"{repo.repo_id}  {repo.revision}  {repo.commit[:12]}  {repo.why}"
            print(f"{named}  {len(repo.files)} files  {repo.size_bytes / 1e6:.1f} MB  {_state(damages)}")
    for repo, damages in found:
        for damage in damages[:_SHOWN]:
            print(f"{repo.repo_id}: {damage}")
        if len(damages) > _SHOWN:
            print(f"{repo.repo_id}: and {len(damages) - _SHOWN} more")
        if damages and looked_at is not None:
            print("Do: copy the bundle again, or make it again: safetransformers prefetch REPO --to DIR")
        elif damages:
            named = "" if repo.revision == "main" else f" --revision {repo.revision}"
            print(f"Do: safetransformers prefetch {repo.repo_id}{named}")


def _state(damages: tuple[Damage, ...]) -> str:
    return f"{len(damages)} to repair" if damages else "ready"


def _show_table(found: Found) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("repository", "revision", "commit", "why")
    for column in ("files", "MB", "state"):
        table.add_column(column, justify="right")
    for repo, damages in found:
        colour = "red" if damages else "green"
        cells = [escape(cell) for cell in (repo.repo_id, repo.revision, repo.commit[:12], repo.why)]
        state = f"[{colour}]{_state(damages)}[/{colour}]"
        table.add_row(*cells, str(len(repo.files)), f"{repo.size_bytes / 1e6:.1f}", state)
    Console().print(table)
