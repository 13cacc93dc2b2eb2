"""The Auto classes of safetransformers are transformers' own in everything but the guards."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import save, save_remote_code
from models import tiny
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.import_utils import DummyObject

import safetransformers as st

# Every Auto class, from transformers itself and not by the code under test; those whose backend is missing apart.
_TYPES = {name: getattr(transformers, name) for name in dir(transformers) if name.startswith("Auto")}
_OF_AUTO = {name: cls for name, cls in _TYPES.items() if cls.__module__.startswith("transformers.models.auto.")}
DUMMIES = sorted(name for name, cls in _TYPES.items() if isinstance(cls, DummyObject))
AUTO = sorted(name for name, cls in _OF_AUTO.items() if isinstance(cls, type) and name not in DUMMIES)
PUBLIC = ("from_pretrained", "from_config", "register")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny("bert"), tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    for registry in (transformers.CONFIG_MAPPING, transformers.MODEL_MAPPING, transformers.TOKENIZER_MAPPING):
        monkeypatch.setattr(registry, "_extra_content", dict(registry._extra_content))


@pytest.fixture
def code_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of remote code go to a folder of the test."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")


def test_every_kind_of_auto_class_is_looked_at() -> None:
    assert {"AutoConfig", "AutoTokenizer", "AutoProcessor", "AutoFeatureExtractor", "AutoBackbone"} <= set(AUTO)
    assert "AutoModelForCausalLM" in AUTO
    assert not {"AutoRoundConfig", "AutoformerModel"} & set(AUTO)


@pytest.mark.parametrize("name", AUTO)
def test_each_auto_class_is_a_subclass_that_looks_like_theirs(name: str) -> None:
    ours, theirs = getattr(st, name), getattr(transformers, name)
    assert isinstance(ours, type)
    assert type(ours) is type(theirs)
    assert issubclass(ours, theirs)
    assert ours is not theirs
    assert (ours.__name__, ours.__qualname__, ours.__module__) == (name, name, "safetransformers")
    assert ours.__doc__ == theirs.__doc__
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert getattr(st, name) is ours


@pytest.mark.parametrize("name", AUTO)
def test_each_public_method_has_their_signature_and_docstring(name: str) -> None:
    ours, theirs = getattr(st, name), getattr(transformers, name)
    public = [method for method in dir(theirs) if not method.startswith("_") and callable(getattr(theirs, method))]
    assert set(public) & set(PUBLIC)
    for method in public:
        assert inspect.signature(getattr(ours, method)) == inspect.signature(getattr(theirs, method))
        assert getattr(ours, method).__doc__ == getattr(theirs, method).__doc__
        assert getattr(ours, method).__name__ == method


@pytest.mark.parametrize("name", AUTO)
def test_each_auto_class_pickles_and_copies_by_reference(name: str) -> None:
    ours = getattr(st, name)
    assert pickle.loads(pickle.dumps(ours)) is ours
    assert copy.deepcopy(ours) is ours


@pytest.mark.parametrize("name", AUTO)
def test_instantiating_an_auto_class_is_the_same_error(name: str) -> None:
    with pytest.raises((OSError, TypeError)) as theirs:
        getattr(transformers, name)()
    with pytest.raises(type(theirs.value)) as ours:
        getattr(st, name)()
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("name", [name for name in AUTO if hasattr(getattr(transformers, name), "from_config")])
def test_a_config_without_a_class_is_the_same_error(name: str) -> None:
    config = PretrainedConfig()
    with pytest.raises(ValueError, match=r"PreTrainedConfig|PretrainedConfig") as theirs:
        getattr(transformers, name).from_config(config)
    with pytest.raises(ValueError, match=r"PreTrainedConfig|PretrainedConfig") as ours:
        getattr(st, name).from_config(config)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("name", AUTO)
def test_every_argument_reaches_their_from_pretrained_untouched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def theirs(cls: type, *args: Any, **kwargs: Any) -> str:
        seen.append((cls, args, kwargs))
        return "loaded"

    monkeypatch.setattr(getattr(transformers, name), "from_pretrained", classmethod(theirs))
    kwargs = {"revision": "main", "quantization_config": object(), "anything": object(), "torch_dtype": torch.float16}
    ours = getattr(st, name)
    assert ours.from_pretrained("a-repo", 1, **kwargs) == "loaded"
    assert seen == [(ours, ("a-repo", 1), kwargs)]


@pytest.mark.parametrize("loading", ["off", "report", "raise"])
def test_the_models_loader_gets_what_it_gets_from_transformers(
    bert: Path, loading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def record(cls: type, *args: Any, **kwargs: Any) -> Any:
        seen.append({**kwargs, "config": kwargs["config"].to_dict(), "args": args})
        model = tiny("bert")
        return (model, {}) if kwargs.get("output_loading_info") else model

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(record))
    kwargs = {
        "dtype": torch.bfloat16,
        "attn_implementation": "eager",
        "quantization_config": {"bits": 4},
        "num_labels": 7,
    }
    transformers.AutoModel.from_pretrained(bert, **kwargs)
    with st.policy(loading=loading):
        st.AutoModel.from_pretrained(bert, **kwargs)
    theirs, ours = seen
    if loading != "off":
        assert ours.pop("output_loading_info") is True
    assert ours == theirs


@pytest.mark.parametrize("dtype_name", ["dtype", "torch_dtype"])
def test_dtype_attention_and_config_keywords_work(bert: Path, dtype_name: str) -> None:
    config = transformers.AutoConfig.from_pretrained(bert)
    config.pad_token_id = 9
    model = st.AutoModel.from_pretrained(
        bert, config=config, attn_implementation="eager", **{dtype_name: torch.bfloat16}
    )
    assert model.dtype == torch.bfloat16
    assert (model.config._attn_implementation, model.config.pad_token_id) == ("eager", 9)


def test_a_model_from_a_state_dict_holds_it() -> None:
    plain = tiny("bert")
    state = {key: tensor + 1 for key, tensor in plain.state_dict().items()}
    with st.patched(), st.strict():
        model = transformers.BertModel.from_pretrained(None, config=plain.config, state_dict=dict(state))
    assert st.is_guarded(model)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_tokenizer_config_and_processor_are_what_theirs_return(bert: Path) -> None:
    for name in ("AutoTokenizer", "AutoProcessor"):
        ours = getattr(st, name).from_pretrained(bert)
        theirs = getattr(transformers, name).from_pretrained(bert)
        assert type(ours) is type(theirs)
        assert ours("hello world")["input_ids"] == theirs("hello world")["input_ids"]
    assert type(st.AutoConfig.from_pretrained(bert)) is transformers.BertConfig
    assert st.AutoConfig.from_pretrained(bert).to_dict() == transformers.AutoConfig.from_pretrained(bert).to_dict()


def test_unused_kwargs_of_a_config_are_returned(bert: Path) -> None:
    config, unused = st.AutoConfig.from_pretrained(bert, return_unused_kwargs=True, num_labels=5, of_nobody=1)
    assert (config.num_labels, unused["of_nobody"]) == (5, 1)


def test_output_loading_info_returns_the_tuple(bert: Path) -> None:
    _, theirs = transformers.AutoModel.from_pretrained(bert, output_loading_info=True)
    for loading in ("off", "report", "raise"):
        with st.policy(loading=loading):
            model, info = st.AutoModel.from_pretrained(bert, output_loading_info=True)
        assert st.is_guarded(model)
        assert info == theirs
    assert isinstance(st.AutoModel.from_pretrained(bert), transformers.BertModel)


def test_from_config_makes_a_guarded_model_of_the_same_class(bert: Path) -> None:
    config = st.AutoConfig.from_pretrained(bert)
    model = st.AutoModelForMaskedLM.from_config(config)
    assert type(model) is transformers.BertForMaskedLM
    assert st.is_guarded(model)
    assert not st.is_guarded(transformers.AutoModelForMaskedLM.from_config(config))


@pytest.mark.parametrize("there_and_back", [("transformers", "safetransformers"), ("safetransformers", "transformers")])
@pytest.mark.usefixtures("registries")
def test_what_is_registered_on_one_side_is_loaded_on_the_other(there_and_back: tuple[str, str], tmp_path: Path) -> None:
    both = {"transformers": transformers, "safetransformers": st}
    there, back = (both[package] for package in there_and_back)

    class MyConfig(transformers.BertConfig):
        model_type = "registered-in-a-test"

    class MyModel(transformers.BertModel):
        config_class = MyConfig

    class MyTokenizer(transformers.PreTrainedTokenizerFast):
        pass

    there.AutoConfig.register("registered-in-a-test", MyConfig)
    there.AutoModel.register(MyConfig, MyModel)
    there.AutoTokenizer.register(MyConfig, fast_tokenizer_class=MyTokenizer)

    config = MyConfig(**tiny("bert").config.to_diff_dict() | {"model_type": "registered-in-a-test"})
    folder = save(MyModel(config), tmp_path / "mine")
    (folder / "tokenizer_config.json").unlink()
    assert type(back.AutoConfig.from_pretrained(folder)) is MyConfig
    model = back.AutoModel.from_pretrained(folder)
    assert type(model) is MyModel
    assert st.is_guarded(model) == (back is st)
    assert type(back.AutoModel.from_config(config)) is MyModel
    assert type(back.AutoTokenizer.from_pretrained(folder)) is type(there.AutoTokenizer.from_pretrained(folder))
    with pytest.raises(ValueError, match="already used"):
        back.AutoModel.register(transformers.BertConfig, transformers.BertModel)


@pytest.mark.usefixtures("registries", "code_cache")
def test_a_model_with_code_of_its_own_loads_and_is_guarded(tmp_path: Path) -> None:
    folder = save_remote_code(tmp_path / "remote")
    config = st.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert type(config).__name__ == "RemoteConfig"
    loaded = st.AutoModel.from_pretrained(folder, trust_remote_code=True)
    made = st.AutoModel.from_config(config, trust_remote_code=True)
    assert type(loaded).__name__ == type(made).__name__ == "RemoteModel"
    assert st.is_guarded(loaded)
    assert st.is_guarded(made)


def test_a_users_own_subclass_of_an_auto_class_works(bert: Path) -> None:
    class Mine(st.AutoModel):
        loads = 0

        @classmethod
        def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
            cls.loads += 1
            return super().from_pretrained(*args, **kwargs)

    assert st.is_guarded(Mine.from_pretrained(bert))
    assert st.is_guarded(Mine.from_config(st.AutoConfig.from_pretrained(bert)))
    assert Mine.loads == 1


def test_every_other_name_is_transformers_own_object() -> None:
    for name in ("BertModel", "BertConfig", "Trainer", "TrainingArguments", "set_seed", "modeling_utils"):
        assert getattr(st, name) is getattr(transformers, name)
    for name in _TYPES.keys() - {*AUTO, *DUMMIES}:  # those that only begin like one: AutoformerModel, AutoRoundConfig
        assert getattr(st, name) is getattr(transformers, name)
    from safetransformers import BertModel, PreTrainedModel, Trainer

    assert (BertModel, PreTrainedModel, Trainer) == (
        transformers.BertModel, transformers.PreTrainedModel, transformers.Trainer,
    )  # fmt: skip


def test_pipeline_is_ours_and_looks_like_theirs(bert: Path) -> None:
    assert st.pipeline is not transformers.pipeline
    assert inspect.signature(st.pipeline) == inspect.signature(transformers.pipeline)
    assert st.pipeline.__doc__ == transformers.pipeline.__doc__
    assert (st.pipeline.__name__, st.pipeline.__module__) == ("pipeline", "safetransformers")
    assert pickle.loads(pickle.dumps(st.pipeline)) is st.pipeline
    ours = st.pipeline("feature-extraction", model=str(bert))
    assert type(ours) is type(transformers.pipeline("feature-extraction", model=str(bert)))
    assert st.is_guarded(ours.model)


def test_the_dummy_of_a_missing_backend_behaves_as_theirs() -> None:
    for name in DUMMIES:
        ours, theirs = getattr(st, name), getattr(transformers, name)
        assert isinstance(ours, DummyObject)
        assert ours.__name__ == theirs.__name__
        for use in (lambda cls: cls(), lambda cls: cls.from_pretrained("anything")):
            with pytest.raises(ImportError) as our_error:
                use(ours)
            with pytest.raises(ImportError) as their_error:
                use(theirs)
            assert str(our_error.value) == str(their_error.value)


def test_an_unknown_name_is_an_error_that_names_both_packages() -> None:
    with pytest.raises(AttributeError, match=r"'safetransformers' nor 'transformers'.*'AutoNothing'"):
        _ = st.AutoNothing
    with pytest.raises(ImportError, match=r"transformers .* does not have AutoNothing") as info:
        from safetransformers import AutoNothing  # noqa: F401
    assert info.value.name == "safetransformers"
    assert not hasattr(st, "AutoNothing")
    assert getattr(st, "nothing_at_all", None) is None


def test_two_threads_that_ask_first_get_the_same_class(monkeypatch: pytest.MonkeyPatch) -> None:
    st.AutoModel  # noqa: B018 - transformers is imported before the race
    for _ in range(20):
        monkeypatch.delitem(vars(st), "AutoModel", raising=False)
        start, found = threading.Barrier(8), []

        def ask(start: threading.Barrier = start, found: list[type] = found) -> None:
            start.wait()
            found.append(st.AutoModel)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {*found, st.AutoModel} == {st.AutoModel}
