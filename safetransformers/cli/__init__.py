"""The command line: one short file per command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the packages of the ``cli`` extra are needed."""
    try:
        import typer
    except ImportError:
        print("the command line needs two more packages: pip install 'safetransformers[cli]'", file=sys.stderr)
        raise SystemExit(2) from None
    from .convert import convert
    from .demo import demo
    from .explain import explain
    from .prefetch import prefetch
    from .suggest import suggest

    app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
    app.callback()(_describe)
    app.command()(convert)
    app.command()(demo)
    app.command()(explain)
    app.command()(prefetch)
    app.command()(suggest)
    app()


def _describe() -> None:
    """Guards for Hugging Face transformers: what fails silently there is right or loud here."""
