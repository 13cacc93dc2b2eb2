"""What is installed here, and whether a release of transformers could be installed beside it."""

from __future__ import annotations

import ast
import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from packaging.specifiers import SpecifierSet

from . import history

_CALLED: Final = {"python": "Python", "huggingface-hub": "huggingface_hub"}


def transformers() -> str:
    """The version of the installed transformers."""
    return version("transformers")


def of(package: str) -> str:
    """The version of a package, or of Python; empty where it is not installed."""
    if package == "python":
        return platform.python_version()
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def obstacles(release: str) -> tuple[str, ...]:
    """What is installed here and out of the range of a release, a phrase each; pip changes all of it but Python.

    Example:
        >>> [one.partition(" ")[0] for one in obstacles("4.2")][-1:]
        ['tokenizers']
    """
    ranges = history.requirements(release).items()
    return tuple(
        f"{_CALLED.get(package, package)} {here} is not {allowed}"
        for package, allowed in ranges
        if (here := of(package)) and not SpecifierSet(allowed).contains(here, prereleases=True)
    )


def allowance(release: str) -> str:
    """In a sentence whether what is installed allows a release: Python is named first, since pip cannot change it."""
    if not history.requirements(release):
        return ""
    found = obstacles(release)
    if not found:
        return f"the installed Python, torch, huggingface_hub and tokenizers allow {release}"
    if found[0].startswith("Python"):
        return f"{release} needs another Python: {', '.join(found)}"
    return f"pip will change what {release} does not allow: {', '.join(found)}"


def has(name: str) -> bool:
    """Whether transformers, where it is imported already, has a name after all: 5.x answers to some old ones."""
    module = sys.modules.get("transformers")
    try:
        return module is not None and hasattr(module, name)
    except ImportError:
        return False


def backends(name: str) -> tuple[str, ...]:
    """The packages that transformers lacks here for a name that it has; empty where that is not known."""
    module = sys.modules.get("transformers")
    missing = getattr(module, "_object_missing_backend", {}).get(name)
    if not missing and module is not None and (checks := _checks(getattr(module, "__file__", None) or "").get(name)):
        missing = [_backend(check) for check in checks if not _holds(check)]
    return tuple(sorted(missing)) if missing else ()


@lru_cache(maxsize=1)
def _checks(init: str) -> dict[str, tuple[str, ...]]:
    """What transformers asks before it has a name, as ``is_vision_available`` for ``PilBackend``, read from its source.

    Its ``__init__`` is a list of ``try: if not is_..._available(): raise``, with the names in the ``else``. Where the
    check fails, stand-ins say what they need; of some names there is none (5.23: ``PilBackend``,
    ``VideoProcessorMixin``), and nothing at run time tells what hides them.
    """
    try:
        with open(init, encoding="utf-8") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError):
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for block in (node for node in body if isinstance(node, ast.Try)):
        asked = [one.id for part in block.body for one in ast.walk(part) if isinstance(one, ast.Name)]
        checks = tuple(one for one in asked if one.startswith("is_") and one.endswith("_available"))
        lists = [one for part in block.orelse for one in ast.walk(part) if isinstance(one, ast.List)]
        names = [one.value for each in lists for one in each.elts if isinstance(one, ast.Constant)]
        found.update({name: checks for name in names if isinstance(name, str) and checks})
    return found


def _backend(check: str) -> str:
    return check.removeprefix("is_").removesuffix("_available")


def _holds(check: str) -> bool:
    """Whether a check succeeds, as transformers' lazy module takes it: one that breaks does not."""
    asks: Any = getattr(sys.modules.get("transformers.utils.import_utils"), check, None)
    try:
        return asks is None or bool(asks())
    except (ModuleNotFoundError, RuntimeError):
        return False
