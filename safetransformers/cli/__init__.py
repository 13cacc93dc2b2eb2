"""The command line: one short file per command."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Run the command line; the packages of the ``cli`` extra are needed."""
    try:
        import typer
    except ImportError:
        print("the command line needs two more packages: pip install 'safetransformers[cli]'", file=sys.stderr)
        raise SystemExit(2) from None
    from .audit import audit
    from .convert import convert
    from .demo import demo
    from .doctor import doctor
    from .explain import explain
    from .prefetch import prefetch
    from .report import report
    from .suggest import suggest

    app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
    app.callback()(_describe)
    for command in (audit, convert, demo, doctor, explain, prefetch, report, suggest):
        said, examples = _help_of(command)
        app.command(help=said, epilog=examples)(command)
    app(prog_name="safetransformers")  # also for python -m: completion and help go by it


def _describe() -> None:
    """Guards for Hugging Face transformers: what fails silently there is right or loud here."""


def _help_of(command: Callable[..., Any]) -> tuple[str, str]:
    """What a command's docstring says, and its examples, which the help shows last."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    examples = [part for part in paragraphs if part.startswith("Example: ")]
    return "\n\n".join(part for part in paragraphs if part not in examples), "\n\n".join(examples)
