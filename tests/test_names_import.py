"""A name that the installed transformers lacks: what the import says, with and without us, and with patch()."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers

import safetransformers as st
from safetransformers.errors import MissingNameError
from safetransformers.names import answers, history, installed

IS_5 = history.minor(transformers.__version__).major == 5
# A name, what has it now, and the code of its cause on this transformers.
REMOVED = ("AdamW", "from torch.optim import AdamW") if IS_5 else ("Conversation", "TextGenerationPipeline")


def failing(name: str, module: str = "safetransformers") -> ImportError:
    with pytest.raises(ImportError) as raised:
        exec(f"from {module} import {name}")
    return raised.value


def test_a_removed_name_says_what_replaced_it_and_the_last_release() -> None:
    error = failing(REMOVED[0])
    assert isinstance(error, MissingNameError) and error.code == "ST-NAME-002"
    assert REMOVED[1] in error.do
    assert f"the last release that has it is {history.of_name(REMOVED[0]).last}" in error.why  # type: ignore[union-attr]
    assert error.name == "safetransformers" and error.details["missing"] == REMOVED[0]


@pytest.mark.skipif(not IS_5, reason="TensorFlow classes are there in 4.57, behind a dummy")
def test_a_tensorflow_class_says_the_torch_class_and_how_to_convert() -> None:
    error = failing("TFBertModel")
    assert isinstance(error, MissingNameError) and error.code == "ST-NAME-003"
    assert error.do.splitlines()[0] == "from transformers import BertModel"
    assert "safetransformers convert" in error.do


def test_a_name_that_is_too_new_says_since_when_and_what_is_in_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed one is said to be older than it is: no name is newer than the newest release."""
    monkeypatch.setattr(installed, "transformers", lambda: "4.20.1")
    monkeypatch.setattr(installed, "has", lambda name: False)
    told = answers.for_name("ImageGPTImageProcessor")
    assert told.code == "ST-NAME-001"
    assert told.do == "pip install 'transformers>=4.25'"
    assert f"tokenizers {installed.of('tokenizers')} is not {history.requirements('4.25')['tokenizers']}" in told.why
    monkeypatch.setattr(installed, "of", {"python": "3.6.9"}.get)
    assert "needs another Python: Python 3.6.9 is not" in answers.for_name("ImageGPTImageProcessor").why
    assert answers.for_model_type("qwen3").code == "ST-NAME-011"


@pytest.mark.skipif(IS_5, reason="nothing that 5.23 lacks is in the table's newest release under a plain name")
def test_a_name_of_a_newer_release_is_told_on_an_older_one() -> None:
    error = failing("AutoModelForMultimodalLM")
    assert isinstance(error, MissingNameError) and error.code == "ST-NAME-001"
    first = history.of_name("AutoModelForMultimodalLM").first  # type: ignore[union-attr]
    assert error.do == f"pip install 'transformers>={first}'"


def test_a_typo_gets_the_nearest_names_and_only_those_that_are_there() -> None:
    error = failing("AutoModelForCasualLM")
    assert isinstance(error, MissingNameError) and error.code == "ST-NAME-005"
    assert "from transformers import AutoModelForCausalLM" in error.do
    assert "from transformers import BertModel" in answers.for_name("bertmodel").do.splitlines()[0]
    assert "from" not in answers.for_name("qqqzzz").do


