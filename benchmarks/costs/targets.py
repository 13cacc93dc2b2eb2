"""The targets, and what the rows say of them: met, MISSED, or not measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .rows import Row


@dataclass(frozen=True)
class Target:
    """What a guard may cost at most.

    Attributes:
        what: in words.
        limit: the most.
        by: the row's column that is compared: ``ratio`` or ``added``, or ``least`` for the smallest median.
        section: of the cases that it is about; so the following, where empty means any.
        subject: the model.
        calls: any of these.
        quantity: of the rows.
        mode: of the cases.
        shape: batch and sequence.
        is_gpu: whether it is about a GPU only.
        why: it cannot be met, where it is missed.
    """

    what: str
    limit: float
    by: str
    section: str
    quantity: str
    subject: str = ""
    calls: tuple[str, ...] = ()
    mode: str = ""
    shape: tuple[int, int] | None = None
    is_gpu: bool = False
    why: str = ""

    def is_about(self, row: Row) -> bool:
        """Whether a row is of this target: a guarded one, where nothing is strict or recorded."""
        case = row.case
        return (
            row.variant == "guarded"
            and (case.section, row.quantity) == (self.section, self.quantity)
            and (not self.subject or case.subject == self.subject)
            and (not self.calls or case.call in self.calls)
            and (not self.mode or case.mode == self.mode)
            and (self.shape is None or (case.batch, case.sequence) == self.shape)
            and (case.place == "cuda" or not self.is_gpu)
            and case.place != "meta"
        )


_MASK, _FULL = ("mask passed",), ("no padding, no mask",)
_RIGHT, _LEFT = ("right padding, no mask",), ("left padding, no mask",)
_ROLLED = (
    "a mask and positions are not enough for BERT's pooled output, which is that of the first column: rows are rolled "
    "so that their padding comes last, and outputs are rolled back"
)
_HOOK = (
    "most of it torch itself takes to call any pre-hook with keywords, before the guard's first line runs: see below, "
    "where each microsecond goes"
)
_SHAPE, _STEP, _EMPTY, _BASE = (8, 128), "decode step", "empty module", "BERT-base"

TARGETS: Final = (
    Target("mask passed, empty module: us", 2.0, "added", "forward", "time", _EMPTY, _MASK, shape=_SHAPE, why=_HOOK),
    Target("mask passed, BERT-base: ratio", 1.01, "ratio", "forward", "time", _BASE, _MASK, "", _SHAPE, is_gpu=True),
    Target("mask passed: kernels", 0, "added", "forward", "kernels", calls=_MASK),
    Target("mask passed: syncs", 0, "added", "forward", "syncs", calls=_MASK),
    Target("mask inferred, BERT-base: ratio", 1.02, "ratio", "forward", "time", _BASE, _RIGHT, "", _SHAPE),
    Target("mask inferred, right padding: kernels", 6, "added", "forward", "kernels", calls=_RIGHT),
    Target("mask inferred, left padding: kernels", 6, "added", "forward", "kernels", calls=_LEFT, why=_ROLLED),
    Target("mask inferred: syncs", 1, "added", "forward", "syncs", calls=_RIGHT + _LEFT),
    Target("no pads, BERT-base: ratio", 1.02, "ratio", "forward", "time", _BASE, _FULL, "", _SHAPE, is_gpu=True),
    Target("no pads: kernels", 2, "added", "forward", "kernels", calls=_FULL),
    Target("no pads: syncs", 1, "added", "forward", "syncs", calls=_FULL),
    Target("decode step: us", 1.0, "added", "generate", "time", _EMPTY, mode=_STEP, why=_HOOK),
    Target("decode step: kernels", 0, "added", "generate", "kernels", _EMPTY, mode=_STEP),
    Target("decode step: syncs", 0, "added", "generate", "syncs", _EMPTY, mode=_STEP),
    Target("torch.compile: graph breaks", 0, "added", "compiled", "graph breaks"),
    Target("torch.compile: graphs traced again", 0, "added", "compiled", "graphs traced"),
    Target("CUDA graph: captured, and right", 1, "least", "compiled", "captured and right", is_gpu=True),
    Target("import: ratio", 1.05, "ratio", "import", "time"),
)


def verdict(target: Target, rows: Iterable[Row]) -> tuple[str, str]:
    """The worst value of a target's rows, and what to say of it; both empty where there are none."""
    found = [row for row in rows if target.is_about(row)]
    if target.by == "least":
        least = min((row.median for row in found), default=None)
        return ("", "") if least is None else (f"{least:g}", "met" if least >= target.limit else "MISSED")
    values = [(value, row) for row in found if (value := getattr(row, target.by)) is not None]
    if not values:
        return "", ""
    worst, row = max(values, key=lambda one: one[0])
    shown = f"{worst:.3f}" if target.by == "ratio" else f"{worst:.3g}"
    if row.rounds > 1:
        q1, q3 = getattr(row, f"{target.by}_q1"), getattr(row, f"{target.by}_q3")
        shown += f" ({q1:.3f} to {q3:.3f})" if target.by == "ratio" else f" ({q1:.3g} to {q3:.3g})"
    return shown, "met" if worst <= target.limit else "MISSED"
