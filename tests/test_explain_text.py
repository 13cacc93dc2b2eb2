"""explain() of exceptions with their causes, and of tracebacks as users paste them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from explain_making import printed, raised
from models import tiny

import safetransformers as st
from safetransformers.errors import HubError, PaddingError

NEEDS_GROUPS = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
TOO_FAR = torch.tensor([[5, 99]])


def out_of_range() -> BaseException:
    return raised(lambda: tiny("bert")(TOO_FAR))


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def code_of(told: BaseException | str) -> str | None:
    found = st.explain(told)
    return found.code if found else None


# What is inside an exception


def test_a_cause_of_another_error_is_found() -> None:
    def train() -> None:
        try:
            tiny("bert")(TOO_FAR)
        except IndexError as error:
            raise RuntimeError("step 3 failed") from error

    error = raised(train)
    assert code_of(error) == code_of(text_of(error)) == "ST-ASSERT-502"


@pytest.mark.parametrize(
    "handled",
    [ModuleNotFoundError("No module named 'flash_attn'"), MemoryError(), IndexError("index out of range in self")],
    ids=lambda error: type(error).__name__,
)
def test_what_was_merely_being_handled_does_not_explain_an_error_that_nobody_knows(handled: Exception) -> None:
    def start(suppress: bool) -> None:
        try:
            raise handled
        except type(handled):
            if suppress:
                raise ValueError("the database is down") from None
            raise ValueError("the database is down")  # noqa: B904 - as users write it

    def serve() -> None:
        try:
            start(False)
        except ValueError as error:
            raise RuntimeError("the service is down") from error

    assert st.explain(handled) is not None
    for error in (raised(lambda: start(False)), raised(lambda: start(True)), raised(serve)):
        assert code_of(error) is None and code_of(text_of(error)) is None


def test_what_was_being_handled_may_say_which_of_many_causes_a_known_error_has() -> None:
    def use() -> None:
        try:
            raise ModuleNotFoundError("No module named 'flash_attn'")
        except ModuleNotFoundError:
            raise ModuleNotFoundError(  # noqa: B904 - as it is seen where a library chains nothing
                "Could not import module 'BertModel'. Are this object's requirements defined correctly?"
            )

    def serve() -> None:
        try:
            use()
        except ModuleNotFoundError as error:
            raise RuntimeError("the service is down") from error

    for error in (raised(use), raised(serve)):
        assert code_of(error) == code_of(text_of(error)) == "ST-NAME-502"


def test_another_failure_that_was_handled_before_does_not_hide_the_one_that_was_raised() -> None:
    def train() -> None:
        try:
            tiny("bert")(TOO_FAR)
        except IndexError:
            raise ValueError("Cannot handle batch sizes > 1 if no padding token is defined.") from None

    def evaluate() -> None:
        try:
            tiny("bert")(TOO_FAR)
        except IndexError:
            tiny("bert-classifier")(torch.tensor([[5]]), labels=torch.tensor([7]))

    assert code_of(raised(train)) == "ST-MASK-504"
    assert code_of(raised(evaluate)) == "ST-ASSERT-503"  # the label is what was raised; the id was handled


@NEEDS_GROUPS
def test_a_known_error_in_a_group_is_found() -> None:
    group = BaseExceptionGroup("two workers", [ValueError("something else"), out_of_range()])  # noqa: F821 - 3.11
    error = raised(lambda: (_ for _ in ()).throw(group))
    assert code_of(error) == code_of(text_of(error)) == "ST-ASSERT-502"


def test_a_traceback_in_the_message_of_a_workers_error_is_read() -> None:
    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, row: int) -> torch.Tensor:
            return torch.nn.functional.embedding(TOO_FAR, torch.zeros(2, 2))

    loader = torch.utils.data.DataLoader(Rows(), num_workers=1, multiprocessing_context="fork")
    error = raised(lambda: next(iter(loader)))
    assert "Caught IndexError in DataLoader worker" in str(error)
    assert code_of(error) == code_of(text_of(error)) == "ST-ASSERT-502"


def test_a_loop_of_causes_ends() -> None:
    first, second = ValueError("one"), ValueError("two")
    first.__cause__, second.__cause__ = second, first
    assert st.explain(first) is None


def test_an_exception_is_not_changed() -> None:
    error = out_of_range()
    before = (type(error), error.args, error.__traceback__, dict(vars(error)))
    assert st.explain(error) is not None
    assert (type(error), error.args, error.__traceback__, dict(vars(error))) == before


# Our own errors


@pytest.mark.parametrize("chained", [False, True])
def test_an_error_of_this_library_says_what_it_says_itself(chained: bool) -> None:
    def run() -> None:
        try:
            with st.strict():
                st.guard(tiny("bert"))(torch.tensor([[5, 0], [5, 6]]))
        except PaddingError as error:
            if not chained:
                raise
            raise RuntimeError("the service is down") from error

    error = raised(run)
    own = error.__cause__ if chained else error
    assert isinstance(own, PaddingError)
    for told in (st.explain(error), st.explain(text_of(error)), st.explain(str(own))):
        assert told is not None
        assert (told.code, told.what, told.why, told.do) == (own.code, own.what, own.why, own.do)


def test_a_warning_of_this_library_is_read_as_it_is_printed() -> None:
    text = "train.py:12: UnmaskedPaddingWarning: [ST-MASK-002] no mask\nWhy: 3 pads\nDo: pass it\n  loss = model(ids)\n"
    told = st.explain(text)
    assert told is not None and (told.code, told.what, told.why) == ("ST-MASK-002", "no mask", "3 pads")


def test_a_code_of_no_family_is_unknown() -> None:
    assert st.explain(HubError("ST-NONE-001", "what")) is None
    assert st.explain("[ST-NONE-001] what") is None
    assert st.explain("ST-HUB-999") is None


@pytest.mark.parametrize("text", ["ST-HUB-004", " [ST-HUB-004]\n"])
def test_a_code_alone_is_explained(text: str) -> None:
    told = st.explain(text)
    assert told is not None and told.code == "ST-HUB-004" and told.what


# Layouts


def _plain(_: Path) -> str:
    return text_of(out_of_range())


def _chained(_: Path) -> str:
    return text_of(raised(lambda: _wrap(out_of_range())))


def _wrap(error: BaseException) -> None:
    raise RuntimeError("step 3 failed") from error


def _with_notes(_: Path) -> str:
    error = out_of_range()
    if sys.version_info >= (3, 11):
        error.add_note("while reading row 3")
    return text_of(error)


def _in_a_log(_: Path) -> str:
    lines = _plain(_).splitlines()
    return "\n".join(f"2026-11-26T12:00:{i % 60:02}.123Z stderr F {line}" for i, line in enumerate(lines))


def _of_compose(_: Path) -> str:
    return textwrap.indent(_plain(_), "trainer_1  | ", lambda _: True)


def _logged_by_logging(_: Path) -> str:
    code = (
        "import logging, torch; logging.basicConfig(format='%(asctime)s - %(name)s - %(levelname)s - %(message)s')\n"
        "try: torch.nn.functional.embedding(torch.tensor([9]), torch.zeros(2, 2))\n"
        "except IndexError: logging.exception('training failed'); raise SystemExit(1)"
    )
    return printed(code)


def _coloured(_: Path) -> str:
    return "\n".join(f"\x1b[1;31m{line}\x1b[0m" for line in _plain(_).splitlines())


def _windows_lines(_: Path) -> str:
    return _plain(_).replace("\n", "\r\n")


def _of_pytest(folder: Path) -> str:
    test = folder / "test_mine.py"
    test.write_text(
        "import torch\ndef test_it():\n    torch.nn.functional.embedding(torch.tensor([9]), torch.zeros(2, 2))\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, test]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def _of_ipython(_: Path) -> str:
    from IPython.core.ultratb import FormattedTB

    error = out_of_range()
    return "\n".join(FormattedTB("Context").structured_traceback(type(error), error, error.__traceback__))


def _mixed_ranks(_: Path) -> str:
    lines = _plain(_).splitlines()
    mixed = [line for pair in zip(lines, lines, strict=True) for line in (f"[rank1]: {pair[0]}", f"[rank0]: {pair[1]}")]
    return "\n".join(mixed)


def _with_a_prompt(_: Path) -> str:
    return f">>> model(ids)\n{_plain(_)}>>> model(other)\n"


def _first_lines_lost(_: Path) -> str:
    return "\n".join(_plain(_).splitlines()[3:])


def _message_alone(_: Path) -> str:
    return "IndexError: index out of range in self"


LAYOUTS: tuple[Callable[[Path], str], ...] = (
    _plain,
    _chained,
    _with_notes,
    _in_a_log,
    _of_compose,
    _logged_by_logging,
    _coloured,
    _windows_lines,
    _of_pytest,
    _of_ipython,
    _mixed_ranks,
    _with_a_prompt,
    _first_lines_lost,
    _message_alone,
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__.strip("_"))
def test_a_traceback_is_read_however_it_was_printed(layout: Callable[[Path], str], tmp_path: Path) -> None:
    text = layout(tmp_path)
    assert "index out of range in self" in text
    assert code_of(text) == "ST-ASSERT-502"
    surrounded = f"epoch 1: loss 0.3\n\n{text}\n\nreal 0m3.1s\nuser 0m2.2s\n"
    assert code_of(surrounded) == "ST-ASSERT-502"


def test_the_check_that_failed_on_the_gpu_is_found_above_the_traceback() -> None:
    text = (
        "/pytorch/aten/src/ATen/native/cuda/Loss.cu:250: nll_loss: block: [0,0,0], thread: [3,0,0] Assertion "
        "`t >= 0 && t < n_classes` failed.\n"
        'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n'
        "    loss.backward()\ntorch.AcceleratorError: CUDA error: device-side assert triggered\n"
    )
    assert code_of(text) == "ST-ASSERT-503"


def test_the_lines_of_two_workers_that_fail_at_once_are_told_apart() -> None:
    state = tiny("bert", vocab_size=70).state_dict()
    known = text_of(raised(lambda: tiny("bert").load_state_dict(state))).splitlines()
    other = text_of(raised(lambda: int("x"))).splitlines()
    other += ["of the other worker"] * (len(known) - len(other))
    mixed = [line for pair in zip(known, other, strict=True) for line in (f"[rank1]: {pair[0]}", f"[rank0]: {pair[1]}")]
    told = st.explain("\n".join(mixed))
    assert told is not None and told.code == "ST-LOAD-001" and "size mismatch for embeddings" in told.why


def test_of_two_tracebacks_the_last_one_that_is_known_speaks() -> None:
    label = text_of(raised(lambda: tiny("bert-classifier")(torch.tensor([[5]]), labels=torch.tensor([7]))))
    other = text_of(raised(lambda: int("x")))
    assert code_of(text_of(out_of_range()) + label + other) == "ST-ASSERT-503"


# What a text never shows


def test_the_folders_of_a_checkpoint_with_code_of_its_own_are_not_shown() -> None:
    for text in (
        "ValueError: Loading /home/secret/a/b requires you to execute the configuration file in that repo",
        "ValueError: The repository /home/secret/a/b contains custom code which must be executed to correctly load",
    ):
        told = st.explain(text)
        assert told is not None and told.code == "ST-LOAD-501"
        assert "b is loaded by Python code of its own" in told.what and "secret" not in str(told)


@pytest.mark.parametrize("user", ["user:pass@", "user@", "user:p@ss@"])
def test_the_user_of_a_proxy_is_not_shown(user: str) -> None:
    told = st.explain(
        f"requests.exceptions.ProxyError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded "
        f"(Caused by ProxyError('Cannot connect to http://{user}h:1', OSError('refused')))"
    )
    assert told is not None and told.code == "ST-HUB-502"
    assert "http://h:1" in told.what and user not in str(told)


def test_a_value_of_any_length_is_shown_with_200_characters() -> None:
    for text in (
        f"ValueError: The repository {'a' * 999} contains custom code which must be executed to correctly load",
        (
            f"ValueError: The checkpoint you are trying to load has model type `{'a' * 999}` but Transformers does not "
            "recognize this architecture"
        ),
    ):
        told = st.explain(text)
        assert told is not None
        assert "a" * 197 + "..." in told.what and "a" * 198 not in str(told)


# What a GPU prints apart from the exception

_CHECK = (
    "../aten/src/ATen/native/cuda/Indexing.cu:1146: indexSelectLargeIndex: block: [84,0,0], thread: [101,0,0] "
    "Assertion `srcIndex < srcSelectDimSize` failed.\n"
)
_TRACE = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    train()\nRuntimeError: {}\n'


@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("rank", ["", "[rank0]: "], ids=["one process", "a rank"])
@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: device-side assert triggered",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    ],
    ids=["assert", "cuBLAS"],
)
def test_a_check_on_the_gpu_says_what_the_exception_beside_it_is_about(words: str, rank: str, is_first: bool) -> None:
    trace = "".join(rank + line for line in _TRACE.format(words).splitlines(keepends=True))
    assert code_of(_CHECK + trace if is_first else trace + _CHECK) == "ST-ASSERT-502"


def test_a_check_on_the_gpu_does_not_explain_a_rank_that_knows_what_it_died_of() -> None:
    trace = _TRACE.format("CUDA out of memory. Tried to allocate 2.00 GiB.").splitlines(keepends=True)
    assert code_of(_CHECK + "".join(f"[rank0]: {line}" for line in trace)) == "ST-OOM-501"
