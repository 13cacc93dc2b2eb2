"""What is said of a missing name, model type or module is what the table of releases and the installed packages say.

The installed version is said to be another one where a test needs an older or a newer transformers.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from functools import lru_cache
from importlib import import_module

import pytest
import transformers
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import safetransformers as st
from safetransformers.names import answers, history, installed

IS_5 = history.minor(transformers.__version__).major == 5
WHOLE_NAMES = sorted(history.names())


@pytest.fixture
def as_if(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is asked of the transformers that is really there."""
    monkeypatch.setattr(installed, "has", lambda name: False)
    monkeypatch.setattr(installed, "backends", lambda name: ())
    monkeypatch.setattr(installed, "of", lru_cache(installed.of))  # thousands of names are asked for
    monkeypatch.setattr(installed, "transformers", lambda: transformers.__version__)
    return monkeypatch


def pinned(do: str) -> Requirement:
    """The requirement of a pip line, read as pip reads it."""
    line = next(line.strip() for line in do.splitlines() if line.strip().startswith("pip install"))
    return Requirement(line.split("'")[1])


@lru_cache
def fitting_releases(specifier: str) -> tuple[str, ...]:
    return tuple(SpecifierSet(specifier).filter(history.releases()))


@pytest.mark.parametrize("release", ["4.20.1", "4.40.2", "4.57.6", "5.3.0", "5.23.0"])
def test_each_pip_line_names_releases_that_have_the_name(as_if: pytest.MonkeyPatch, release: str) -> None:
    """For every name of the table, as if this release were installed: pip takes a line, and its releases have it."""
    as_if.setattr(installed, "transformers", lambda: release)
    lacking = [name for name in WHOLE_NAMES if not history.of_name(name).covers(release)]  # type: ignore[union-attr]
    assert len(lacking) > 300
    for name in lacking:
        told, record = answers.for_name(name), history.of_name(name)
        assert record is not None
        if "pip install" not in told.do:
            assert told.code == "ST-NAME-003" and "from transformers import" in told.do, told
            continue
        fitting = fitting_releases(str(pinned(told.do).specifier))
        assert fitting, told
        assert record.covers(fitting[0]) and (record.last is None or record.covers(fitting[-1])), (told, fitting)
        if told.code == "ST-NAME-002":
            assert str(history.minor(fitting[-1])) == record.last, told


@pytest.mark.usefixtures("as_if")
def test_each_text_is_four_parts_of_at_most_ten_lines() -> None:
    seen: dict[str, int] = {}
    for name in WHOLE_NAMES:
        told = answers.for_name(name)
        seen[told.code] = seen.get(told.code, 0) + 1
        assert len(str(told).splitlines()) <= 10, told
        assert told.what and told.why and told.do
    is_newest = history.minor(transformers.__version__) >= history.minor(history.releases()[-1])
    assert {"ST-NAME-002", "ST-NAME-004"} <= set(seen)
    assert ("ST-NAME-001" in seen) is not is_newest  # of the newest release no name is too new


@pytest.mark.usefixtures("as_if")
def test_each_replacement_on_the_newest_release_is_imported() -> None:
    """Of the names that this transformers lost; the import lines are run."""
    if history.minor(transformers.__version__) < Version("5.23"):
        pytest.skip("what replaces a name in the newest release need not be in an older one")
    lines = set()
    for name in WHOLE_NAMES:
        told = answers.for_name(name)
        if told.code in ("ST-NAME-002", "ST-NAME-003") and told.do.startswith("from "):
            lines.add(told.do.splitlines()[0])
    assert len(lines) > 300
    known = set(transformers.__all__)  # also those whose package is not installed
    for line in lines:
        _, module, _, name = line.split()
        assert name in known if module == "transformers" else hasattr(import_module(module), name), line


def test_a_name_that_went_after_the_table_was_made_is_not_called_hidden(as_if: pytest.MonkeyPatch) -> None:
    as_if.setattr(installed, "transformers", lambda: "99.1.0")
    newest = history.minor(history.releases()[-1])
    for told in (answers.for_name("BertModel"), answers.for_model_type("bert")):
        assert "update safetransformers" in told.why and told.do == f"pip install 'transformers=={newest}.*'"
    assert answers.for_model_type("bert").code == "ST-NAME-012"


def test_a_model_type_that_is_installed_is_not_called_unknown() -> None:
    """An error that was pasted may come from elsewhere."""
    told = answers.for_model_type("qwen3")
    assert told.code == "ST-NAME-011" and "probably the error comes from another environment" in told.why
    assert told.do == "pip install 'transformers>=4.51'"
    assert "no release" not in told.why
    pasted = st.explain(
        "ValueError: The checkpoint you are trying to load has model type `qwen3` but Transformers does not recognize "
        "this architecture."
    )
    assert pasted == told


def test_a_name_that_is_installed_is_not_called_missing() -> None:
    told = answers.for_name("Qwen3ForCausalLM")
    assert told.code == "ST-NAME-004" and "the first release that has it is 4.51" in told.why
    assert "cannot be imported" not in str(told)


def test_a_model_type_that_was_removed_says_whether_the_last_release_fits_here(as_if: pytest.MonkeyPatch) -> None:
    as_if.setattr(installed, "transformers", lambda: "5.23.0")
    as_if.setattr(installed, "of", {"python": "3.8.1"}.get)
    told = answers.for_model_type("mega")
    assert told.code == "ST-NAME-012" and told.do.startswith("pip install 'transformers==4.57.*'")
    assert "4.57 needs another Python: Python 3.8.1 is not >=3.9.0" in told.why


