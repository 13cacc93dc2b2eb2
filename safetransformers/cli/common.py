"""What the commands share: how an error is told, and how a checkpoint is loaded without a word on the way."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import SafeTransformersError
from ..quiet import no_log


class UsageError(ValueError):
    """What was asked for is not there; the text is for the user."""


def parts(error: SafeTransformersError) -> dict[str, str]:
    """The parts of an error, for JSON."""
    return {name: getattr(error, name) for name in ("code", "what", "why", "do")}


def tell(error: Exception, beside: Mapping[str, Any], *, as_json: bool) -> None:
    """An error on stderr and, where JSON is asked for, an object on stdout that has it and what stands beside it."""
    is_said = isinstance(error, (SafeTransformersError, OSError, UsageError))
    text = str(error) if is_said else f"{type(error).__name__}: {error}"
    print(text, file=sys.stderr)
    if as_json:
        own = parts(error) if isinstance(error, SafeTransformersError) else {"what": text}
        print(json.dumps({**beside, "error": own}, indent=2))


@contextmanager
def quietly() -> Iterator[None]:
    """Without the progress bars and the log of transformers, and without warnings: the command says what it found."""
    with no_log(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
