"""What a load may do: weights that are not in the checkpoint, pickle weights, code from a revision that can move."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import save, save_pickle, save_remote_code
from models import tiny
from transformers import BertForMaskedLM, BertForSequenceClassification, BertModel, PreTrainedModel

import safetransformers as st
from safetransformers.compat import auto_classes
from safetransformers.errors import LoadingError, LoadingWarning, RemoteCodeError, UnsafeWeightsError

COMMIT = "0123456789abcdef" * 2 + "01234567"
HEAD = ["classifier.bias", "classifier.weight"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one tiny BERT: the base model, the masked-language model, the classifier."""
    root = tmp_path_factory.mktemp("checkpoints")
    config = tiny("bert").config
    save(tiny("bert"), root / "base")
    save(BertForMaskedLM(config), root / "masked")
    save(tiny("bert-classifier"), root / "classifier")
    return root


@pytest.fixture
def silent() -> Any:
    """Any warning of ours is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", st.errors.SafeTransformersWarning)
        yield


# Weights that are not in the checkpoint


def test_a_new_head_on_a_checkpoint_is_reported_with_its_keys(folders: Path) -> None:
    for name in ("masked", "base"):
        with pytest.warns(LoadingWarning) as told:
            st.AutoModelForSequenceClassification.from_pretrained(folders / name)
        ours = [str(warning.message) for warning in told if issubclass(warning.category, LoadingWarning)]
        assert len(ours) == 1
        assert all(key in ours[0] for key in HEAD)
        assert f"BertForSequenceClassification is not what {name} holds" in ours[0]


@pytest.mark.parametrize("policy", [{"loading": "raise"}, {"strict": True}])
def test_a_new_head_on_a_checkpoint_is_an_error_where_the_policy_says_so(folders: Path, policy: dict[str, Any]) -> None:
    with st.policy(**policy), pytest.raises(RuntimeError, match=r"classifier\.bias, classifier\.weight") as info:
        st.AutoModelForSequenceClassification.from_pretrained(folders / "base")
    assert isinstance(info.value, LoadingError)
    assert info.value.details["missing_keys"] == HEAD
    assert info.value.details["unexpected_keys"] == info.value.details["mismatched_keys"] == []
    assert info.value.code == "ST-LOAD-001"


@pytest.mark.parametrize("name", ["base", "masked", "classifier"])
@pytest.mark.usefixtures("silent")
def test_the_class_that_a_checkpoint_was_saved_from_loads_in_silence_in_strict_mode(folders: Path, name: str) -> None:
    cls = {"base": BertModel, "masked": BertForMaskedLM, "classifier": BertForSequenceClassification}[name]
    auto = {"base": "AutoModel", "masked": "AutoModelForMaskedLM", "classifier": "AutoModelForSequenceClassification"}
    with st.strict():
        model = getattr(st, auto[name]).from_pretrained(folders / name)
    assert type(model) is cls
    assert st.is_guarded(model)
    with st.strict(), st.patched():
        assert st.is_guarded(cls.from_pretrained(folders / name))


@pytest.mark.usefixtures("silent")
def test_a_base_model_from_a_task_checkpoint_is_right_but_not_all_of_it(folders: Path) -> None:
    assert st.is_guarded(st.AutoModel.from_pretrained(folders / "classifier"))
    with st.policy(loading="raise"), pytest.raises(LoadingError, match=r"not in the model: classifier\.bias") as info:
        st.AutoModel.from_pretrained(folders / "classifier")
    assert info.value.details["unexpected_keys"] == HEAD


def test_a_head_of_another_size_is_a_newly_initialised_one(folders: Path) -> None:
    load = st.AutoModelForSequenceClassification.from_pretrained
    sizes = {"num_labels": 5, "ignore_mismatched_sizes": True}
    with pytest.warns(LoadingWarning, match=r"another shape in the checkpoint: classifier\.bias"):
        assert load(folders / "classifier", **sizes).config.num_labels == 5
    with st.policy(loading="raise"), pytest.raises(LoadingError) as info:
        load(folders / "classifier", **sizes)
    assert info.value.details["mismatched_keys"] == HEAD
    with pytest.raises(RuntimeError, match=r"size mismatch|ignore_mismatched_sizes"):
        load(folders / "classifier", num_labels=5)


@pytest.mark.usefixtures("silent")
def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    for name, auto in (("gpt2", st.AutoModelForCausalLM), ("t5", st.AutoModelForSeq2SeqLM)):
        plain = tiny(name, tie_word_embeddings=True)
        plain.tie_weights()
        plain.save_pretrained(tmp_path / name)
        with st.strict():
            model = auto.from_pretrained(tmp_path / name)
        head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        assert head.data_ptr() == embedding.data_ptr()


@pytest.mark.usefixtures("silent")
def test_with_loading_off_nothing_is_said(folders: Path) -> None:
    with st.policy(loading="off"):
        model = st.AutoModelForSequenceClassification.from_pretrained(folders / "base")
    assert st.is_guarded(model)


@pytest.mark.usefixtures("silent")
def test_a_checkpoint_in_shards_loads_whole_and_names_what_a_lost_shard_held(tmp_path: Path) -> None:
    folder = save(tiny("bert"), tmp_path / "shards", max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    with st.strict():
        model = st.AutoModel.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny("bert").parameters(), strict=True))


def test_each_line_that_loads_is_told_once_and_at_the_users_line(folders: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            st.AutoModelForSequenceClassification.from_pretrained(folders / "base")
        st.AutoModelForSequenceClassification.from_pretrained(folders / "base")
        with st.patched():
            BertForSequenceClassification.from_pretrained(folders / "base")
        line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    ours = [warning for warning in told if issubclass(warning.category, LoadingWarning)]
    assert {warning.filename for warning in ours} == {__file__}
    assert [warning.lineno for warning in ours] == [line - 3, line - 2, line]


def test_two_causes_on_one_line_are_two_warnings(folders: Path) -> None:
    autos = (st.AutoModelForSequenceClassification, st.AutoModelForTokenClassification) * 2
    with pytest.warns(LoadingWarning) as told:
        _ = [auto.from_pretrained(folders / "masked") for auto in autos]
    assert len([warning for warning in told if issubclass(warning.category, LoadingWarning)]) == 2


def test_a_pipeline_in_strict_mode_does_not_fall_back_to_another_class(folders: Path) -> None:
    # transformers answers a failed load with the next class that could fit: here the masked-language model itself,
    # whose numbers the pipeline would then take for classes.
    for refused, pipeline in ((LoadingError, st.pipeline), (LoadingError, transformers.pipeline)):
        with st.patched(), st.policy(loading="raise"), pytest.raises(refused, match="classifier"):
            pipeline("text-classification", model=str(folders / "masked"))
    with st.strict(), pytest.raises(LoadingError, match="classifier"):
        st.pipeline("text-classification", model=str(folders / "masked"))
    with st.strict():
        assert st.is_guarded(st.pipeline("text-classification", model=str(folders / "classifier")).model)


def test_a_pipelines_own_errors_stay_as_they_are(tmp_path: Path) -> None:
    tiny("bert").config.save_pretrained(tmp_path)  # and no weights
    with st.strict(), pytest.raises(ValueError, match="Could not load model") as ours:
        st.pipeline("feature-extraction", model=str(tmp_path))
    assert not isinstance(ours.value, st.errors.SafeTransformersError)


# Pickle weights


@pytest.mark.parametrize("shards", [1, 3])
def test_pickle_weights_are_refused(shards: int, tmp_path: Path) -> None:
    save_pickle(tiny("bert"), tmp_path, shards=shards)
    assert isinstance(st.AutoModel.from_pretrained(tmp_path), BertModel)
    with st.policy(weights="safetensors"), pytest.raises(OSError, match="has no safetensors weights") as info:
        st.AutoModel.from_pretrained(tmp_path)
    assert isinstance(info.value, UnsafeWeightsError)
    with st.strict(), st.patched(), pytest.raises(UnsafeWeightsError):
        BertModel.from_pretrained(str(tmp_path))


def test_the_line_of_the_error_converts_the_weights(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "inner"
    folder.mkdir(parents=True)
    save_pickle(tiny("bert"), folder)
    with st.policy(weights="safetensors"), pytest.raises(UnsafeWeightsError, match="root has no") as info:
        st.AutoModel.from_pretrained(folder.parent, subfolder="inner")
    run_line(info.value.do, tmp_path)
    with st.strict():
        model = st.AutoModel.from_pretrained(tmp_path / "root-safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny("bert").parameters(), strict=True))


def run_line(do: str, where: Path) -> None:
    """Run the command of an error's ``Do:`` part as a user would paste it."""
    command = shlex.split(do[do.index("python -c") :])
    subprocess.run([sys.executable, *command[1:]], cwd=where, check=True, timeout=120, capture_output=True)


