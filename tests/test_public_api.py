"""The public API changes on purpose only: names, signatures, fields and errors are those of ``public_api.txt``.

``make api`` writes the file anew. A line that changes or goes is a change for users: it belongs in the changelog too.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetransformers as st
from safetransformers import errors

LISTED = Path(__file__).with_name("public_api.txt")


def lines() -> Iterator[str]:
    """A line for each public name, and for each public member of a class."""
    for name in sorted(st.__all__):
        yield from _described(name, getattr(st, name))
    for name, value in sorted(vars(errors).items()):
        if inspect.isclass(value) and value.__module__ == errors.__name__ and not name.startswith("_"):
            yield from _described(f"errors.{name}", value)


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
        if "__init__" in vars(value):
            yield f"{name}{inspect.signature(value)}"
        for member in _members(value):
            yield from _described(f"{name}.{member}", inspect.getattr_static(value, member, None))
    elif isinstance(value, (staticmethod, classmethod)):
        yield f"{name}{inspect.signature(value.__func__)}"
    elif callable(value):
        yield f"{name}{inspect.signature(value)}"
    else:
        yield f"{name}: property" if isinstance(value, property) else name


def _members(cls: type) -> list[str]:
    own = [base for base in cls.__mro__ if base.__module__.startswith("safetransformers")]
    names = {name for base in own for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return sorted(name for name in names if not name.startswith("_"))


def test_the_public_names_and_their_signatures_are_those_that_were_released() -> None:
    assert list(lines()) == LISTED.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    LISTED.write_text("\n".join(lines()) + "\n", encoding="utf-8")
