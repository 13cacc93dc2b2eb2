"""What an exception says: its own message, and those of the exceptions that it came from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from .rule import Claim

REMOTE_FOLDER: Final = "transformers_modules"  # where transformers puts a checkpoint's own code
HUB_PACKAGE: Final = re.compile(r"[/\\]huggingface_hub[/\\]")
# An address of the hub, a path that only it has, or the words that huggingface_hub and transformers say of it.
HUB_WORDS: Final = re.compile(
    r"huggingface\.co|hf\.co\b|/resolve/|/api/(?:models|datasets|spaces)/|on the Hub and we cannot find"
    r"|We couldn't connect to '|specific connection error when trying to load"
)
_DEEPEST: Final = 50  # links of a chain; a loop that retries makes long ones


def links(error: BaseException) -> Iterator[tuple[BaseException, bool]]:
    """An exception, then what it was raised from or while handling, as Python would print it; and those of a group.

    Yields:
        Each with whether it is only known that it was handled: it, or one above it, was not named as a cause.
    """
    waiting, seen = [(error, False)], set[int]()
    while waiting and len(seen) < _DEEPEST:
        link, is_handled = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link, is_handled
        if link.__cause__ is not None:
            waiting.append((link.__cause__, is_handled))
        elif link.__context__ is not None and not link.__suppress_context__:
            waiting.append((link.__context__, True))
        parts = getattr(link, "exceptions", ())
        if isinstance(parts, (tuple, list)):
            waiting.extend((part, is_handled) for part in parts if isinstance(part, BaseException))


def claim(error: BaseException, is_handled: bool = False) -> Claim:
    """What one exception of a chain says. Its arguments are read, and nothing else of it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and len(error.args) == 1 else str(error)
    files = list(_files(error.__traceback__))
    remote = [file for file in files if REMOTE_FOLDER in file]
    return Claim(
        text,
        frozenset(cls.__name__ for cls in type(error).__mro__),
        os.path.basename(remote[-1]) if remote else "",
        any(map(HUB_PACKAGE.search, files)) or HUB_WORDS.search(text) is not None,
        is_handled,
    )


def _files(link: TracebackType | None) -> Iterator[str]:
    while link is not None:
        yield link.tb_frame.f_code.co_filename
        link = link.tb_next
