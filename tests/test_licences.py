"""What a user installs beside this package may be used in a product: every dependency, to the last, is permissive."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement

PERMISSIVE = {
    *("0BSD", "BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License", "BSL-1.0"),
    *("Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Apache Software License", "Apache 2.0 License"),
    *("MIT", "MIT License", "ISC License (ISCL)", "ISC", "HPND", "Zlib", "CC0-1.0", "CNRI-Python", "PSF-2.0"),
    "Python Software Foundation License",
}
# Copyleft by the file, which asks nothing of a program that only imports it.
ACCEPTED = {"tqdm": "MPL-2.0", "certifi": "Mozilla Public License 2.0 (MPL 2.0)"}
EXTRAS = ("cli", "tf")
# NVIDIA's own libraries, under NVIDIA's terms: torch's default wheels for Linux ask for them, its CPU wheels do not.
# Nothing here calls them but through torch.
CUDA = re.compile(r"(nvidia|cuda)-[a-z0-9-]+")


def installed() -> dict[str, Distribution]:
    """Each distribution that this package asks for with its extras, directly or through another."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(f"safetransformers[{','.join(EXTRAS)}]")]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(wanted.name)
        except PackageNotFoundError:  # for another system
            continue
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in wanted.extras or {""}
            ):
                waiting.append(needed)
    return found


def licences(one: Distribution) -> list[str]:
    """Each licence that its metadata name."""
    classifiers = [text for text in one.metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    named = [text.rpartition(" :: ")[2] for text in classifiers if not text.endswith("OSI Approved")]
    told = one.metadata.get("License-Expression") or (not named and one.metadata.get("License"))
    return re.split(r" (?:AND|OR) ", told) if told else named or ["none"]


@pytest.fixture(scope="module")
def dependencies() -> dict[str, Distribution]:
    return installed()


def test_every_dependency_is_permissive(dependencies: dict[str, Distribution]) -> None:
    others = {
        name: [text for text in licences(one) if text not in PERMISSIVE and ACCEPTED.get(name) != text]
        for name, one in dependencies.items()
        if not CUDA.fullmatch(name)
    }
    assert {name: found for name, found in others.items() if found} == {}


def test_the_dependencies_are_those_that_are_promised(dependencies: dict[str, Distribution]) -> None:
    own = [Requirement(text) for text in dependencies["safetransformers"].requires or ()]
    assert {one.name for one in own if one.marker is None} == {"transformers", "torch", "wrapt", "packaging"}
    assert {"torch", "huggingface-hub", "typer", "h5py"} <= dependencies.keys()