def test_a_model_type_of_no_release_points_to_the_release_that_wrote_the_file() -> None:
    newer = answers.for_model_type("no-such-type", "99.0.0")
    assert (newer.code, newer.do) == ("ST-NAME-013", "pip install 'transformers>=99.0.0'")
    for saved_with in ("4.0.0", "not a version", None):
        told = answers.for_model_type("no-such-type", saved_with)
        assert "probably the checkpoint brings code of its own" in told.why and "pip" not in told.do
    assert "like it: bert" in answers.for_model_type("bertt").why


def test_a_file_without_a_model_type_says_who_wrote_it() -> None:
    assert "names transformers 4.31.0" in answers.for_no_model_type("4.31.0").why
    assert answers.for_no_model_type().code == "ST-NAME-014"


def test_a_tokenizer_class_that_was_renamed_says_what_to_write_into_the_file(as_if: pytest.MonkeyPatch) -> None:
    as_if.setattr(installed, "transformers", lambda: "5.23.0")
    told = answers.for_tokenizer_class("BertTokenizerFast")
    assert told.code == "ST-NAME-021"
    assert told.do.splitlines()[0] == '"tokenizer_class": "BertTokenizer"  # in tokenizer_config.json'
    unknown = answers.for_tokenizer_class("MyOwnTokenizer")
    assert "no release" in unknown.why and "trust_remote_code=True" in unknown.do


# What remote code imports: the module, the name, and what the text has to say of it on transformers 5.23.
REMOTE = [
    ("transformers.models.llama.modeling_llama", "LlamaFlashAttention2", "modeling_llama import LlamaAttention"),
    ("transformers.utils", "LossKwargs", "from transformers.utils import TransformersKwargs"),
    ("transformers.utils", "is_torch_fx_available", "every supported torch has torch.fx"),
    ("transformers.modeling_utils", "no_init_weights", "from transformers.initialization import no_init_weights"),
    ("transformers.cache_utils", "HybridCache", "from transformers import StaticCache"),
    ("transformers.trainer", "Adafactor", "from transformers import Adafactor"),
    ("transformers.optimization", "AdamW", "from torch.optim import AdamW"),
    ("transformers.onnx", "OnnxConfig", "optimum-onnx"),
    ("transformers.generation.utils", "SampleOutput", "import GenerateNonBeamOutput"),
]


@pytest.mark.parametrize(("module", "name", "said"), REMOTE)
def test_remote_code_is_told_what_replaced_a_name(as_if: pytest.MonkeyPatch, module: str, name: str, said: str) -> None:
    as_if.setattr(installed, "transformers", lambda: "5.23.0")
    told = answers.for_remote_import(name, module, "modeling_mine.py")
    assert told.code == "ST-NAME-031"
    assert f"(modeling_mine.py) imports {name} of {module}" in told.what
    assert said in told.why + told.do
    record = history.of_inner(module, name)
    assert record is not None and record.last is not None
    assert f"transformers=={record.last}.*" in told.do


@pytest.mark.skipif(not IS_5, reason="4.57 still has most of them")
@pytest.mark.parametrize(("module", "name", "said"), REMOTE)
def test_those_names_really_cannot_be_imported_and_what_replaces_them_can(module: str, name: str, said: str) -> None:
    record = history.of_inner(module, name)
    assert record is not None and record.last is not None
    if history.minor(record.last) >= history.minor(transformers.__version__):
        exec(f"from {module} import {name}")  # 5.0 has some of them yet, as the table says
        return
    with pytest.raises(ImportError):
        exec(f"from {module} import {name}")
    line = answers.for_name(name, module).do.splitlines()[0]
    if line.startswith("from "):
        exec(line)


def test_a_private_name_is_not_said_to_be_of_no_release() -> None:
    told = answers.for_remote_import("_make_causal_mask", "transformers.models.llama.modeling_llama", "modeling_x.py")
    assert "does not say when it came or went" in told.why and "no release" not in told.why


def test_the_folder_of_a_newer_model_says_since_when(as_if: pytest.MonkeyPatch) -> None:
    as_if.setattr(installed, "transformers", lambda: "4.40.2")
    for module in ("transformers.models.qwen3", "transformers.models.qwen3.modeling_qwen3"):
        told = answers.for_name("", module)
        assert (told.code, told.do) == ("ST-NAME-001", "pip install 'transformers>=4.51'")
    assert answers.for_name("", "transformers.models.no_such_model").code == "ST-NAME-005"


def test_a_name_that_is_there_and_fails_to_import_names_the_package_that_is_missing() -> None:
    """In a process in which ``regex`` is lost once transformers is there; a tokenizer of both versions needs it."""
    code = """
    import pickle, sys
    import transformers
    import safetransformers as st
    sys.modules["regex"] = None
    def fail():
        try:
            from safetransformers import ClvpTokenizer
        except ImportError as error:
            return error
    error = fail()
    print(error.code, type(error).__name__, error.why)
    again = pickle.loads(pickle.dumps(error))
    print((again.name, again.path) == (error.name, error.path) == ("safetransformers", st.__file__))
    with st.policy(errors="off"):
        off = fail()
    try:
        transformers.ClvpTokenizer
    except ImportError as plain:
        print((type(off), str(off)) == (type(plain), str(plain)))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    first, *others = run.stdout.splitlines()
    assert first == "ST-NAME-004 MissingModuleError no module named 'regex' is installed"
    assert others == ["True", "True"]


def test_the_error_of_an_import_has_the_path_that_python_gives_it() -> None:
    for errors in ("explain", "off"):
        with st.policy(errors=errors), pytest.raises(ImportError) as raised:
            exec("from safetransformers import NoSuchName")
        assert (raised.value.name, raised.value.path) == ("safetransformers", st.__file__)
