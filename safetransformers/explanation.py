"""What an explanation is: the four parts of the house's messages, and the page of their code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from .errors import message

DOCS: Final = "docs/errors"
HAS_NOTES: Final = hasattr(BaseException, "add_note")  # Python 3.11 has them, and shows them

# The middle part of a code: the failure that it belongs to.
FAMILIES: Final = {
    "MASK": "padding",
    "HUB": "hub",
    "TASK": "task",
    "TF": "tensorflow",
    "NAME": "names",
    "OOM": "memory",
    "ASSERT": "device",
    "LOAD": "loading",
    "POLICY": "policy",
    "GUARD": "guard",
    "VERSION": "versions",
}


@dataclass(frozen=True)
class Explanation:
    """What happened, why we think so, and what to do. ``str()`` is the text, ``as_dict()`` what ``--json`` prints.

    Attributes:
        code: stable identifier such as ``"ST-NAME-001"``, whose page is ``link``.
        what: what happened, one line.
        why: the facts behind it; what is a guess says "probably".
        do: the fix, to paste.

    Example:
        >>> told = Explanation("ST-NAME-002", "AdamW was removed", do="from torch.optim import AdamW")
        >>> told.family, told.link
        ('names', 'docs/errors/ST-NAME-002.md')
    """

    code: str
    what: str
    why: str = ""
    do: str = ""

    @property
    def family(self) -> str:
        """The failure that it belongs to, such as ``"padding"`` or ``"memory"``."""
        return FAMILIES[self.code.split("-")[1]]

    @property
    def link(self) -> str:
        """The documentation's page of the code."""
        return f"{DOCS}/{self.code}.md"

    def as_dict(self) -> dict[str, Any]:
        """Every part by name, for programs."""
        return {**asdict(self), "family": self.family, "link": self.link}

    def _repr_html_(self) -> str:
        from .html import facts

        return facts(f"[{self.code}] {self.what}", (("Why", self.why), ("Do", self.do), ("More", self.link)))

    def __str__(self) -> str:
        return f"{message(self.code, self.what, self.why, self.do)}\nMore: {self.link}"


def add_note(error: BaseException, told: Explanation) -> None:
    """Let an error carry its explanation as a note, once; on Python 3.10, which shows no notes, it is only kept.

    Raises:
        TypeError: for an error whose ``__notes__`` somebody has made something else than a list.
    """
    notes = getattr(error, "__notes__", ())
    if any(isinstance(note, str) and note.startswith(f"[{told.code}]") for note in notes):
        return
    if HAS_NOTES:
        error.add_note(str(told))
    else:
        error.__notes__ = [*notes, str(told)]
