"""The stub says what the module does: same names, same signatures, same policy fields and values."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import safetransformers
from safetransformers.policies import CHOICES

STUB = ast.parse((Path(safetransformers.__file__).parent / "__init__.pyi").read_text())
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
ALIASES = {
    ast.unparse(node.target): ast.unparse(node.value)
    for node in STUB.body
    if isinstance(node, ast.AnnAssign) and node.value is not None
}
# Names that the stub takes from our own modules; `from . import errors` is a submodule, which needs no entry.
REEXPORTED = {
    alias.asname
    for node in STUB.body
    if isinstance(node, ast.ImportFrom) and node.level and node.module
    for alias in node.names
    if alias.asname
}
# name, kind, default: what a caller can pass. The name of *args or **kwargs is nobody's business.
Parameter = tuple[str, Any, str]


def stub_parameters(name: str) -> list[Parameter]:
    """The parameters of a function of the stub, read by running its header without annotations."""
    node = ast.parse(ast.unparse(FUNCTIONS[name])).body[0]
    assert isinstance(node, ast.FunctionDef)
    for argument in ast.walk(node):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    node.returns = None
    scope: dict[str, Any] = {}
    exec(ast.unparse(node), scope)
    return parameters(scope[name])


def parameters(function: Any) -> list[Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        ("" if parameter.kind in variadic else parameter.name, parameter.kind, repr(parameter.default))
        for parameter in inspect.signature(function).parameters.values()
    ]


def fields_of(class_name: str) -> dict[str, str]:
    """Field name -> annotation of a class of the stub, its aliases resolved."""
    return {
        ast.unparse(node.target): ALIASES.get(text := ast.unparse(node.annotation).removesuffix(" | None"), text)
        for node in CLASSES[class_name].body
        if isinstance(node, ast.AnnAssign)
    }


def test_the_stub_and_the_module_have_the_same_public_names() -> None:
    public_classes = {name for name in CLASSES if not name.startswith("_")}
    assert {*FUNCTIONS, *public_classes, *REEXPORTED} == set(safetransformers.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_the_stub_says(name: str) -> None:
    assert parameters(getattr(safetransformers, name)) == stub_parameters(name)


def test_the_policy_has_the_fields_of_the_stub_in_the_same_order() -> None:
    names = [field.name for field in dataclasses.fields(safetransformers.Policy)]
    assert names == list(fields_of("Policy"))
    assert set(names) == {*fields_of("_Guards"), *fields_of("_Fields")}


@pytest.mark.parametrize("class_name", ["Policy", "_Guards"])
def test_each_policy_field_has_the_values_of_the_stub(class_name: str) -> None:
    for field, annotation in fields_of(class_name).items():
        if field != "strict":
            values = typing.get_args(eval(annotation, {"Literal": typing.Literal}))
            assert values == CHOICES[field][0], field


def test_no_submodule_takes_the_place_of_a_public_name() -> None:
    code = """
import importlib, pkgutil, types
import safetransformers
for module in pkgutil.walk_packages(safetransformers.__path__, "safetransformers."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
taken = [name for name in safetransformers.__all__ if isinstance(getattr(safetransformers, name), types.ModuleType)]
assert not taken, taken
"""
    subprocess.run([sys.executable, "-c", code], check=True)
