"""Which release of transformers has a name: a table of every minor release, made from their wheels by `make names`.

Nothing of transformers is imported. The table is read once, when it is first asked for, in some tens of milliseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from packaging.version import Version

FILE: Final = "history.json"
_ITSELF: Final = "."  # the module, among the names in it
_TORCH: Final = ("TF", "Flax")  # what the classes of TensorFlow and Flax have before the name of their torch class


@dataclass(frozen=True)
class Record:
    """In which releases something is.

    Attributes:
        spans: the first and the last minor release of each time that it was there; the last is ``None`` where the
            newest release of the table has it.
        replacement: what took its place, as a dotted name; empty where nothing did.
        reason: why it went, where nothing took its place.
    """

    spans: tuple[tuple[str, str | None], ...]
    replacement: str = ""
    reason: str = ""

    @property
    def first(self) -> str:
        """The first minor release that has it, such as ``"4.25"``; ``"4.2"`` also stands for all before."""
        return self.spans[0][0]

    @property
    def last(self) -> str | None:
        """The last minor release that has it; ``None`` where the newest one does."""
        return self.spans[-1][1]

    def covers(self, release: str) -> bool:
        """Whether a release has it, going by its first two numbers."""
        asked = minor(release)
        return any(Version(first) <= asked and (last is None or asked <= Version(last)) for first, last in self.spans)

    def is_after(self, release: str) -> bool:
        """Whether it came, or came back, after a release."""
        return any(minor(release) < Version(first) for first, _ in self.spans)


def minor(release: str) -> Version:
    """The minor release that a version belongs to.

    Example:
        >>> str(minor("4.57.6")), str(minor("5.24.0.dev0"))
        ('4.57', '5.24')
    """
    version = Version(release)
    return Version(f"{version.major}.{version.minor}")


def of_name(name: str) -> Record | None:
    """The record of a public name, ``None`` for one that no release has.

    Example:
        >>> of_name("ImageGPTImageProcessor").first, of_name("AdamW").last, of_name("AdamW").replacement
        ('4.25', '4.49', 'torch.optim.AdamW')
    """
    table = _table()
    if name not in table.names:
        return None
    return Record(table.names[name], replacement_of(name), _reason(name))


def of_inner(module: str, name: str) -> Record | None:
    """The record of a name inside a module, such as ``transformers.utils``, or of the module where ``name`` is empty.

    Names that every release of the table has are not in it, nor those that a module imports from another package; those
    of single models are in it once they are gone.
    """
    spans = _table().inner.get(module, {}).get(name or _ITSELF)
    if spans is None:
        return None
    dotted = f"{module}.{name}" if name else module
    public = of_name(name)  # most are public names as well, with a replacement and a reason of their own
    if public is None or public.last is None:
        return Record(spans, _table().replacements.get(dotted, ""), _reason(dotted))
    return Record(spans, _table().replacements.get(dotted) or public.replacement, public.reason)


def moved(name: str, release: str) -> str:
    """The module of transformers in which a release has a name that was elsewhere before; empty where none is known."""
    public = of_name(name)
    if public is not None and public.covers(release):
        return "transformers"
    homes = [
        module
        for module, names in _table().inner.items()
        if name and name in names and ".models." not in module and Record(names[name]).covers(release)
    ]
    return min(homes, key=len, default="")


def of_model_type(model_type: str) -> Record | None:
    """The record of a ``model_type``."""
    spans = _table().model_types.get(model_type)
    return None if spans is None else Record(spans)


def replacement_of(name: str) -> str:
    """What took the place of a public name, as a dotted name: the torch class of one of TensorFlow or Flax."""
    table = _table()
    if name in table.replacements:
        return table.replacements[name]
    for prefix in _TORCH:
        plain = name.removeprefix(prefix)
        spans = table.names.get(plain) if plain != name else None
        if spans is not None and spans[-1][1] is None:
            return f"transformers.{plain}"
    return ""


def _reason(name: str) -> str:
    return next((why for pattern, why in _table().reasons.items() if pattern.fullmatch(name)), "")


def names() -> tuple[str, ...]:
    """Every public name of any release."""
    return tuple(_table().names)


def model_types() -> tuple[str, ...]:
    """Every ``model_type`` of any release."""
    return tuple(_table().model_types)


def releases() -> tuple[str, ...]:
    """The releases that the table was made from, oldest first: the last patch of each minor release."""
    return _table().releases


def requirements(release: str) -> Mapping[str, str]:
    """The ranges that a minor release allows: of ``python``, ``torch``, ``tokenizers`` and the like."""
    ranges = _table().requires.get(str(minor(release)), {})
    return {package: range_ for package, range_ in ranges.items() if range_}


def is_newer(release: str) -> bool:
    """Whether a release came after the newest one of the table, which then knows nothing of what it lost."""
    return minor(release) > minor(releases()[-1])


def date() -> str:
    """The day on which the newest release of the table was built, such as ``"2026-11-21"``."""
    return _table().date


@dataclass(frozen=True)
class _Table:
    date: str
    releases: tuple[str, ...]
    requires: Mapping[str, Mapping[str, str]]
    names: Mapping[str, tuple[tuple[str, str | None], ...]]
    model_types: Mapping[str, tuple[tuple[str, str | None], ...]]
    inner: Mapping[str, Mapping[str, tuple[tuple[str, str | None], ...]]]
    replacements: Mapping[str, str]
    reasons: Mapping[re.Pattern[str], str]


@lru_cache(maxsize=1)
def _table() -> _Table:
    stored: dict[str, Any] = json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    minors = [str(minor(release)) for release in stored["releases"]]

    def spans(text: str) -> tuple[tuple[str, str | None], ...]:
        pairs = (span.partition("-") for span in text.split(","))
        return tuple((minors[int(first)], minors[int(last)] if last else None) for first, _, last in pairs)

    def by_name(groups: Mapping[str, str]) -> dict[str, tuple[tuple[str, str | None], ...]]:
        return {name: spans(text) for text, names in groups.items() for name in names.split(" ")}

    inner: dict[str, dict[str, tuple[tuple[str, str | None], ...]]] = {}
    for text, modules in stored["inner"].items():
        for module, names in modules.items():
            inner.setdefault(f"transformers.{module}", {}).update(dict.fromkeys(names.split(" "), spans(text)))
    ranges: list[dict[str, str]] = [{}]
    for changed in stored["requires"]:
        ranges.append({**ranges[-1], **changed})
    return _Table(
        date=stored["date"],
        releases=tuple(stored["releases"]),
        requires=dict(zip(minors, ranges[1:], strict=True)),
        names=by_name(stored["names"]),
        model_types=by_name(stored["model_types"]),
        inner=inner,
        replacements={old: new for new, olds in stored["replacements"].items() for old in olds.split(" ")},
        reasons={re.compile(pattern): reason for pattern, reason in stored["reasons"].items()},
    )
