"""Are the installed packages in the ranges that this release was proven with, and which optional ones are there?"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ..compat import SUPPORTED
from .finding import Finding

TOPIC: Final = "versions"
_OURS: Final = "safetransformers"
_CHECKED: Final = ("transformers", "torch", "wrapt", "packaging", "huggingface-hub", "tokenizers", "safetensors")
# Package: what lacks without it.
OPTIONAL: Final = {
    "sentencepiece": "tokenizers whose vocabulary is a .model file only (T5, Llama as first published) do not load",
    "tiktoken": "tokenizers whose vocabulary is a .tiktoken file only do not load",
    "protobuf": "some .model vocabularies cannot be turned into fast tokenizers",
    "h5py": "TensorFlow's .h5 weights cannot be converted",
    "accelerate": 'device_map="auto" and loads of parts on several devices do not work',
}
_EXTRA: Final = {"h5py": "'safetransformers[tf]'"}


@dataclass(frozen=True)
class Facts:
    """What is installed.

    Attributes:
        python: its version, such as ``"3.11.4"``.
        python_range: that this release installs on, such as ``">=3.10"``; empty where it is not known.
        newest_python: that this release was tested on, such as ``"3.13"``; empty where it is not known.
        ranges: of each package that is checked, by name; empty text where there is none.
        installed: version of each package by name; of one that is not there ``None``.
    """

    python: str
    python_range: str
    newest_python: str
    ranges: Mapping[str, str]
    installed: Mapping[str, str | None]


def look() -> Facts:
    """Read the metadata of what is installed; nothing is imported."""
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        about = metadata(_OURS)
        python_range, classifiers = about["Requires-Python"], about.get_all("Classifier") or []
    except PackageNotFoundError:  # a checkout on the path
        python_range, classifiers = "", []
    tested = [found[1] for text in classifiers if (found := re.search(r":: Python :: (3\.\d+)$", text))]
    newest = max(tested, key=lambda text: int(text.split(".")[1]), default="")
    ranges = {**_required_by("transformers"), **_required_by(_OURS), **SUPPORTED}
    return Facts(
        python,
        python_range,
        newest,
        {name: ranges.get(name, "") for name in _CHECKED},
        {name: _installed(name) for name in (*_CHECKED, *OPTIONAL)},
    )


def findings(facts: Facts) -> Iterator[Finding]:
    """What there is to say about them."""
    yield _of_python(facts)
    for name, range_ in facts.ranges.items():
        yield _of_package(name, range_, facts.installed[name])
    for name, lacks in OPTIONAL.items():
        installed = facts.installed[name]
        if installed is not None:
            yield Finding(TOPIC, "ok", f"{name} {installed}")
        else:
            yield Finding(TOPIC, "note", f"{name} is not installed", lacks, f"pip install {_EXTRA.get(name, name)}")


def _of_python(facts: Facts) -> Finding:
    what = f"Python {facts.python}"
    if facts.python_range and not SpecifierSet(facts.python_range).contains(facts.python):
        why = f"this release is for Python {facts.python_range}"
        return Finding(TOPIC, "problem", what, why, f"make an environment with Python {facts.newest_python}")
    series = tuple(map(int, facts.python.split(".")[:2]))
    if facts.newest_python and series > tuple(map(int, facts.newest_python.split("."))):
        why = f"the newest Python that this release was tested on is {facts.newest_python}"
        return Finding(TOPIC, "note", what, why, "pip install --upgrade safetransformers")
    return Finding(TOPIC, "ok", what)


def _of_package(name: str, range_: str, installed: str | None) -> Finding:
    line = f"pip install '{name}{range_}'"
    if installed is None:
        return Finding(TOPIC, "problem", f"{name} is not installed", "nothing works without it", line)
    what = f"{name} {installed}"
    try:
        version_ = Version(installed)
    except InvalidVersion:
        return Finding(TOPIC, "note", what, f"its version is none that can be compared with {range_}", line)
    if SpecifierSet(range_).contains(version_, prereleases=True):
        return Finding(TOPIC, "ok", what)
    whose = "this release was proven with" if name in SUPPORTED else "the packages above it want"
    return Finding(TOPIC, "problem", what, f"{whose} {name}{range_}", line)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _required_by(package: str) -> dict[str, str]:
    """The range of each package that another one requires, whatever the extras."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        return {}
    wanted = [Requirement(line) for line in lines]
    return {
        canonicalize_name(one.name): str(one.specifier)
        for one in wanted
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }
