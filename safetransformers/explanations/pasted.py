"""What a pasted text says: its tracebacks, and its other lines. Source lines inside a traceback say nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from .claims import HUB_PACKAGE, HUB_WORDS, REMOTE_FOLDER
from .rule import Claim

_LINES: Final = 20_000  # of a longer text the last ones are read: a run ends with what ended it
_MESSAGE_LINES: Final = 80
_LOGGED_LINES: Final = 12  # of a message in a log
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_RANK: Final = re.compile(r"\s*\[((?:rank|default)\d+)\]:? ?")
_HEADER: Final = re.compile(r"(?P<before>.*?)(?:Exception Group |Original )?Traceback \(most recent call last\):?\s*$")
_IPYTHON: Final = re.compile(r"(?P<type>[A-Za-z_][\w.]*)\s{2,}Traceback \(most recent call last\)\s*$")
_LINK: Final = re.compile(
    r"\s*(?:The above exception was the direct cause of|(?P<handled>During handling of the above exception, another))"
)
_FRAME: Final = re.compile(r"\s*File \"?(?P<file>[^\",]+?)\"?(?:, line |:)\d+")
_RAISED: Final = re.compile(r"\s*(?P<type>[A-Za-z_][\w.]*)(?:: ?(?P<text>.*)|\s*)$")
_GROUP: Final = re.compile(r" *\+ Exception Group Traceback")
_GUTTER: Final = re.compile(r" *(?:\| ?|\+ (?=Exception Group Traceback))")
_GROUP_EDGE: Final = re.compile(r"\s*\+-[-+]*(?: (?:\d+|\.\.\.) )?-*\s*$")
_PROMPT: Final = re.compile(r"(?:>>> |In \[\d+\]:|\$ |\S+@\S+[:$#])")
# What loggers, pytest and torchrun write before a message. A bracket that belongs to the message stays.
_LEVEL: Final = "(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)"
_LOG: Final = re.compile(
    r"(?:\s+|E\s{2,}|\d{4}-\d\d-\d\d[T ][\d:.,]+\S*(?: -)?|\d\d:\d\d:\d\d[.,\d]*"
    r"|\[(?!ST-|SSL|Errno|WinError|enforce)[^\]]{1,80}\]:?"
    rf"|{_LEVEL}\b(?::[\w.]+:| -)?|[\w.]+ - (?={_LEVEL}\b)|[\w./\\<>-]+\.py:\d+:|<\w+>:\d+:|>>|[|:])"
)
_NAMED: Final = re.compile(
    r"(?P<type>(?:[A-Za-z_]\w*\.)+[A-Z_]\w*|[A-Z_]\w*(?:Error|Exception|Warning|Timeout|Redirects|Enabled)): ?"
)
_ALONE: Final = re.compile(r"(?P<type>MemoryError|KeyboardInterrupt)\s*$")
# CUDA prints this itself: file, line, function, block and thread, then the check that failed. It begins wherever the
# cursor was, such as behind a progress bar; behind a quote it is a line of code.
_KERNEL: Final = re.compile(
    r"(?:[^\"']*[\s\]|])?[^\s\"']\S*?:\d+: .*?block: \[[\d, ]+\], thread: \[[\d, ]+\],? "
    r"(?P<text>Assertion `.*` failed.*)"
)
_CHECK: Final = "Assertion"
CHECKED: Final = frozenset([_CHECK])  # the types of a check that failed on a GPU


@dataclass
class _Message:
    """One exception while its lines are read."""

    type: str
    lines: list[str]
    files: list[str]
    is_handled: bool = False  # the next one came up while it was handled

    def claim(self, is_handled: bool) -> Claim:
        text = "\n".join(self.lines).rstrip()
        remote = [file for file in self.files if REMOTE_FOLDER in file]
        return Claim(
            text,
            frozenset([self.type.rpartition(".")[2]]),
            os.path.basename(remote[-1]) if remote else "",
            any(map(HUB_PACKAGE.search, self.files)) or HUB_WORDS.search(text) is not None,
            is_handled,
        )


@dataclass
class Pasted:
    """What was found.

    Attributes:
        chains: the exceptions of each traceback with those that it names as its cause, the outermost first; the last
            traceback first.
        lines: each other line that may begin a message, with those after it.
    """

    chains: list[list[Claim]] = field(default_factory=list)
    lines: list[Claim] = field(default_factory=list)


def read(text: str) -> Pasted:
    """Read a text of any kind: one message, a traceback, a log with several of them."""
    found = Pasted()
    for stream in _streams(_ANSI.sub("", text).replace("\r\n", "\n").split("\n")[-_LINES:]):
        reader = _Reader()
        for line in stream:
            reader.read(line)
        found.chains += [_outermost_first(chain) for chain in reversed(reader.chains)]
        found.lines += _messages(reader.outside)
    return found


def _outermost_first(chain: list[_Message]) -> list[Claim]:
    found, is_handled = list[Claim](), False
    for message in reversed(chain):
        is_handled = is_handled or message.is_handled
        found.append(message.claim(is_handled))
    return found


def _streams(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each process of a torchrun, which come mixed, without its mark; the others as one stream."""
    streams: dict[str, list[str]] = {}
    for line in lines:
        mark = _RANK.match(line)
        streams.setdefault(mark[1] if mark else "", []).append(line[mark.end() :] if mark else line)
    yield from reversed(streams.values())  # the rank's own traceback before that of the launcher


