"""Uncaught exceptions say what they are about under patch(), wherever they end, and nothing else changes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wrapt
from explain_making import raised
from models import tiny
from transformers import BertModel

import safetransformers as st
from safetransformers.explanations import uncaught

HAS_NOTES = sys.version_info >= (3, 11)
LINE = "[ST-ASSERT-503] the label 7 is not one of the classes of the model"
KNOWN = "IndexError: Target 7 is out of bounds."
FAIL = "raise IndexError('Target 7 is out of bounds.')"
PATCH = "import safetransformers; safetransformers.patch()"
ROOT = Path(__file__).parents[1]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(script: str, folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    full = [*(command or (sys.executable,)), str(path)]
    return subprocess.run(full, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env=ENV | env)


@pytest.fixture(autouse=True)
def hooks() -> Iterator[None]:
    """Whatever a test leaves on the hooks is taken off."""
    before = sys.excepthook, threading.excepthook
    yield
    st.unpatch()
    sys.excepthook, threading.excepthook = before


def error(text: str = "Target 7 is out of bounds.") -> IndexError:
    made = raised(lambda: (_ for _ in ()).throw(IndexError(text)))
    assert isinstance(made, IndexError)
    return made


def given(made: BaseException) -> None:
    """What Python does with an exception that nobody caught."""
    sys.excepthook(type(made), made, made.__traceback__)


# Scripts, threads, workers


def test_a_script_that_fails_says_what_it_is_about_and_ends_as_before(tmp_path: Path) -> None:
    plain = run(FAIL, tmp_path)
    noted = run(f"{PATCH}; {FAIL}", tmp_path)
    assert plain.returncode == noted.returncode == 1
    assert KNOWN in plain.stderr and LINE not in plain.stderr
    assert noted.stderr.count(LINE) == 1 and noted.stderr.index(KNOWN) < noted.stderr.index(LINE)
    assert noted.stdout == plain.stdout == ""


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "raise KeyboardInterrupt", "raise ValueError('mine')", "pass"])
def test_any_other_end_is_as_before(end: str, tmp_path: Path) -> None:
    plain, patched = run(f"import safetransformers; 1; {end}", tmp_path), run(f"{PATCH}; {end}", tmp_path)
    assert plain.returncode == patched.returncode
    assert "[ST-" not in patched.stderr
    assert plain.stderr.splitlines()[-1:] == patched.stderr.splitlines()[-1:]


def test_a_thread_that_fails_says_what_it_is_about(tmp_path: Path) -> None:
    script = f"""
        import threading
        {PATCH}
        def work():
            {FAIL}
        thread = threading.Thread(target=work, name="reader")
        thread.start()
        thread.join()
        print("goes on")
        """
    done = run(script, tmp_path)
    assert done.returncode == 0 and done.stdout == "goes on\n"
    assert "Exception in thread reader" in done.stderr and done.stderr.count(LINE) == 1


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "record"])
def test_each_worker_of_torchrun_says_what_it_is_about(recorded: bool, tmp_path: Path) -> None:
    script = f"""
        import torch.distributed as dist
        from torch.distributed.elastic.multiprocessing.errors import record
        {PATCH}
        def main():
            dist.init_process_group("gloo")
            dist.barrier()
            {FAIL}
        {"main = record(main)" if recorded else ""}
        main()
        """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run(script, tmp_path, *command)
    assert done.returncode != 0 and KNOWN in done.stderr
    lines = [line for line in done.stderr.splitlines() if LINE in line]
    # The launcher ends the second worker as soon as the first has failed, which may be before it could print.
    assert 1 <= len(lines) <= 2, done.stderr
    assert all(line.startswith("[rank") for line in lines)


# IPython


def test_a_cell_that_fails_says_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    shell = _shell()
    shell.run_cell(FAIL)
    assert LINE not in _shown(capsys)
    st.patch()
    assert any(name.endswith("InteractiveShell.showtraceback") for name in st.patches())
    shell.run_cell(FAIL)
    shown = _shown(capsys)
    assert shown.count(LINE) == 1 and shown.index(KNOWN) < shown.index(LINE)
    shell.run_cell("raise ValueError('mine')")
    assert "[ST-" not in _shown(capsys)
    st.unpatch()
    shell.run_cell(FAIL)
    shown = _shown(capsys)
    assert KNOWN in shown and LINE not in shown


def test_a_shell_that_comes_after_the_patch_says_it_too_where_ipython_was_imported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import IPython.core.interactiveshell  # noqa: F401 - imported before, as in every notebook

    st.patch()
    _shell().run_cell(FAIL)
    assert _shown(capsys).count(LINE) == 1


def test_ipython_that_runs_a_script_says_what_it_is_about(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner"]
    own = {"IPYTHONDIR": str(tmp_path / "ipython")}
    plain = run(FAIL, tmp_path, *command, **own)
    done = run(f"{PATCH}; {FAIL}", tmp_path, *command, **own)
    shown = done.stdout + done.stderr
    assert KNOWN in plain.stdout + plain.stderr
    assert done.returncode == plain.returncode
    assert shown.count(LINE) == 1, shown


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.colors = "nocolor"
    return shell


def _shown(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(capsys.readouterr())


# Other tools' hooks


@pytest.mark.parametrize("chains", [True, False], ids=["chains", "replaces"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_hook_of_another_tool_goes_on_working(when: str, chains: bool) -> None:
    seen: list[BaseException] = []

    def install() -> Callable[..., None]:
        below = sys.excepthook

        def hook(kind: type[BaseException], value: BaseException, trace: Any) -> None:
            seen.append(value)
            if chains:
                below(kind, value, trace)

        sys.excepthook = hook
        return hook

    if when == "before":
        own = install()
        st.patch()
    else:
        st.patch()
        own = install()
    made = error()
    given(made)
    assert seen == [made]
    if HAS_NOTES and (when == "before" or chains):
        assert [note.splitlines()[0] for note in made.__notes__] == [LINE]
    st.unpatch()
    assert sys.excepthook is own
    second = error()
    given(second)
    assert seen == [made, second] and not hasattr(second, "__notes__")


def test_a_tool_that_puts_our_hook_back_after_unpatch_gets_the_one_below(capsys: pytest.CaptureFixture[str]) -> None:
    st.patch()
    kept = sys.excepthook
    st.unpatch()
    sys.excepthook = kept
    made = error()
    given(made)
    assert KNOWN in _shown(capsys) and not hasattr(made, "__notes__")


def test_unpatch_leaves_the_modules_as_they_were() -> None:
    def now() -> list[list[tuple[str, int]]]:
        return [[(name, id(value)) for name, value in vars(module).items()] for module in (sys, threading)]

    before = now()
    for _ in range(2):
        st.patch()
        st.patch()
        assert {"sys.excepthook", "threading.excepthook"} <= set(st.patches())
        for module in (sys, threading):
            hook = vars(module)["excepthook"]
            assert isinstance(hook, wrapt.BaseObjectProxy)
            assert not isinstance(hook.__wrapped__, wrapt.BaseObjectProxy)  # hooked once
        st.unpatch()
        assert now() == before


def test_a_load_through_our_classes_hooks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before, during = sys.excepthook, list[object]()
    make = BertModel.__init__

    def watched(self: BertModel, *args: Any, **kwargs: Any) -> None:
        during.append(sys.excepthook)
        make(self, *args, **kwargs)

    monkeypatch.setattr(BertModel, "__init__", watched)
    st.AutoModel.from_config(tiny("bert").config)
    assert during[-1] is before
    with st.patched():
        st.AutoModel.from_config(tiny("bert").config)
    assert during[-1] is not before


# What is never touched


def test_the_exception_keeps_its_type_arguments_and_traceback() -> None:
    st.patch()
    made = error()
    before = (type(made), made.args, made.__traceback__, made.__cause__, made.__context__)
    given(made)
    assert (type(made), made.args, made.__traceback__, made.__cause__, made.__context__) == before


def test_an_exception_gets_one_note_however_often_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    st.patch()
    made = error()
    for _ in range(3):
        given(made)
    if HAS_NOTES:
        assert len(made.__notes__) == 1
    assert _shown(capsys).count(LINE) == 3


@pytest.mark.skipif(not HAS_NOTES, reason="notes are new in Python 3.11")
def test_notes_of_others_stay_and_one_of_ours_is_not_repeated() -> None:
    st.patch()
    made = error()
    made.add_note("while reading row 3")
    given(made)
    assert made.__notes__[0] == "while reading row 3" and len(made.__notes__) == 2
    told = error()
    told.add_note(str(st.explain(told)))
    given(told)
    assert len(told.__notes__) == 1


def test_our_own_errors_say_what_they_are_about_themselves() -> None:
    st.patch()
    made = raised(lambda: st.configure(padding="none"))
    given(made)
    assert not hasattr(made, "__notes__")


@pytest.mark.parametrize("how", ["configure", "environment"])
def test_the_policy_turns_it_off(how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    st.patch()
    if how == "configure":
        st.configure(errors="off")
    else:
        monkeypatch.setenv("SAFETRANSFORMERS_ERRORS", "off")
    given(error())
    shown = _shown(capsys)
    assert KNOWN in shown and LINE not in shown


def test_a_failure_of_ours_never_hides_that_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no table")

    st.patch()
    monkeypatch.setattr(uncaught, "explain", broken)
    given(error())
    assert KNOWN in _shown(capsys)
    assert "could not be explained" in caplog.text
    monkeypatch.undo()
    monkeypatch.setenv("SAFETRANSFORMERS_ERRORS", "perhaps")  # a value that the policy does not have
    given(error())
    assert KNOWN in _shown(capsys)


@pytest.mark.skipif(not HAS_NOTES, reason="notes are new in Python 3.11")
def test_an_exception_that_takes_no_further_note_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    st.patch()
    made = error()
    made.__notes__ = ("while reading row 3",)
    given(made)
    assert KNOWN in _shown(capsys) and made.__notes__ == ("while reading row 3",)
    assert "could not be explained" in caplog.text


def test_where_exceptions_take_no_notes_the_text_is_printed_once_after_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(uncaught, "HAS_NOTES", False)  # as on Python 3.10
    shell = _shell()
    sys.excepthook = lambda kind, value, trace: shell.showtraceback((kind, value, trace))
    st.patch()  # both are hooked now, and the one calls the other
    made = error()
    given(made)
    shown = _shown(capsys)
    assert shown.count(LINE) == 1 and shown.index(KNOWN) < shown.index(LINE)
    assert not hasattr(made, "__notes__")


def test_nothing_is_looked_at_while_exceptions_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(uncaught, "explain", asked.append)
    st.patch()
    for _ in range(100):
        try:
            raise error()
        except IndexError:
            logging.getLogger("mine").debug("caught")
    assert asked == []


def test_patch_imports_no_ipython(tmp_path: Path) -> None:
    done = run(f"{PATCH}; import sys, json; print(json.dumps('IPython' in sys.modules))", tmp_path)
    assert json.loads(done.stdout) is False