def test_a_name_whose_package_is_missing_says_which(tmp_path: Path) -> None:
    """transformers' own stand-in is imported, as ever, and says it when it is used; so does the answer."""
    code = """
    import sys
    sys.modules["sentencepiece"] = None
    import safetransformers, transformers
    from safetransformers.names import answers
    from safetransformers import AutoVideoProcessor
    try:
        AutoVideoProcessor.from_pretrained("x")
    except ImportError as error:
        print(type(error).__name__, "Torchvision" in str(error))
    print(answers.for_name("AutoVideoProcessor").code, "torchvision" in answers.for_name("AutoVideoProcessor").why)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["ImportError True", "ST-NAME-004 True"]


_HIDDEN = """
import sys
sys.modules.update(dict.fromkeys(["PIL", "torchvision", "mistral_common", "sentencepiece"]))
import transformers
from safetransformers.names import answers, installed
"""


def printed(code: str) -> list[str]:
    """What a process prints in which no optional package can be imported."""
    code = _HIDDEN + textwrap.dedent(code)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.skipif(not IS_5, reason="each name that 4.57 hides has a stand-in, which is imported")
@pytest.mark.parametrize(("name", "package"), [("PilBackend", "pillow"), ("VideoProcessorMixin", "torchvision")])
@pytest.mark.parametrize("module", ["safetransformers", "transformers"])
def test_a_name_without_a_stand_in_says_which_package_hides_it(name: str, package: str, module: str) -> None:
    code = f"""
    import safetransformers
    safetransformers.patch()
    try:
        from {module} import {name}
    except ImportError as error:
        print("\\n".join([str(error), *getattr(error, "__notes__", [])]))
    """
    text = "\n".join(printed(code))
    assert "[ST-NAME-004]" in text
    assert f"Why: it needs {package}, which is not installed" in text
    assert f"Do: pip install {package}" in text


def test_each_name_that_transformers_puts_behind_a_package_says_which() -> None:
    code = """
    names = installed._checks(transformers.__file__)
    told = {name: answers.for_name(name) for name in names if installed.backends(name)}
    print(len(names), len(told), *{one.do for one in told.values()}, sep="\\n")
    """
    among, hidden, *fixes = printed(code)
    assert int(among) > int(hidden) > 5
    assert fixes and all(fix.startswith("pip install ") for fix in fixes)
    assert {"pip install pillow", "pip install torchvision", "pip install mistral-common"} <= set(fixes)


def test_a_package_that_is_there_is_not_asked_for() -> None:
    assert "Trainer" in installed._checks(transformers.__file__)
    assert installed.backends("Trainer") == ()


def test_a_look_for_an_attribute_stays_an_attribute_error() -> None:
    for name in (REMOVED[0], "AutoModelForCasualLM", "no_such_thing"):
        assert not hasattr(st, name)
        assert getattr(st, name, None) is None
        with pytest.raises(AttributeError, match=f"neither 'safetransformers' nor 'transformers' .*{name!r}"):
            getattr(st, name)
    with pytest.raises(AttributeError, match=r"\[ST-NAME-002\]"):
        getattr(st, REMOVED[0])


def test_the_error_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    error = failing(REMOVED[0])
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (str(again), again.name, again.path, again.details) == (  # type: ignore[attr-defined]
            str(error), error.name, error.path, error.details,  # type: ignore[attr-defined]
        )  # fmt: skip


def test_the_policy_switches_it_off() -> None:
    with st.policy(errors="off"):
        error = failing(REMOVED[0])
        assert type(error) is ImportError and "ST-NAME" not in str(error)


@pytest.fixture
def patched() -> Iterator[None]:
    with st.patched():
        yield


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def test_under_patch_a_failing_import_of_transformers_gains_a_note_and_keeps_its_type_and_text() -> None:
    plain = failing(REMOVED[0], "transformers")
    with st.patched():
        error = failing(REMOVED[0], "transformers")
    assert type(error) is type(plain) is ImportError
    assert (str(error), error.name, error.path) == (str(plain), plain.name, plain.path)
    assert notes(plain) == [] and len(notes(error)) == 1
    assert notes(error)[0].startswith("[ST-NAME-002]") and REMOVED[1] in notes(error)[0]


@pytest.mark.usefixtures("patched")
def test_under_patch_an_explanation_is_made_once_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """To look whether a name is there after all is a look at transformers too."""
    with caplog.at_level("DEBUG", "safetransformers"):
        error = failing(REMOVED[0], "transformers")
    assert len(notes(error)) == 1 and caplog.records == []


@pytest.mark.usefixtures("patched")
def test_under_patch_a_look_is_what_it_was() -> None:
    assert not hasattr(transformers, REMOVED[0])
    assert getattr(transformers, REMOVED[0], 7) == 7
    with pytest.raises(AttributeError) as raised:
        transformers.__getattr__(REMOVED[0])
    assert notes(raised.value) == []
    module = __import__("transformers", fromlist=["no_such_name"])  # says nothing of a name that is missing
    assert module is sys.modules["transformers"]
    with pytest.raises(ModuleNotFoundError, match=r"transformers\.no_such_module"):
        importlib.import_module("transformers.no_such_module")


@pytest.mark.usefixtures("patched")
def test_under_patch_modules_and_names_are_imported_as_ever() -> None:
    namespace: dict[str, object] = {}
    exec(
        "from transformers import BertModel, models, pipelines\nfrom transformers.models.bert import BertConfig",
        namespace,
    )
    assert namespace["BertModel"] is transformers.BertModel
    with pytest.raises(ImportError) as raised:
        exec("from transformers.models.bert import BertAttentions")
    assert "cannot import name 'BertAttentions' from 'transformers.models.bert'" in str(raised.value)


@pytest.mark.usefixtures("patched")
def test_under_patch_the_policy_switches_it_off() -> None:
    with st.policy(errors="off"):
        assert notes(failing(REMOVED[0], "transformers")) == []


@pytest.mark.usefixtures("patched")
def test_a_fallback_of_others_works_under_patch() -> None:
    try:
        from transformers import NoSuchName  # type: ignore[attr-defined]
    except ImportError:
        NoSuchName = None  # noqa: N806
    assert NoSuchName is None


def test_unpatch_leaves_the_lazy_module_as_it_was() -> None:
    cls = type(transformers)
    before = dict(vars(cls))
    with st.patched():
        assert vars(cls)["__getattr__"] is not before["__getattr__"]
    assert dict(vars(cls)) == before
