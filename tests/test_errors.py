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
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from safetransformers import errors, notices
from safetransformers.errors import SafeTransformersError, SafeTransformersWarning
from safetransformers.explanation import Explanation

PACKAGE = Path(errors.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
CODE = re.compile(r"ST-[A-Z]+-\d{3}")
PAGES = ROOT / "docs" / "errors"
NAMED = sorted({code for source in SOURCES for code in CODE.findall(source.read_text(encoding="utf-8"))})
EXPLAINED = [code for code in NAMED if not code.startswith("ST-TEST")]
PARTS_OF_A_PAGE = ["What happened", "Why", "What to do", "How to switch it off", "See also"]
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
        assert (again.details["keys"], again.details["revision"]) == (["a", "b"], None)


def test_the_error_of_a_missing_name_says_which_module_lacks_it_as_any_import_error_does() -> None:
    error = errors.MissingNameError("ST-TEST-001", "X is missing", module="safetransformers", path="__init__.py")
    again = pickle.loads(pickle.dumps(error))
    assert (again.name, again.path) == (error.name, error.path) == ("safetransformers", "__init__.py")


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


@cache
def used() -> dict[str, set[str]]:
    """For each code that a line of the source uses, the packages and files that do: a docstring only speaks of it."""
    found = defaultdict(set)
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found[node.value].add(source.relative_to(PACKAGE).parts[0])
    return found


@cache
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


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)  # a comment in a console is none
    return re.findall(r"^#.*", outside, re.MULTILINE)


@pytest.mark.parametrize("code", EXPLAINED)
def test_each_code_means_one_thing(code: str) -> None:
    exceptions = {name for name in makers()[code] if issubclass(getattr(errors, name), SafeTransformersError)}
    assert len(exceptions) <= 1
    assert len(used()[code] - {"explanations"}) <= 1  # which names what the others raise


@pytest.mark.parametrize("code", EXPLAINED)
def test_each_code_has_a_page_that_names_the_class_to_catch(code: str) -> None:
    text = page(code)
    assert text.startswith(f"# {code}\n")
    assert headings(text) == [f"# {code}", *(f"## {part}" for part in PARTS_OF_A_PAGE)]
    for name in makers()[code]:
        assert f"`{name}`" in text.partition("## ")[0]


def test_the_index_lists_each_page_once_with_the_class_to_catch() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (.+?) \| .+ \|$", page("index"), re.MULTILINE)
    listed = sorted((code, link) for code, link, _ in rows)
    assert listed == sorted((path.stem, path.name) for path in PAGES.glob("*.md") if path.stem != "index")
    for code, _, classes in rows:
        assert {name for name in makers()[code] if f"`{name}`" not in classes} == set()


def test_each_page_is_of_a_code_that_is_raised_or_explained() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} - {"index"} <= set(used())


def test_a_reader_finds_the_page_at_the_link_that_a_message_gives() -> None:
    assert ROOT / Explanation("ST-HUB-004", "what").link == PAGES / "ST-HUB-004.md"
    assert not (ROOT / "docs" / "errors.md").exists()


def test_each_link_of_the_pages_leads_to_a_file() -> None:
    for path in PAGES.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            assert (PAGES / link).resolve().is_file(), f"{link} in {path.name}"


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
