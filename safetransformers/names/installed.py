"""What is installed here, and whether a release of transformers could be installed beside it."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

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
    return tuple(sorted(missing)) if missing else ()
