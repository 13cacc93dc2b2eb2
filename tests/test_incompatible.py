"""An Auto class or a task that does not fit: the error says what the checkpoint is and what does load it."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import logging
import pickle
import re
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
from checkpoints import REMOTE_CODE, save_remote_code
from families import FAMILIES, saved, tokenizer_beside

import safetransformers as st
from safetransformers import compat
from safetransformers.errors import (
    IncompatiblePreprocessorError,
    IncompatibleTaskError,
    MissingNameError,
    UnknownArchitectureError,
)
from safetransformers.names import history

ACCEPTED = re.compile(r"Model type should be one of (.*)\.")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    found = {name: saved(name, root / name) for name in ("bert", "ctrl", "gpt2", "llava", "vit", "whisper")}
    tokenizer_beside(found["bert"])
    tokenizer_beside(found["ctrl"])
    return found


@pytest.fixture(params=["our class", "patched"])
def auto(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """An Auto class, or ``pipeline``, by its name: ours, or transformers' own under patch()."""
    if request.param == "our class":
        yield lambda name: getattr(st, name)
    else:
        with st.patched():
            yield lambda name: getattr(sys.modules["transformers"], name)  # a second one, once pipelines are imported


def plain_failure(name: str, source: Any, **kwargs: Any) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever transformers raises
        getattr(transformers, name).from_pretrained(source, **kwargs)
    return raised.value


def test_the_text_begins_with_the_checkpoint_and_names_the_classes_that_load_it(
    auto: Callable[[str], Any], folders: dict[str, Path]
) -> None:
    with pytest.raises(IncompatibleTaskError) as raised:
        auto("AutoModelForQuestionAnswering").from_pretrained(folders["ctrl"])
    error = raised.value
    lines = str(error).splitlines()
    assert lines[0] == (
        "[ST-TASK-001] ctrl (model_type 'ctrl'; architectures CTRLLMHeadModel; head in its weights: lm_head): "
        "AutoModelForQuestionAnswering does not load it"
    )
    assert lines[2].startswith("Do: AutoModelForCausalLM.from_pretrained(")
    assert len(lines) <= 10 and len(str(error)) < 1500
    assert str(folders["ctrl"].parent) not in str(error)
    assert [one.auto_class for one in error.details["suggestions"]][:2] == [
        "AutoModelForCausalLM", "AutoModelForSequenceClassification",
    ]  # fmt: skip
    assert isinstance(error, ValueError) and error.__cause__ is None and error.__suppress_context__


def test_the_full_list_of_configurations_is_one_attribute_away(folders: dict[str, Path]) -> None:
    plain = plain_failure("AutoModelForQuestionAnswering", folders["ctrl"])
    listed = ACCEPTED.search(str(plain))
    assert listed is not None
    with pytest.raises(IncompatibleTaskError) as raised:
        st.AutoModelForQuestionAnswering.from_pretrained(folders["ctrl"])
    accepted = raised.value.details["accepted"]
    assert set(listed[1].split(", ")) == set(accepted)
    assert not any(name in str(raised.value) for name in ("BertConfig", "AlbertConfig"))


def test_a_configuration_alone_gets_lines_for_a_configuration(auto: Callable[[str], Any]) -> None:
    config = transformers.CTRLConfig(n_embd=8, dff=8, n_layer=1, n_head=1, vocab_size=8)
    with pytest.raises(IncompatibleTaskError, match=r"AutoModelForCausalLM.from_config\(config\)"):
        auto("AutoModelForQuestionAnswering").from_config(config)


