"""Errors that old ``except`` clauses catch, that travel between processes, and that say what to do."""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import pickle
import re
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from safetransformers import errors, notices
from safetransformers.errors import SafeTransformersError, SafeTransformersWarning

PACKAGE = Path(errors.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
CODE = re.compile(r"ST-[A-Z]+-\d{3}")
RAISED = sorted({code for source in SOURCES for code in CODE.findall(source.read_text(encoding="utf-8"))})
EXCEPTIONS = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, SafeTransformersError) and cls is not SafeTransformersError
]  # fmt: skip
WARNINGS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Warning)]
PARTS = {"why": "1 of 2 rows", "do": "pass attention_mask", "off": 'configure(padding="off")'}


def made(cls: type[SafeTransformersError]) -> SafeTransformersError:
    return cls("ST-TEST-001", "something happened", **PARTS, keys=["a", "b"], revision=None)


def fail(cls: type[SafeTransformersError]) -> None:
    raise made(cls)


@pytest.mark.parametrize("cls", EXCEPTIONS)
def test_each_exception_is_also_the_builtin_that_its_docstring_promises(cls: type[SafeTransformersError]) -> None:
    promised = {name for name in re.findall(r"``(\w+)``", cls.__doc__ or "") if hasattr(builtins, name)}
    inherited = {base.__name__ for base in cls.__mro__ if hasattr(builtins, base.__name__)}
    assert promised <= inherited
    assert inherited - {"Exception", "BaseException", "object"}


def test_the_promises_of_the_loading_guard_and_the_policy() -> None:
    assert issubclass(errors.LoadingError, RuntimeError)
    assert issubclass(errors.UnsafeWeightsError, OSError)
    assert issubclass(errors.RemoteCodeError, ValueError)
    assert issubclass(errors.PaddingError, ValueError)
    assert issubclass(errors.PolicyError, ValueError)
    assert issubclass(errors.PolicyError, TypeError)


@pytest.mark.parametrize("cls", EXCEPTIONS)
def test_each_exception_keeps_its_attributes_through_pickle_and_copy(cls: type[SafeTransformersError]) -> None:
    error = made(cls)
    for again in (*(pickle.loads(pickle.dumps(error, p)) for p in range(6)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is cls
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert again.args == error.args
        assert again.details == {"keys": ["a", "b"], "revision": None}


def test_an_exception_of_a_worker_process_arrives_whole() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for cls in EXCEPTIONS:
            with pytest.raises(cls) as info:
                pool.submit(fail, cls).result(60)
            assert vars(info.value)["details"] == made(cls).details
            assert (info.value.code, info.value.do, info.value.off) == ("ST-TEST-001", PARTS["do"], PARTS["off"])


@pytest.mark.parametrize("cls", EXCEPTIONS)
def test_the_text_has_four_parts_and_leaves_empty_ones_out(cls: type[SafeTransformersError]) -> None:
    lines = str(made(cls)).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["[ST-TEST-001]", "Why:", "Do:", "Off:"]
    assert str(cls("ST-TEST-001", "what")) == "[ST-TEST-001] what"
    assert str(cls("ST-TEST-001", "what", do="this")).splitlines()[1:] == ["Do: this"]


@pytest.mark.parametrize("cls", WARNINGS)
def test_one_filter_reaches_every_warning(cls: type[Warning]) -> None:
    assert issubclass(cls, SafeTransformersWarning)
    assert issubclass(cls, UserWarning)
    assert cls.__doc__


def makers() -> dict[str, set[str]]:
    """For each code of the source, the exceptions and warnings that are made with it."""
    found = defaultdict(set)
    classes = {cls.__name__ for cls in (*EXCEPTIONS, *WARNINGS)}
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                named = {n.id for n in (node.func, *node.args) if isinstance(n, ast.Name)} & classes
                codes = [c for n in node.args for c in ast.walk(n) if isinstance(c, ast.Constant)]
                for constant in codes:
                    if isinstance(constant.value, str) and CODE.fullmatch(constant.value):
                        found[constant.value] |= named
    return found


@pytest.mark.parametrize("code", [code for code in RAISED if not code.startswith("ST-TEST")])
def test_each_code_means_one_thing_and_is_explained(code: str) -> None:
    exceptions = {name for name in makers()[code] if issubclass(getattr(errors, name), SafeTransformersError)}
    assert len(exceptions) <= 1
    where = {source.relative_to(PACKAGE).parts[0] for source in SOURCES if code in source.read_text(encoding="utf-8")}
    assert len(where - {"errors.py"}) <= 1
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"^## {code}\b", page, re.MULTILINE)) == 1


def test_each_explained_code_is_raised() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (ST-[A-Z]+-\d{3})\b", page, re.MULTILINE)) <= set(RAISED)


def warn(cause: str = "cause") -> None:
    notices.warn_once(errors.LoadingWarning, cause, errors.message("ST-TEST-001", "something"))


def test_a_warning_is_given_once_for_each_cause_and_line() -> None:
    def lines(told: list[Any]) -> list[int]:
        return [warning.lineno - first for warning in told]

    first = inspect.currentframe().f_lineno + 4  # type: ignore[union-attr]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for cause in ("one", "two") * 3:
            notices.warn_once(errors.LoadingWarning, cause, "text")
            notices.warn_once(errors.PaddingWarning, cause, "text")
        notices.warn_once(errors.LoadingWarning, "one", "text")
    assert lines(told) == [0, 1, 0, 1, 2]
    assert {warning.filename for warning in told} == {__file__}


def test_a_warning_that_is_an_error_is_raised_where_the_user_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SafeTransformersWarning)
        with pytest.raises(errors.LoadingWarning, match="something"):
            warn()
