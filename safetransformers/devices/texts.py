"""What is said of a value beyond its limit: the same words in an error and in a note."""

from __future__ import annotations

from typing import Final

from ..explanation import Explanation
from .findings import Finding
from .limits import IGNORED_LABEL

_LOST: Final = "probably the kernel stopped at this; {why}; the device's context is lost: start Python anew"
_REPLAY: Final = 'model.to("cpu")(**batch.to("cpu"))  # in a new process: the same batch names its line on the CPU'


def told(model: str, finding: Finding, *, is_lost: bool = False) -> Explanation:
    """The explanation of one finding.

    Args:
        model: the class's name.
        finding: what was found.
        is_lost: whether a kernel has stopped at it, so that the device cannot be used any more.
    """
    code, why, do = _parts(finding)
    return Explanation(
        code,
        f"{_holds(finding)}, and {_has(model, finding)}",
        _LOST.format(why=why) if is_lost else why,
        "\n".join([do, _REPLAY] if is_lost else [do]),
    )


def _holds(finding: Finding) -> str:
    if finding.limit.kind == "length":
        return f"{finding.limit.argument} needs {finding.value} positions"
    names = ("row", "column") if len(finding.place) <= 2 else ("row",)
    named = [f"{name} {index}" for name, index in zip(names, finding.place, strict=False)]
    place = f" at {', '.join(named)}" if len(finding.place) <= 2 else f" at index {finding.place}"
    return f"{finding.limit.argument} holds {finding.value}{place if finding.place else ''}"


def _has(model: str, finding: Finding) -> str:
    limit = finding.limit
    if limit.kind == "label":
        return f"{model} has {limit.count} classes ({limit.table})"
    if limit.kind == "length":
        return f"{limit.table} of {model} has {limit.count}"
    return f"{limit.table} of {model} has {limit.count} rows"


def _parts(finding: Finding) -> tuple[str, str, str]:
    """Code, why and do."""
    limit, value = finding.limit, finding.value
    if limit.kind == "label":
        return "ST-ASSERT-002", *_of_label(finding)
    if limit.kind in ("position", "length"):
        return (
            "ST-ASSERT-003",
            f"positions are learned, and go from 0 to {limit.count - 1}" if limit.kind == "position"
            else "positions are learned: there are none for the tokens after the last",
            f"tokenizer(texts, truncation=True, max_length={limit.count})",
        )  # fmt: skip
    why = f"its values go from 0 to {limit.count - 1}"
    if value == IGNORED_LABEL:
        return (
            "ST-ASSERT-001",
            f"{why}; {IGNORED_LABEL} marks labels that the loss leaves out: probably labels came in the place of ids",
            f"labels=labels for them; ids are padded with tokenizer.pad_token_id, not with {IGNORED_LABEL}",
        )
    if limit.kind == "token type":
        return "ST-ASSERT-001", why, f"the tokenizer of this checkpoint, or no {limit.argument}"
    if value < 0:
        return "ST-ASSERT-001", why, f"look where {limit.argument} are made: a tokenizer gives no negative id"
    return (
        "ST-ASSERT-001",
        f"{why}; probably tokens were added and the model not resized, or tokenizer and model are of two checkpoints",
        "model.resize_token_embeddings(len(tokenizer))  # or the tokenizer of this checkpoint",
    )


def _of_label(finding: Finding) -> tuple[str, str]:
    limit, value = finding.limit, finding.value
    why = f"labels go from 0 to {limit.count - 1}, and {IGNORED_LABEL} is left out by the loss"
    if value < 0:
        return f"{why}; no other negative number is", f"labels[labels == {value}] = {IGNORED_LABEL}"
    if limit.table == "num_labels":
        return why, f"from_pretrained(..., num_labels={value + 1})  # or more; labels start at 0"
    return why, "labels of the tokenizer that the ids are of; model.resize_token_embeddings(len(tokenizer))"