def test_every_auto_class_fails_as_ours_exactly_where_the_plain_one_fails(
    folders: dict[str, Path], auto: Callable[[str], Any]
) -> None:
    """On text, and of the type that callers catch now."""
    for name in compat.auto_classes():
        if not name.startswith("AutoModel") and name != "AutoBackbone":
            continue
        if name == "AutoBackbone":  # 5.23 looks for a repository of timm first
            continue
        accepts = transformers.CTRLConfig in compat.auto_mapping(name)
        try:
            with st.policy(loading="off"):
                auto(name).from_pretrained(folders["ctrl"])
            failure: Exception | None = None
        except Exception as error:  # noqa: BLE001 - compared below
            failure = error
        assert isinstance(failure, IncompatibleTaskError) != accepts or (accepts and failure is None), (name, failure)


def test_the_language_model_in_a_multimodal_checkpoint_is_named(folders: dict[str, Path]) -> None:
    with pytest.raises(IncompatibleTaskError) as raised:
        st.AutoModelForCausalLM.from_pretrained(folders["llava"])
    assert re.search(r"AutoModelForImageTextToText\.from_pretrained\(path\)\.[\w.]+  # LlamaModel", str(raised.value))


@pytest.mark.parametrize(
    ("name", "family", "offered"),
    [("AutoFeatureExtractor", "ctrl", "AutoTokenizer"), ("AutoTokenizer", "vit", "AutoImageProcessor")],
)
def test_a_preprocessor_that_is_not_there_names_the_one_that_is(
    name: str, family: str, offered: str, auto: Callable[[str], Any], folders: dict[str, Path]
) -> None:
    plain = plain_failure(name, folders[family])
    with pytest.raises(IncompatibleTaskError) as raised:
        auto(name).from_pretrained(folders[family])
    error = raised.value
    assert error.code == "ST-TASK-002" and f"it has nothing for {name}" in error.what
    has_it = compat.mapped_names(offered, type(transformers.AutoConfig.from_pretrained(folders[family])))
    assert (offered if has_it else "AutoFeatureExtractor") in error.do  # 4.57 without PIL has no image processors
    assert isinstance(error, next(kind for kind in (ValueError, OSError, KeyError) if isinstance(plain, kind)))


def test_a_preprocessor_whose_files_are_merely_missing_keeps_its_own_error(folders: dict[str, Path]) -> None:
    plain = plain_failure("AutoFeatureExtractor", folders["whisper"])
    with pytest.raises(type(plain)) as raised:
        st.AutoFeatureExtractor.from_pretrained(folders["whisper"])
    assert not isinstance(raised.value, IncompatibleTaskError)


def test_a_pipeline_whose_model_has_no_such_head_names_the_tasks_that_it_has(
    auto: Callable[[str], Any], folders: dict[str, Path]
) -> None:
    with pytest.raises(IncompatibleTaskError) as raised:
        auto("pipeline")("automatic-speech-recognition", model=str(folders["ctrl"]))
    error = raised.value
    assert error.code == "ST-TASK-003" and "'automatic-speech-recognition'" in error.what
    assert error.do.startswith("pipeline('text-generation', model=...)")
    assert isinstance(error, (ValueError, OSError))


