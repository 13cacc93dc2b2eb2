"""Transformers without its progress bars, or without its log too, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_bars() -> Iterator[None]:
    """Transformers draws a bar for each load, also of a model that takes a moment and into a pipe."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no annotations here
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # nor here


@contextmanager
def no_log() -> Iterator[None]:
    """Neither bars nor anything below an error."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # nor here
    try:
        with no_bars():
            yield
    finally:
        logging.set_verbosity(before)
