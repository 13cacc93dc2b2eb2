"""Every row of the table explains an error that was really made here, given as an exception or as text."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from explain_hub_cases import HUB
from explain_machine_cases import MACHINE, NAMES, WITHOUT_CUDA
from explain_making import IS_5, Case, DidNotFailError, Made, Recorded
from explain_model_cases import FILES, PADDING, TASKS
from explain_recorded_devices import CHECKS, DEVICES
from explain_recorded_memory import LIBRARIES, MEMORY

import safetransformers as st
from safetransformers.explanations import pasted
from safetransformers.explanations.claims import claim, links
from safetransformers.explanations.meanings import MEANINGS
from safetransformers.explanations.rule import Claim, Rule
from safetransformers.explanations.table import RULES

pytestmark = pytest.mark.xdist_group("explain_table")  # what one test has made, the last one looks at
CASES = (*PADDING, *TASKS, *FILES, *HUB, *NAMES, *MACHINE, *(() if torch.version.cuda else WITHOUT_CUDA))
RECORDED = {**MEMORY, **LIBRARIES, **CHECKS, **DEVICES}
HERE = [case for case in CASES if case.happens_here]
# What the sources of rules are called: with transformers 4.57, and with 5.
_SOURCES = (("4.57.6", "0.36.2", "requests"), ("5.23.0", "2.4.0", "httpx2"))


@cache
def made(case: Case, folder: Path) -> Made:
    return case.make(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {case.name: tmp_path_factory.mktemp("case") for case in CASES}


@pytest.fixture
def failure(case: Case, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    modules = tmp_path_factory.getbasetemp() / "modules"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
        patch.setattr("builtins.input", lambda *_: "")  # nobody is there to be asked
        patch.syspath_prepend(modules)
        try:
            return made(case, folders[case.name])
        except DidNotFailError:
            assert not case.happens_here
            return ""


def printed(failure: Made) -> str:
    return failure if isinstance(failure, str) else "".join(traceback.format_exception(failure))


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.name)
def test_a_real_failure_is_explained(case: Case, failure: Made, folders: dict[str, Path]) -> None:
    told = st.explain(failure)
    assert told is not None, printed(failure)[-2000:]
    text = str(told)
    assert told.code == case.code, text
    for words in case.says:
        assert words in text, text
    assert str(folders[case.name]) not in text, "a whole path in a message"
    assert len(text.splitlines()) <= 10
    assert not re.search(r"\{\w*\}|(?<!\w)\(\)|: ?$", text, re.MULTILINE), text


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.name)
def test_the_printed_traceback_of_a_failure_has_the_same_explanation(case: Case, failure: Made) -> None:
    told = st.explain(printed(failure))
    assert told is not None and told.code == case.code, told


@pytest.mark.parametrize("case", [case for case in CASES if not case.happens_here], ids=lambda case: case.name)
def test_a_failure_of_one_version_is_another_one_in_the_other(case: Case, failure: Made) -> None:
    assert case.otherwise
    told = st.explain(failure)
    assert told is None or told.code != case.code


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.mark.parametrize("name", RECORDED)
def test_an_error_of_a_device_that_is_not_here_is_explained_as_users_posted_it(name: str) -> None:
    recorded = RECORDED[name]
    told = st.explain(recorded.text)
    assert told is not None and told.code == recorded.code, told
    for words in recorded.says:
        assert words in str(told), str(told)
    for words in recorded.never:
        assert words not in str(told), str(told)


@pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
def test_each_posted_text_says_which_thread_it_is_from_and_names_no_user(recorded: Recorded) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", recorded.source)
    assert recorded.made_by
    assert not re.search(r"/home/|/Users/|C:.Users|/root/", recorded.text)


def claims(failure: Made | Recorded) -> Iterator[Claim]:
    """Everything that a failure says."""
    if isinstance(failure, BaseException):
        for link, _ in links(failure):
            yield replace(claim(link), of_hub=True)
        return
    read = pasted.read(failure.text if isinstance(failure, Recorded) else failure)
    for chain in read.chains:
        yield from (replace(one, of_hub=True) for one in chain)
    yield from (replace(one, of_hub=True) for one in read.lines)


def is_for_here(rule: Rule) -> bool:
    """Whether the rule's source is in this environment; one that names no version of either is in both."""
    here, elsewhere = _SOURCES[IS_5], _SOURCES[not IS_5]
    return any(name in rule.source for name in here) or not any(name in rule.source for name in elsewhere)


def test_every_row_has_a_failure_that_was_made_here(folders: dict[str, Path]) -> None:
    said = [one for case in HERE for one in claims(made(case, folders[case.name]))]
    said += [one for recorded in RECORDED.values() for one in claims(recorded)]
    spoken = {rule for rule in RULES if any(rule.explain(one) for one in said)}
    without = [rule for rule in RULES if rule not in spoken and is_for_here(rule)]
    assert [f"{rule.code} {rule.pattern}" for rule in without] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_row_says_where_its_text_comes_from_and_its_code_has_a_meaning(rule: Rule) -> None:
    assert rule.source
    assert rule.answer is not None or (rule.what and rule.do)
    assert rule.code in MEANINGS
