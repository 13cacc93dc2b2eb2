"""Reads a wheel of transformers without importing it: public names, model types, names inside modules, requirements."""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

_ROOT = "transformers/"
_MODELS = f"{_ROOT}models/"
_MAPPINGS = (f"{_MODELS}auto/auto_mappings.py", f"{_MODELS}auto/configuration_auto.py")
# What `define_import_structure` passes over (utils/import_utils.py, 5.23), and what an `__init__` re-exports.
_NOT_EXPORTED = ("convert_", "modular_", "__init__")
# The requirements that decide whether a release can be installed beside what is there.
_DECIDING = ("torch", "huggingface-hub", "tokenizers", "safetensors")
# Modules whose names other code imports: all but those of single models, of which the modeling files count.
_INSIDE = re.compile(
    r"transformers/(\w+|(agents|data|generation|integrations|loss|onnx|pipelines|quantizers|utils|models/auto)/\w+"
    r"|models/\w+/modeling_\w+)\.py"
)
_OUTSIDE = re.compile(r"transformers/(utils/dummy_\w+|models/\w+/modeling_(tf|flax)_\w+|convert_\w+|commands/\w+)\.py")


@dataclass(frozen=True)
class Release:
    """One release, as its wheel shows it.

    Attributes:
        version: such as ``"4.57.6"``.
        date: the day on which the wheel was built, such as ``"2026-11-20"``.
        names: what ``from transformers import ...`` gives, whatever is installed besides.
        model_types: the keys of the mapping of configurations.
        inner: for each module, the names that can be imported from it.
        requires: the range of Python, and of each package that decides whether the release can be installed.
    """

    version: str
    date: str
    names: frozenset[str]
    model_types: frozenset[str]
    inner: dict[str, frozenset[str]]
    requires: dict[str, str]


class Wheels:
    """A reader of many wheels. Most files are the same from one release to the next, and each is parsed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, int, int], frozenset[str]] = {}

    def read(self, wheel: Path) -> Release:
        """Everything that the table needs of one wheel."""
        with zipfile.ZipFile(wheel) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".py")]
            metadata = next(entry for entry in archive.infolist() if entry.filename.endswith(".dist-info/METADATA"))
            headers = HeaderParser().parsestr(archive.read(metadata).decode())

            def names_in(
                parse: Callable[[str], Iterator[str]], is_meant: Callable[[str], Any]
            ) -> dict[str, frozenset[str]]:
                return {e.filename: self._names(archive, e, parse) for e in entries if is_meant(e.filename)}

            public = names_in(_structure, lambda path: path == f"{_ROOT}__init__.py")
            if b"define_import_structure" in archive.read(f"{_ROOT}__init__.py"):
                public |= names_in(_all, _is_exported)
            types = names_in(_model_types, lambda path: path in _MAPPINGS)
            inner = names_in(_importable, _is_inside)
        return Release(
            version=str(headers["Version"]),
            date="{:04}-{:02}-{:02}".format(*metadata.date_time),
            names=frozenset().union(*public.values()),
            model_types=frozenset().union(*types.values()),
            inner={_module(path): names for path, names in inner.items()},
            requires=_requirements(headers.get_all("Requires-Dist") or [], str(headers["Requires-Python"])),
        )

    def _names(
        self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, parse: Callable[[str], Iterator[str]]
    ) -> frozenset[str]:
        key = (parse, entry.CRC, entry.file_size)
        if key not in self._known:
            self._known[key] = frozenset(parse(archive.read(entry).decode()))
        return self._known[key]


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _is_exported(path: str) -> bool:
    return path.startswith(_MODELS) and not path.rpartition("/")[2].startswith(_NOT_EXPORTED)


def _is_inside(path: str) -> bool:
    return _INSIDE.fullmatch(path) is not None and _OUTSIDE.fullmatch(path) is None


def _structure(source: str) -> Iterator[str]:
    """The names that are put into ``_import_structure``, under whatever condition."""
    for node in ast.walk(ast.parse(source)):
        yield from _added(node)


def _added(node: ast.AST) -> Iterator[str]:
    """What one statement adds to ``_import_structure``: an assignment, ``+=``, ``extend`` or ``append``."""
    if isinstance(node, (ast.Assign, ast.AugAssign)) and _is_structure(
        getattr(node, "target", None) or node.targets[0]
    ):
        values = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_structure(node.func.value):
        values = node.args if node.func.attr in ("extend", "append") else []
    else:
        return
    for value in values:
        yield from _strings(value)


def _is_structure(node: ast.AST) -> bool:
    while isinstance(node, (ast.Subscript, ast.Call, ast.Attribute)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id == "_import_structure"


def _strings(node: ast.AST) -> Iterator[str]:
    elements = node.elts if isinstance(node, (ast.List, ast.Tuple, ast.Set)) else [node]
    yield from (one.value for one in elements if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _all(source: str) -> Iterator[str]:
    if "__all__" not in source:
        return
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            yield from _strings(node.value)  # type: ignore[attr-defined]  # one of the three kinds of assignment


def _model_types(source: str) -> Iterator[str]:
    """The keys of ``CONFIG_MAPPING_NAMES``, or of ``CONFIG_MAPPING`` before there was one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in ("CONFIG_MAPPING_NAMES", "CONFIG_MAPPING", "SPECIAL_CONFIG_MAPPING"):
                yield from _keys(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "CONFIG_MAPPING_NAMES.update":
            yield from _keys(node)


def _keys(node: ast.AST) -> Iterator[str]:
    """The first of each pair of an ``OrderedDict([...])``, or the keys of a dictionary."""
    for part in ast.walk(node):
        if isinstance(part, ast.Dict):
            yield from (key.value for key in part.keys if isinstance(key, ast.Constant))
        elif isinstance(part, ast.Tuple) and len(part.elts) == 2 and isinstance(part.elts[0], ast.Constant):
            yield part.elts[0].value


def _importable(source: str) -> Iterator[str]:
    """The names that a module's top level binds, imports among them, whatever the branches are taken."""
    yield from (name for name in _bound(ast.parse(source).body) if not name.startswith("_"))


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield from (one.asname or one.name for one in node.names)
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            for part in ("body", "orelse", "finalbody"):
                yield from _bound(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from _bound(handler.body)


def _requirements(lines: list[str], python: str) -> dict[str, str]:
    """The range of each deciding package; that of torch stands under the extra of the same name."""
    found = {"python": python}
    for requirement in map(Requirement, lines):
        name = requirement.name.lower().replace("_", "-")
        is_asked = requirement.marker is None or requirement.marker.evaluate({"extra": "torch"})
        if name in _DECIDING and is_asked and str(requirement.specifier):
            found[name] = str(requirement.specifier)
    return found