class _Reader:
    """Goes through a text line by line, and knows in which part of a traceback it is."""

    def __init__(self) -> None:
        self.chains: list[list[_Message]] = []
        self.outside: list[str] = []
        self._state = "outside"
        self._indent, self._type, self._is_linked, self._is_source = 0, "", False, False
        self._prefix: re.Pattern[str] | None = None  # what a log or a container puts before each line
        self._is_group = False
        self._files: list[str] = []

    def read(self, line: str) -> None:
        if self._prefix is not None and (prefix := self._prefix.match(line)):
            line = line[prefix.end() :]
        self._is_group = self._is_group or _GROUP.match(line) is not None
        if self._is_group and _GROUP_EDGE.match(line):
            self._state, self._indent = "frames", 0  # a part that was never raised has no header of its own
            return
        if self._is_group and (gutter := _GUTTER.match(line)):
            line = line[gutter.end() :]
        if link := _LINK.match(line):
            if self._state == "outside":
                self._without_traceback()
            if link["handled"] and self.chains and self.chains[-1]:
                self.chains[-1][-1].is_handled = True
            self._state, self._is_linked = "outside", True
        elif header := _HEADER.match(line):
            self._begin(line, header)
        elif self._state == "frames":
            self._in_frames(line)
        elif self._state == "ipython":
            self._in_ipython(line)
        elif self._state == "message":
            self._in_message(line)
        else:
            self._outside(line)

    def _begin(self, line: str, header: re.Match[str]) -> None:
        ipython = _IPYTHON.match(line)
        if not self._is_linked or not self.chains:
            self.chains.append([])
        self._is_linked, self._files = False, []
        if ipython:
            self._state, self._type = "ipython", ipython["type"].rpartition(".")[2]
            return
        before = header["before"]
        self._state, self._indent = "frames", len(before) - len(before.lstrip()) if not before.strip() else 0
        if before.strip() and self._prefix is None:
            same = re.sub(r"\d+", r"\\d+", re.escape(before.rstrip()))
            self._prefix = re.compile(f"{same} ?")

    def _in_frames(self, line: str) -> None:
        indent = len(line) - len(line.lstrip())
        if frame := _FRAME.match(line):
            self._files.append(frame["file"])
        elif line.strip() and indent <= self._indent:
            if raised := _RAISED.match(line):
                self._start(raised["type"], raised["text"] or "")
            else:
                self._state = "outside"
                self._outside(line)

    def _in_ipython(self, line: str) -> None:
        if frame := _FRAME.match(line):
            self._files.append(frame["file"])
        elif (raised := _RAISED.match(line)) and raised["type"].rpartition(".")[2] == self._type and line[:1].strip():
            self._start(self._type, raised["text"] or "")

    def _in_message(self, line: str) -> None:
        message = self.chains[-1][-1]
        if _PROMPT.match(line) or len(message.lines) >= _MESSAGE_LINES:
            self._state = "outside"
            self._outside(line)
        elif kernel := _kernel(line):
            self._add_kernel(kernel)
        else:
            message.lines.append(line)

    def _outside(self, line: str) -> None:
        if kernel := _kernel(line):
            self._add_kernel(kernel)
        elif self._is_source:
            self._is_source = False
        elif frame := _FRAME.match(line):
            self._is_source = True  # a traceback whose beginning was not pasted: the next line is code
            self._files.append(frame["file"])
        else:
            self.outside.append(line)

    def _without_traceback(self) -> None:
        """The lines before a link are an exception that was never raised here, and so has no traceback."""
        block: list[str] = []
        while self.outside and (self.outside[-1].strip() or not block):
            line = self.outside.pop()
            if line.strip():
                block.insert(0, line)
        raised = _RAISED.match(block[0]) if block else None
        if raised is None:
            self.outside += block
            return
        if not self._is_linked or not self.chains:
            self.chains.append([])
        self._start(raised["type"], raised["text"] or "")
        self.chains[-1][-1].lines += block[1:]

    def _start(self, name: str, text: str) -> None:
        self._state = "message"
        if not self.chains:
            self.chains.append([])
        self.chains[-1].append(_Message(name, [text], self._files))

    def _add_kernel(self, kernel: re.Match[str]) -> None:
        """A check that failed on the GPU is the cause of what is raised after it; each of its threads says so."""
        known = self.chains[-1] if self.chains and (self._is_linked or self._state == "message") else None
        if known is None:
            self.chains.append(known := [])
        if kernel["text"] not in [message.lines[0] for message in known]:
            known.insert(0, _Message(_CHECK, [kernel["text"]], []))
        self._is_linked = self._is_linked or self._state == "outside"


def _kernel(line: str) -> re.Match[str] | None:
    return _KERNEL.match(line) if "thread: [" in line else None  # the look is long on a line of thousands of words


def _messages(lines: list[str]) -> Iterator[Claim]:
    for i, line in enumerate(lines):
        rest = line
        while (prefix := _LOG.match(rest)) and prefix.end():
            rest = rest[prefix.end() :]
        types: frozenset[str] = frozenset()
        if alone := _ALONE.match(rest):
            yield Claim("", frozenset([alone["type"]]))
            continue
        if named := _NAMED.match(rest):
            types, rest = frozenset([named["type"].rpartition(".")[2]]), rest[named.end() :]
        if rest.strip():
            text = "\n".join([rest, *lines[i + 1 : i + _LOGGED_LINES]])
            yield Claim(text, types, of_hub=HUB_WORDS.search(text) is not None)
        elif types and i + 1 < len(lines):  # "ImportError: " and its message on the next line
            yield Claim("\n".join(lines[i : i + _LOGGED_LINES])[len(line) :], types)
