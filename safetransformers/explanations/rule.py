"""What a rule is: a pattern on one exception or line, the code of its cause, and the text that is said then."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ..explanation import Explanation
from ..notices import relative

Facts = Mapping[str, str]
_QUOTES: Final = " \n\t\"'`"
_USER_INFO: Final = re.compile(r"(?<=://)[^/\s]*@")  # name and password of a URL
_LONGEST: Final = 200  # characters of one group in a text
_RAW: Final = ("path", "all")  # groups that an answer looks into, and does not show


@dataclass(frozen=True)
class Claim:
    """One exception, or one line that tells of one, as it was raised, printed or logged.

    Attributes:
        text: the message, without the exception's name.
        types: names that the exception's class and its bases go by; from text, the one that was printed. Empty: none
            was named.
        remote_file: the file of remote code that was running, by its last part; empty where none was.
        of_hub: whether it is told that the request was one to the hub: the same words come from any server.
        is_handled: whether the exception that is shown came up while this one was handled, and does not name it as
            its cause.
    """

    text: str
    types: frozenset[str] = frozenset()
    remote_file: str = ""
    of_hub: bool = False
    is_handled: bool = False


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        code: of the cause.
        pattern: matched at the start of the message. A group ``name`` fills ``{name}`` in the texts; ``repo`` and
            ``path`` show their last part where they are paths. None shows a URL's user, or more than 200 characters.
        what: template of the first line.
        why: template of the facts; what is a guess says "probably".
        do: template of the fix.
        types: names of exceptions that it is about; empty where the message alone tells.
        answer: makes the explanation in place of the templates, from the groups and ``remote_file``; its ``path`` and
            ``all`` are as they were found. ``None`` from it goes on to the templates; without any, nothing is said.
        of_hub: whether it is about the hub's own requests only.
        is_generic: whether the message stands for many causes, so that an exception below it may say which.
        source: the file that raises it, and the version that it was read in.
    """

    code: str
    pattern: str
    what: str = ""
    why: str = ""
    do: str = ""
    types: tuple[str, ...] = ()
    answer: Callable[[Facts], Explanation | None] | None = None
    of_hub: bool = False
    is_generic: bool = False
    source: str = ""

    def explain(self, claim: Claim) -> Explanation | None:
        """The explanation of a claim that this rule is about; ``None`` for another."""
        if (self.types and not claim.types.intersection(self.types)) or (self.of_hub and not claim.of_hub):
            return None
        found = self._compiled.match(claim.text)
        if found is None:
            return None
        groups = {name: value or "" for name, value in found.groupdict().items()}
        facts = {name: _shown(name, value) for name, value in groups.items()}
        if self.answer is not None:
            raw = {name: value for name, value in groups.items() if name in _RAW}
            answered = self.answer({**facts, **raw, "remote_file": claim.remote_file})
            if answered is not None or not self.what:
                return answered
        what, why, do = (template.format_map(facts) for template in (self.what, self.why, self.do))
        return Explanation(self.code, what, why, do)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.MULTILINE)


def _shown(name: str, value: str) -> str:
    value = value.strip(_QUOTES)
    is_path = name == "path" or (name == "repo" and (os.path.isabs(value) or value.count(os.sep) > 1))
    shown = relative(value) if value and is_path else _USER_INFO.sub("", value)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."