@pytest.mark.parametrize("policy", [{"weights": "safetensors"}, {"strict": True}])
def test_use_safetensors_false_is_refused_though_safetensors_are_there(folders: Path, policy: dict[str, Any]) -> None:
    with st.policy(**policy), pytest.raises(UnsafeWeightsError):
        st.AutoModel.from_pretrained(folders / "base", use_safetensors=False)


def test_of_both_kinds_of_weights_the_safetensors_are_read(folders: Path, tmp_path: Path) -> None:
    folder = save(tiny("bert"), tmp_path / "both")
    save_pickle(tiny("bert", seed=1), folder)
    with st.policy(weights="safetensors"):
        model = st.AutoModel.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny("bert").parameters(), strict=True))


def test_pickle_weights_of_an_adapter_are_refused(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = save(tiny("gpt2"), tmp_path / "base")
    config = LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True, init_lora_weights=False)
    adapted = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)
    adapted.save_pretrained(tmp_path / "adapter")
    with st.strict():
        assert st.is_guarded(st.AutoModelForCausalLM.from_pretrained(tmp_path / "adapter"))
    adapted.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with st.policy(weights="safetensors"), pytest.raises(UnsafeWeightsError, match="pickled") as info:
        st.AutoModelForCausalLM.from_pretrained(tmp_path / "pickled")
    run_line(info.value.do, tmp_path)
    with st.strict():
        model = st.AutoModelForCausalLM.from_pretrained(tmp_path / "pickled")
    assert st.is_guarded(model)


