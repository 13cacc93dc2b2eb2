"""Counts in files: a process writes its own at exit, and those of many are read and summed."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from filelock import FileLock, Timeout

from ..hub import whole
from ..notices import relative

logger = logging.getLogger(__name__)

_FORMAT: Final = "safetransformers report 1"
_TURN_S: Final = 10.0
_MAX_BYTES: Final = 2**20


class Place(NamedTuple):
    """Where the counts of a process go.

    Attributes:
        path: absolute, so that a process may change its folder.
        is_folder: whether each process writes a file of its own there.
    """

    path: Path
    is_folder: bool

    @classmethod
    def of(cls, target: str) -> Place:
        """What ``SAFETRANSFORMERS_REPORT`` means: a folder where there is one, or where it ends with a slash."""
        path = Path(target).expanduser().absolute()
        return cls(path, target.endswith(("/", os.sep)) or path.is_dir())


@dataclass(frozen=True)
class Total:
    """The counts of one or more processes.

    Attributes:
        processes: how many of them counted anything.
        counts: by dotted kind.
        unread: files that are no such report, by name, and why.
    """

    processes: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[tuple[str, str], ...] = ()

    def and_of(self, other: Total) -> Total:
        """Both together."""
        counts = Counter(self.counts) + Counter(other.counts)
        return Total(self.processes + other.processes, dict(counts), (*self.unread, *other.unread))


class NoReportError(ValueError):
    """A file is not one that :func:`write` has written."""


def write(counted: Mapping[str, int], place: Place) -> None:
    """Write the counts of this process; nothing where there are none. A file that cannot be written is logged.

    A file that is there already gains them, one process after the other. One that is no report is left as it is.
    """
    own = Total(1, {kind: number for kind, number in counted.items() if number})
    if not own.counts:
        return
    try:
        if place.is_folder:
            place.path.mkdir(parents=True, exist_ok=True)
            whole.put(place.path / f"safetransformers-{os.getpid()}-{secrets.token_hex(4)}.json", _content(own))
            return
        place.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.path.with_name(f".{place.path.name}.lock"), timeout=_TURN_S):
            before = _read(place.path) if place.path.exists() else Total()
            whole.put(place.path, _content(before.and_of(own)))
    except NoReportError as error:
        logger.warning("the counts were not written: %s %s", relative(place.path), error)
    except (OSError, Timeout) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        logger.warning("the counts were not written to %s: %s", relative(place.path), reason)


def read(path: Path) -> Total:
    """The sum of a report, or of those in a folder.

    Raises:
        OSError: where there is none, or it cannot be read.
        NoReportError: for one file that is no report; in a folder such a file is among ``unread``.
    """
    if not path.is_dir():
        return _read(path)
    total = Total()
    for file in sorted(path.glob("*.json")):
        try:
            total = total.and_of(_read(file))
        except (OSError, NoReportError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            total = total.and_of(Total(unread=((file.name, why),)))
    return total


def _content(total: Total) -> bytes:
    counts = dict(sorted(total.counts.items()))
    return (json.dumps({"format": _FORMAT, "processes": total.processes, "counts": counts}, indent=2) + "\n").encode()


def _read(path: Path) -> Total:
    if path.stat().st_size > _MAX_BYTES:
        raise NoReportError("is too large for a report")
    try:
        content: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise NoReportError("is not JSON") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise NoReportError("is no report of safetransformers")
    processes, counts = content.get("processes"), content.get("counts")
    if not isinstance(processes, int) or not isinstance(counts, dict):
        raise NoReportError("is a report without counts")
    if not all(type(number) is int for number in counts.values()):
        raise NoReportError("is a report with something else in place of its counts")
    return Total(processes, counts)