def test_a_pipeline_that_works_is_left_alone_and_its_tries_cost_nothing(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whisper is tried as a CTC model first: a failure that the pipeline answers itself."""

    def suggest(*args: Any) -> None:
        raise AssertionError("a try was explained")

    monkeypatch.setattr("safetransformers.names.failures.suggest", suggest)
    config = transformers.AutoConfig.from_pretrained(folders["whisper"])
    classes: Any = (transformers.AutoModelForCTC, transformers.AutoModelForSpeechSeq2Seq)
    with st.patched():
        module, name = compat.pipeline_loader()
        if name == "infer_framework_load_model":  # 4.57
            classes = {"pt": classes}
        result = getattr(module, name)(str(folders["whisper"]), config=config, model_classes=classes)
    model = result[1] if isinstance(result, tuple) else result
    assert type(model).__name__ == "WhisperForConditionalGeneration"


@pytest.mark.parametrize("name", ["AutoModel", "AutoConfig", "AutoModelForCausalLM"])
def test_an_unknown_model_type_says_what_is_known_of_it(name: str, auto: Callable[[str], Any], tmp_path: Path) -> None:
    settings = {"model_type": "no-such-type", "transformers_version": "99.1.0"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    plain = plain_failure(name, tmp_path)
    assert isinstance(plain, ValueError)
    with pytest.raises(UnknownArchitectureError) as raised:
        auto(name).from_pretrained(tmp_path)
    error = raised.value
    assert error.code == "ST-NAME-013" and "written by transformers 99.1.0" in error.why
    assert error.do == "pip install 'transformers>=99.1.0'"
    assert isinstance(error, ValueError) and error.details["model_type"] == "no-such-type"


def test_a_model_type_of_another_release_says_which(tmp_path: Path) -> None:
    other = next(
        (one, record)
        for one in history.model_types()
        if (record := history.of_model_type(one)) and not record.covers(transformers.__version__)
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": other[0]}))
    with pytest.raises(UnknownArchitectureError) as raised:
        st.AutoModel.from_pretrained(tmp_path)
    record = other[1]
    is_newer = record.is_after(transformers.__version__)
    assert raised.value.code == ("ST-NAME-011" if is_newer else "ST-NAME-012")
    assert (record.first if is_newer else str(record.last)) in raised.value.do


def test_a_configuration_without_a_model_type_says_so(auto: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(UnknownArchitectureError, match=r"\[ST-NAME-014\]"):
        auto("AutoModel").from_pretrained(tmp_path)


def test_an_unknown_tokenizer_class_is_named(
    auto: Callable[[str], Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text((folders["bert"] / "config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "NoSuchTokenizer"}))
    plain = plain_failure("AutoTokenizer", tmp_path)
    with pytest.raises(UnknownArchitectureError) as raised:
        auto("AutoTokenizer").from_pretrained(tmp_path)
    assert raised.value.code == "ST-NAME-021" and "NoSuchTokenizer" in raised.value.what
    assert isinstance(plain, ValueError)


@pytest.mark.usefixtures("code_cache")
@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("from transformers.utils import no_such_helper", "no_such_helper of transformers.utils"),
        ("from transformers import AdamWs", "AdamWs"),
        ("import transformers.no_such_module", "the module transformers.no_such_module"),
    ],
)
def test_code_of_a_checkpoint_that_imports_a_missing_name_says_which_and_where(
    line: str, named: str, auto: Callable[[str], Any], tmp_path: Path
) -> None:
    folder = save_remote_code(tmp_path / "remote")
    (folder / "modeling_remote.py").write_text(f"{line}\n{textwrap.dedent(REMOTE_CODE)}")
    with pytest.raises(MissingNameError) as raised:
        auto("AutoModel").from_pretrained(folder, trust_remote_code=True)
    error = raised.value
    assert error.code == "ST-NAME-031"
    assert f"(modeling_remote.py) imports {named}, which" in error.what
    assert isinstance(error, ImportError) and isinstance(error.__cause__, ImportError)


@pytest.mark.usefixtures("code_cache")
def test_an_import_error_of_another_package_in_remote_code_stays_what_it_is(tmp_path: Path) -> None:
    folder = save_remote_code(tmp_path / "remote")
    (folder / "modeling_remote.py").write_text(f"import json\nfrom json import no_such\n{REMOTE_CODE}")
    with pytest.raises(ImportError, match="no_such") as raised:
        st.AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert not isinstance(raised.value, MissingNameError)


OWN_FAILURES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "a wrong argument of a tokenizer": ({"model_type": "no-such-type"}, "AutoTokenizer", {"padding_side": "up"}),
    "a broken GGUF file": ({"hidden_size": 8}, "AutoModelForCausalLM", {"gguf_file": "x.gguf"}),
}


@pytest.mark.parametrize("case", OWN_FAILURES)
def test_a_failure_with_another_cause_stays_what_it_is(case: str, auto: Callable[[str], Any], tmp_path: Path) -> None:
    settings, name, kwargs = OWN_FAILURES[case]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(60))
    tokenizer_beside(tmp_path)
    plain = plain_failure(name, tmp_path, **kwargs)
    with st.policy(offline="off"), pytest.raises(type(plain)) as raised:
        auto(name).from_pretrained(tmp_path, **kwargs)
    assert type(raised.value) is type(plain) or not isinstance(plain, ValueError)
    assert "[ST-" not in str(raised.value)


def test_a_pipeline_that_fails_for_its_tokenizer_is_not_told_to_have_no_head(folders: dict[str, Path]) -> None:
    with pytest.raises((OSError, ValueError, ImportError)) as raised:
        st.pipeline("fill-mask", model=str(folders["gpt2"]))
    assert not isinstance(raised.value, IncompatibleTaskError)


def test_a_repository_that_is_called_like_a_model_type_is_no_model_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with st.policy(offline="off"), pytest.raises((OSError, ValueError)) as raised:
        st.AutoTokenizer.from_pretrained("vit", local_files_only=True)
    assert not isinstance(raised.value, IncompatibleTaskError)


def test_a_configuration_class_that_nobody_registered_keeps_the_plain_error() -> None:
    class Mine(transformers.BertConfig):
        pass

    with pytest.raises(ValueError, match="Unrecognized configuration class") as raised:
        st.AutoModel.from_config(Mine())
    assert not isinstance(raised.value, IncompatibleTaskError)


def test_a_subclass_of_an_auto_class_is_explained_too(folders: dict[str, Path]) -> None:
    class MyAuto(st.AutoModelForQuestionAnswering):  # type: ignore[name-defined, misc]  # made at run time
        pass

    with pytest.raises(IncompatibleTaskError, match="AutoModelForQuestionAnswering does not load it"):
        MyAuto.from_pretrained(folders["ctrl"])


def test_an_error_that_was_dropped_holds_nothing_of_the_load(folders: dict[str, Path]) -> None:
    class Passed:
        pass

    passed = Passed()
    gone = weakref.ref(passed)
    gc.disable()
    try:
        with contextlib.suppress(IncompatibleTaskError):
            st.AutoModelForQuestionAnswering.from_pretrained(folders["ctrl"], anything=passed)
        del passed
        assert gone() is None
    finally:
        gc.enable()


def test_the_error_travels(folders: dict[str, Path]) -> None:
    for name in ("AutoModelForQuestionAnswering", "AutoFeatureExtractor"):
        with pytest.raises(IncompatibleTaskError) as raised:
            getattr(st, name).from_pretrained(folders["ctrl"])
        for again in (pickle.loads(pickle.dumps(raised.value)), copy.deepcopy(raised.value)):
            assert type(again) is type(raised.value)
            assert (str(again), again.details) == (str(raised.value), raised.value.details)


def test_the_policy_gives_the_plain_error_back(folders: dict[str, Path]) -> None:
    plain = plain_failure("AutoModelForQuestionAnswering", folders["ctrl"])
    with st.policy(errors="off"), pytest.raises(ValueError, match="Unrecognized configuration class") as raised:
        st.AutoModelForQuestionAnswering.from_pretrained(folders["ctrl"])
    assert str(raised.value) == str(plain)


def test_a_fault_in_explaining_does_not_hide_the_failure(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("safetransformers.names.failures.suggest", broken)
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="Unrecognized configuration class"):
        st.AutoModelForQuestionAnswering.from_pretrained(folders["ctrl"])
    assert "a fault of ours" in caplog.text


def test_a_wide_error_is_one_of_each_kind_and_reads_as_text() -> None:
    error = IncompatiblePreprocessorError("ST-TASK-002", "what")
    assert isinstance(error, (ValueError)) and isinstance(error, OSError) and isinstance(error, KeyError)
    assert str(error) == "[ST-TASK-002] what"


def test_the_families_are_of_thirty_types() -> None:
    assert len(FAMILIES) == 30
