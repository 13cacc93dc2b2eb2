"""``explain``: what an exception or a pasted text is about, by the table of rules. No request, no import of torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from ..errors import SafeTransformersError
from ..explanation import FAMILIES, Explanation
from . import pasted
from .claims import claim, links
from .meanings import MEANINGS
from .rule import Claim, Rule
from .table import ANY, RULES

_CODE: Final = r"ST-(?P<family>[A-Z]+)-\d{3}"
_CODE_ALONE: Final = re.compile(rf"\s*\[?(?P<code>{_CODE})\]?\s*")
# The house's own message, as an error, a warning or a note is printed.
_OURS: Final = re.compile(
    rf"^\[(?P<code>{_CODE})\] (?P<what>.*(?:\n(?!Why: |Do: |Off: |More: |\s*$).*)*)"
    r"(?:\nWhy: (?P<why>.*(?:\n(?!Do: |Off: |More: |\s*$).*)*))?(?:\nDo: (?P<do>.*(?:\n(?!Off: |More: |\s*$).*)*))?",
    re.MULTILINE,
)
_NESTED: Final = "Traceback (most recent call last)"

Match = tuple[Rule | None, Explanation]  # no rule: it says its own code
Link = tuple[Match | None, bool]  # of a chain, with whether it was merely handled


def explain(exception_or_text: BaseException | str) -> Explanation | None:
    """What happened, why we think so, and what to do; ``None`` for what no rule is about.

    Of an exception the whole chain is looked at, and the most specific rule of its family speaks: a certificate that is
    not trusted below "We couldn't connect". An exception that no rule knows is explained by one that it was raised
    ``from``, and not by one that was merely being handled. Of a text the exceptions' lines and log messages
    are read, and never the source lines of a traceback. What is a guess says "probably".

    Args:
        exception_or_text: an exception; or a message, a traceback, a log, or a code such as ``"ST-HUB-004"``.

    Raises:
        TypeError: for anything else.

    Cost: milliseconds. No request is made, and neither torch nor transformers is imported.

    Example:
        >>> told = explain("IndexError: Target 7 is out of bounds.")
        >>> told.code, told.what
        ('ST-ASSERT-503', 'the label 7 is not one of the classes of the model')
        >>> explain("ValueError: something else") is None
        True
    """
    if isinstance(exception_or_text, BaseException):
        return _of_exception(exception_or_text)
    if isinstance(exception_or_text, str):
        return _of_text(exception_or_text)
    raise TypeError(f"explain takes an exception or a text, not {type(exception_or_text).__name__}")


def _of_exception(error: BaseException) -> Explanation | None:
    found: list[Link] = []
    chain = list(links(error))
    told = [claim(link, is_handled) for link, is_handled in chain]
    of_hub = any(one.of_hub for one in told)
    for (link, is_handled), one in zip(chain, told, strict=True):
        if isinstance(link, SafeTransformersError) and _is_known(link.code):
            found.append(((None, Explanation(link.code, link.what, link.why, link.do)), is_handled))
            continue
        if left := _left(link):
            found.append((left, is_handled))
            continue
        if _NESTED in one.text:  # a worker's traceback, or those of several tries: the cause is in there
            found += [(_of_chain(inner), is_handled) for inner in pasted.read(one.text).chains]
        found.append((_first_rule(replace(one, of_hub=of_hub)), is_handled))
    best = _chosen(found)
    return best[1] if best else None


def _of_text(text: str) -> Explanation | None:
    if alone := _CODE_ALONE.fullmatch(text):
        meaning = MEANINGS.get(alone["code"])
        return Explanation(alone["code"], meaning) if meaning else None
    read = pasted.read(text)
    best: Match | None = None
    for chain in read.chains:
        match = _of_chain(chain)
        if match is None:
            continue
        if best is None:
            best = match
        elif not (chain[0].types == pasted.CHECKED and _says_which(match, best)):
            continue  # but a check on the GPU is printed by CUDA itself, apart from the traceback of its rank
        if not _is_generic(match):
            return match[1]
    return best[1] if best else _of_lines(read.lines)


def _of_chain(chain: list[Claim]) -> Match | None:
    of_hub = any(one.of_hub for one in chain)
    return _chosen((_own(one) or _first_rule(replace(one, of_hub=of_hub)), one.is_handled) for one in chain)


def _of_lines(lines: list[Claim]) -> Explanation | None:
    """Of log lines and messages without a traceback: the rule that stands first in the table, so errors over warnings.

    A message of ours counts where a warning's or error's name stands before it, or nothing does: a page about this
    library shows them too.
    """
    for i, line in enumerate(lines):
        if (i == 0 or line.types) and line.text.startswith("[ST-") and (own := _own(line)):
            return own[1]
    likely = [line for line in lines if ANY.match(line.text)]
    for rule in RULES:
        for line in likely:
            if told := rule.explain(line):
                return told
    return None


def _chosen(found: Iterable[Link]) -> Match | None:
    """Of a chain, the outermost that is known; where it stands for many causes, the first below that says which.

    What was merely handled may say which, and is no cause of an exception that nobody knows.
    """
    best: Match | None = None
    for match, is_handled in found:
        if match is None or (best is None and is_handled):
            continue
        if best is None:
            best = match
        if _says_which(match, best) and not _is_generic(match):
            return match
        if not _is_generic(best):
            return best
    return best


def _is_generic(match: Match) -> bool:
    return match[0] is not None and match[0].is_generic


def _says_which(match: Match, best: Match) -> bool:
    """Whether one cause may be that of another: cuBLAS, too, does not start once a check on the GPU has failed."""
    families = match[1].family, best[1].family
    return families[0] == families[1] or families == ("device", "memory")


def _first_rule(one: Claim) -> Match | None:
    for rule in RULES:
        told = rule.explain(one)
        if told is not None:
            return rule, told
    return None


def _own(one: Claim) -> Match | None:
    """What says its own code: an error or warning of this library, or a note that it has left."""
    found = _OURS.search(one.text)
    if found is None or not _is_known(found["code"]):
        return None
    return None, Explanation(found["code"], found["what"], found["why"] or "", found["do"] or "")


def _left(error: BaseException) -> Match | None:
    """What a guard knows of the very call that failed: its note, or its record of a device that is lost."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, str) and (own := _own(Claim(note))):
            return own
    record = sys.modules.get("safetransformers.devices.record")  # not imported: nothing was recorded
    told = record.of_lost(error) if record else None
    return (None, told) if told else None


def _is_known(code: str) -> bool:
    parts = re.fullmatch(_CODE, code)
    return parts is not None and parts["family"] in FAMILIES
