"""The pytest plugin of both runs: patches where it is asked to, chooses the tests, writes each outcome as it comes.

It reads its orders from the environment, so that pytest's own options stay the suite's; ``run.py`` starts it with
``-p foreign_plugin``. In both runs it also seeds the random generators before each test, and makes peft believe that it
has asked the hub for every model before, so that it stays offline.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import foreign_numbers
import pytest

PATCH = "FOREIGN_PATCH"  # "1": safetransformers.patch() before the suite is imported
OUTCOMES = "FOREIGN_OUTCOMES"  # the file to write, one JSON object a line
ONLY = "FOREIGN_ONLY"  # a file of node ids, one a line: nothing else is run
SHARE = "FOREIGN_SHARE"  # the share of the tests to run, from 0 to 1; the same tests in every run
TEST_TIMEOUT_S = "FOREIGN_TEST_TIMEOUT_S"


class TestTookTooLongError(Exception):
    """One test ran into the time limit of a single test."""


class _AllKnown(dict[str, int]):
    """Of peft's ``hub_online_once``: every model was asked for before, so none makes it switch offline mode off."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> int:
        return 1


def pytest_configure(config: pytest.Config) -> None:
    """Patch transformers, and refuse to go on where that patched nothing."""
    if os.environ.get(PATCH) == "1":
        import safetransformers

        safetransformers.patch()
        if not safetransformers.patches():
            raise pytest.UsageError("safetransformers.patch() patched nothing")
        _count_guards()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of ``ONLY``, or the share of all."""
    if "_HUB_MODEL_ACCESSES" in vars(helpers := sys.modules.get("tests.testing_utils", sys)):
        vars(helpers)["_HUB_MODEL_ACCESSES"] = _AllKnown()
    share = float(os.environ.get(SHARE, "1"))
    if only := os.environ.get(ONLY):
        wanted = frozenset(Path(only).read_text().splitlines())
        kept = [item for item in items if item.nodeid in wanted]
    else:
        kept = [item for item in items if zlib.crc32(item.nodeid.encode()) < share * 2**32]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed before fixtures are made, and count from here."""
    _test.before = counts()
    foreign_numbers.seed()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Watch the numbers, and end a test that takes too long. A call into C is ended when it comes back."""
    is_traced = any(word in item.nodeid.lower() for word in ("compile", "export", "executorch"))  # hooks get in the way
    foreign_numbers.seed()
    previous = signal.signal(signal.SIGALRM, _stop)
    signal.alarm(int(os.environ.get(TEST_TIMEOUT_S, "60")))
    try:
        with nullcontext(foreign_numbers.Numbers()) if is_traced else foreign_numbers.numbers() as _test.numbers:
            return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of each phase of a test: what a killed run has finished still counts."""
    if report.when == "call":
        line = {"acts": counts() - _test.before, "checksum": _test.numbers.checksum}
    elif report.outcome != "passed":
        line = {}
    else:
        return
    text = report.longreprtext.strip().splitlines()[-40:] if report.failed else []
    _write(test=report.nodeid, phase=report.when, outcome=report.outcome, text=text, **line)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Write which files could not be imported."""
    if report.failed:
        _write(
            test=report.nodeid, phase="collect", outcome="failed", text=report.longreprtext.strip().splitlines()[-5:]
        )


# The fixtures of sentence-transformers' conftest.py, which its sdist leaves out.
TINY_BERT = "hf-internal-testing/tiny-random-BertModel"
TINY_MASKED_BERT = "hf-internal-testing/tiny-random-BertForMaskedLM"


@pytest.fixture
def stsb_bert_tiny_model() -> Any:
    """A sentence-transformers model with mean pooling."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(TINY_BERT, device="cpu")


@pytest.fixture
def splade_bert_tiny_model() -> Any:
    """A sparse encoder."""
    from sentence_transformers import SparseEncoder

    return SparseEncoder(TINY_MASKED_BERT, device="cpu")


@pytest.fixture
def reranker_bert_tiny_model() -> Any:
    """A cross encoder of one label."""
    from sentence_transformers import CrossEncoder

    return CrossEncoder(TINY_BERT, num_labels=1, device="cpu")


@pytest.fixture
def mve_bert_tiny_model() -> Any:
    """A multi-vector encoder."""
    from sentence_transformers import MultiVectorEncoder

    return MultiVectorEncoder(TINY_BERT, device="cpu")


class _Test:
    """Of the test that runs now."""

    def __init__(self) -> None:
        self.before: Counter[str] = Counter()
        self.numbers = foreign_numbers.Numbers()


_test = _Test()
_guarded: Counter[str] = Counter()


def counts() -> Counter[str]:
    """What the guards have done so far, by kind; ``"guarded"`` is the models that got one."""
    if os.environ.get(PATCH) != "1":
        return Counter()
    import safetransformers

    return Counter(safetransformers.report()) + _guarded


def _count_guards() -> None:
    """Count the models that get a guard: a test that loads none says nothing about the patch."""
    from safetransformers import guards

    plain = guards.guard

    def counted(model: Any, **fields: Any) -> Any:
        _guarded["guarded"] += 1
        return plain(model, **fields)

    guards.guard = counted


def _stop(signum: int, frame: FrameType | None) -> None:
    raise TestTookTooLongError


def _write(**line: Any) -> None:
    with Path(os.environ[OUTCOMES]).open("a") as file:
        file.write(json.dumps(line) + "\n")
