"""Making errors as users meet them: what a failing call raises, logs or prints."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from packaging.version import Version

IS_5 = Version(transformers.__version__).major >= 5
Made = BaseException | str


@dataclass(frozen=True)
class Case:
    """One failure.

    Attributes:
        name: what the test is called after.
        code: of the explanation.
        make: runs what fails, in an empty folder, and gives the exception, or the text that a user sees.
        says: words of the explanation that only this very failure has.
        only: the major version of transformers that fails so; ``None`` for each.
        otherwise: what the other version does instead.
    """

    name: str
    code: str
    make: Callable[[Path], Made]
    says: tuple[str, ...] = ()
    only: int | None = None
    otherwise: str = ""

    @property
    def happens_here(self) -> bool:
        """Whether the installed transformers fails so."""
        return self.only is None or self.only == (5 if IS_5 else 4)


@dataclass(frozen=True)
class Recorded:
    """One failure that cannot be made here, as a user posted it.

    Attributes:
        code: of the explanation.
        text: as it was printed.
        made_by: the file that makes it, for who wants to look; of torch where it names no other project.
        source: the thread, as repository and number.
        says: words of the explanation.
        never: words that would be wrong in it.
    """

    code: str
    text: str
    made_by: str
    source: str
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class DidNotFailError(AssertionError):
    """What should have failed did not."""


def raised(call: Callable[[], Any]) -> BaseException:
    """The exception that a call ends with."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - whichever it is, it is what was asked for
        return error
    raise DidNotFailError(str(call))


def logged(call: Callable[[], Any]) -> str:
    """What a call says through transformers' logger and through warnings, as a user sees it."""
    told: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    transformers.utils.logging.warning_once.cache_clear()  # each is given once in a process
    logger, keep = logging.getLogger("transformers"), Keep()
    logger.addHandler(keep)
    try:
        with warnings.catch_warnings(record=True) as given, suppress(Exception):
            warnings.simplefilter("always")
            call()
    finally:
        logger.removeHandler(keep)
    told += [warnings.formatwarning(w.message, w.category, w.filename, w.lineno, "") for w in given]
    return "\n".join(told)


def printed(code: str, **env: str) -> str:
    """What a script that fails prints on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode != 0, done.stdout
    return done.stderr


def of(name: str, folder: Any, **kwargs: Any) -> Made:
    """The exception of ``from_pretrained`` of a class of transformers."""
    return raised(lambda: getattr(transformers, name).from_pretrained(folder, **kwargs))