def test_a_folder_without_any_weights_is_transformers_own_error(tmp_path: Path) -> None:
    tiny("bert").config.save_pretrained(tmp_path)
    with st.policy(weights="safetensors"), pytest.raises(OSError, match="no file named") as info:
        st.AutoModel.from_pretrained(tmp_path)
    assert not isinstance(info.value, UnsafeWeightsError)


def test_a_gguf_file_and_a_state_dict_are_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def record(cls: type, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        return tiny("bert")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(record))
    with st.patched(), st.strict(loading="off"):
        BertModel.from_pretrained("any", gguf_file="weights.gguf")
        BertModel.from_pretrained(None, state_dict={})
        BertModel.from_pretrained("any")
    assert [kwargs.get("use_safetensors") for kwargs in seen] == [None, None, True]


# Code of the checkpoint's own

AUTO = sorted(auto_classes())


@pytest.mark.parametrize("name", AUTO)
@pytest.mark.parametrize("policy", [{"remote_code": "pinned"}, {"strict": True}])
def test_code_from_a_revision_that_can_move_is_refused_by_every_auto_class(
    name: str, policy: dict[str, Any], folders: Path
) -> None:
    with st.policy(**policy), st.patched():
        for package in (st, transformers):
            for revision in ({}, {"revision": "main"}, {"revision": COMMIT[:12]}, {"revision": None}):
                with pytest.raises(ValueError, match="revision that can move") as info:
                    getattr(package, name).from_pretrained(folders / "base", trust_remote_code=True, **revision)
                assert isinstance(info.value, RemoteCodeError)
                assert info.value.code == "ST-LOAD-003"


