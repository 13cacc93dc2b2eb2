"""What the doctor says: one fact, how bad it is, why that matters, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One fact about this machine or a checkpoint.

    Attributes:
        topic: what it is about, such as ``"versions"``; findings of one topic are shown together.
        level: ``"ok"``; ``"note"`` for what bites some programs; ``"problem"`` for what is broken.
        what: the fact, one line.
        why: why it matters.
        do: the command, code or step that mends it.

    Example:
        >>> print(Finding("hub", "problem", "the hub does not answer", do="HF_HUB_OFFLINE=1 python train.py"))
        problem  the hub does not answer
                 Do: HF_HUB_OFFLINE=1 python train.py
    """

    topic: str
    level: Level
    what: str
    why: str = ""
    do: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Every part by name, for programs."""
        return asdict(self)

    def __str__(self) -> str:
        rest = [f"{label}: {text}" for label, text in (("Why", self.why), ("Do", self.do)) if text]
        return "\n".join([f"{self.level:8} {self.what}", *(f"{'':8} {line}" for line in rest)])


def is_fine(findings: Iterable[Finding]) -> bool:
    """Whether none of them is a problem."""
    return all(finding.level != "problem" for finding in findings)
