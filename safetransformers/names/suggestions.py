"""What ``suggest_auto_classes`` gives: classes, each with the line to paste and the reason, best first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, overload

Fit = Literal["saved", "whole", "other task", "incomplete", "unknown"]
OFF: Final = 'with safetransformers.policy(errors="off"): ...'
_SHOWN: Final = 3


def listed(names: Sequence[str]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass(frozen=True)
class Suggestion:
    """One class that loads the checkpoint.

    Attributes:
        auto_class: the Auto class, such as ``"AutoModelForCausalLM"``; empty for a class that no Auto class chooses.
        model_class: the class that it chooses, such as ``"GPT2LMHeadModel"``.
        line: the line to paste.
        why: why it is suggested.
        fit: ``"saved"`` the class that the checkpoint names; ``"whole"`` all its weights are there; ``"other task"``
            they are by name and shape, but were trained for another task; ``"incomplete"`` a part of it would be
            random; ``"unknown"`` where the weights were not seen.
    """

    auto_class: str
    model_class: str
    line: str
    why: str
    fit: Fit

    def __str__(self) -> str:
        return f"{self.line}  # {self.why}"


@dataclass(frozen=True)
class Suggestions(Sequence[Suggestion]):
    """The classes that load a checkpoint, best first; ``str()`` is the table that the command line prints.

    Attributes:
        checkpoint: what it is called, never a whole path.
        model_type: such as ``"gpt2"``.
        architectures: the classes that it says it was saved from.
        head: the modules besides the base model that its weights hold, such as ``("classifier",)``.
        requested: the Auto class that was asked for, if any.
        accepted: the configuration classes that the requested one takes, all of them.
        ranked: the suggestions.
        preprocessors: the Auto classes of its tokenizer and processors.
        notes: what else there is to know, a sentence each.
    """

    checkpoint: str
    model_type: str
    architectures: tuple[str, ...]
    head: tuple[str, ...]
    requested: str
    ranked: tuple[Suggestion, ...]
    preprocessors: tuple[Suggestion, ...] = ()
    notes: tuple[str, ...] = ()
    accepted: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_fit(self) -> bool:
        """Whether the requested class is among those that load it, or none was asked for."""
        every = (*self.ranked, *self.preprocessors)
        return not self.requested or any(one.auto_class == self.requested for one in every)

    def describe(self) -> str:
        """What the checkpoint is, in one line."""
        parts = [f"model_type {self.model_type!r}"]
        if self.architectures:
            parts.append(f"architectures {', '.join(self.architectures)}")
        if self.head:
            parts.append(f"head in its weights: {listed(self.head)}")
        return f"{self.checkpoint} ({'; '.join(parts)})"

    def as_dict(self) -> dict[str, Any]:
        """Every part by name, for programs."""
        return asdict(self)

    def _repr_html_(self) -> str:
        from ..html import table

        rows = [(one.line, one.why) for one in (*self.ranked, *self.preprocessors)]
        return table(self.describe(), ("line to paste", "why"), rows, self.notes)

    def __str__(self) -> str:
        lines = [self.describe(), *(f"  {one}" for one in (*self.ranked, *self.preprocessors)), *self.notes]
        return "\n".join(lines)

    def __len__(self) -> int:
        return len(self.ranked)

    @overload
    def __getitem__(self, index: int) -> Suggestion: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Suggestion, ...]: ...

    def __getitem__(self, index: int | slice) -> Suggestion | tuple[Suggestion, ...]:
        return self.ranked[index]

    def __iter__(self) -> Iterator[Suggestion]:
        return iter(self.ranked)