@pytest.mark.parametrize("name", AUTO)
def test_without_remote_code_or_with_a_commit_hash_every_auto_class_gets_through(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = classmethod(lambda cls, *args, **kwargs: kwargs)
    monkeypatch.setattr(getattr(transformers, name), "from_pretrained", theirs)
    for kwargs in ({}, {"trust_remote_code": False}, {"trust_remote_code": True, "revision": COMMIT}):
        with st.strict():
            assert getattr(st, name).from_pretrained("a/repo", **kwargs) == kwargs


@pytest.mark.usefixtures("code_cache")
def test_code_of_a_pinned_commit_runs_and_none_at_all_where_the_policy_says_never(tmp_path: Path) -> None:
    folder = save_remote_code(tmp_path / "remote")
    with st.strict():
        model = st.AutoModel.from_pretrained(folder, trust_remote_code=True, revision=COMMIT)
    assert type(model).__name__ == "RemoteModel"
    with st.policy(remote_code="never"):
        for auto in (st.AutoModel, st.AutoConfig, st.AutoTokenizer, st.AutoProcessor):
            with pytest.raises(RemoteCodeError, match="never"):
                auto.from_pretrained(folder, trust_remote_code=True, revision=COMMIT)
    with st.policy(remote_code="any"):
        assert st.is_guarded(st.AutoModel.from_pretrained(folder, trust_remote_code=True))


@pytest.mark.usefixtures("code_cache")
def test_code_is_refused_where_only_its_own_revision_can_move(tmp_path: Path) -> None:
    folder = save_remote_code(tmp_path / "remote")
    with st.policy(remote_code="pinned"), pytest.raises(RemoteCodeError, match="can move"):
        st.AutoModel.from_pretrained(folder, trust_remote_code=True, revision=COMMIT, code_revision="main")


@pytest.mark.usefixtures("code_cache")
@pytest.mark.parametrize("allowed", ["pinned", "never"])
def test_code_that_from_config_would_run_is_refused_too(tmp_path: Path, allowed: str) -> None:
    folder = save_remote_code(tmp_path / "remote")
    config = st.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    with st.policy(remote_code=allowed), pytest.raises(RemoteCodeError, match="remote"):
        st.AutoModel.from_config(config, trust_remote_code=True)
    with st.policy(remote_code="pinned"):
        assert st.is_guarded(st.AutoModel.from_config(config, trust_remote_code=True, code_revision=COMMIT))


@pytest.mark.usefixtures("code_cache")
@pytest.mark.parametrize("package", [st, transformers], ids=["ours", "theirs"])
def test_a_pipeline_with_code_of_its_own_is_refused(package: Any, tmp_path: Path) -> None:
    folder = str(save_remote_code(tmp_path / "remote"))
    with st.patched(), st.strict(), pytest.raises(RemoteCodeError):
        package.pipeline("feature-extraction", model=folder, trust_remote_code=True)


def test_a_generate_of_the_checkpoints_own_is_refused(tmp_path: Path) -> None:
    plain = save(tiny("gpt2"), tmp_path / "plain")
    folder = save(tiny("gpt2"), tmp_path / "own")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text("def generate(model, *args, **kwargs):\n    return 'ran'\n")
    with st.patched(), st.strict(padding="off"):
        model = transformers.GPT2LMHeadModel.from_pretrained(plain)
        with pytest.raises(RemoteCodeError):
            model.generate(torch.tensor([[5, 6]]), custom_generate=str(folder), trust_remote_code=True)
        with pytest.raises(RemoteCodeError):
            transformers.GPT2LMHeadModel.from_pretrained(folder, trust_remote_code=True)


def test_a_model_without_code_of_its_own_needs_no_pin_for_its_concrete_class(folders: Path) -> None:
    with st.patched(), st.strict():
        assert st.is_guarded(BertModel.from_pretrained(folders / "base", trust_remote_code=True))


# What messages show


def test_no_message_shows_a_token_or_the_folders_above_a_checkpoint(folders: Path, tmp_path: Path) -> None:
    secret = tmp_path / "customer-42" / "old"
    secret.mkdir(parents=True)
    save_pickle(tiny("bert"), secret)
    texts = []
    with st.strict():
        for source, kwargs in (
            (secret, {}),
            (secret, {"use_safetensors": False}),
            (secret, {"trust_remote_code": True}),
            (secret.parent / "not-there", {"trust_remote_code": True}),
            (f"customer-42/private/{secret.name}", {"trust_remote_code": True}),
        ):
            with pytest.raises(st.errors.SafeTransformersError) as info:
                st.AutoModel.from_pretrained(source, token="hf_secret", **kwargs)
            texts.append(str(info.value))
        with pytest.raises(LoadingError) as loading:
            st.AutoModelForMaskedLM.from_pretrained(folders / "base")
        texts.append(str(loading.value))
    for text in texts:
        assert re.search(r"old|not-there|base", text)
        assert not re.search(r"customer-42|hf_secret", text)
        assert str(tmp_path.parent) not in text
        assert len(text.splitlines()) <= 10


def test_a_token_passed_by_place_is_no_revision(folders: Path) -> None:
    from transformers import dynamic_module_utils

    names = list(inspect.signature(dynamic_module_utils.get_cached_module_file).parameters)
    arguments: dict[str, Any] = dict.fromkeys(names[: names.index("revision")])
    arguments |= {names[0]: folders / "base", names[1]: "config.json", "force_download": False, "token": "hf_secret"}
    with st.patched(), st.policy(remote_code="pinned"), pytest.raises(RemoteCodeError) as info:
        dynamic_module_utils.get_cached_module_file(*arguments.values())
    assert "hf_secret" not in str(info.value)
