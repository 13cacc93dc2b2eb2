"""patch() guards what others load, wherever they imported it from, and leaves nothing behind."""

from __future__ import annotations

import copy
import functools
import importlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import wrapt
from checkpoints import save, save_remote_code
from models import error, padded_rows, tiny
from torch import nn
from transformers import AutoModel, BertModel, PreTrainedModel, pipeline

import safetransformers as st
from safetransformers import compat

Snapshot = dict[str, list[tuple[str, int]]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny("bert"), tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture
def original() -> Iterator[None]:
    """Whatever a test leaves on the base class is taken off after it."""
    before = vars(PreTrainedModel)["from_pretrained"]
    yield
    st.unpatch()
    PreTrainedModel.from_pretrained = before


def guarded_parts(model: nn.Module) -> list[str]:
    """Names of the modules of a model that have a hook before forward or a generate of their own."""
    return [name for name, part in model.named_modules() if part._forward_pre_hooks or "generate" in vars(part)]


def everything() -> Snapshot:
    """``vars()`` of each module that may be touched, and of each class in it: the names in order, and what they are."""
    found: Snapshot = {}
    touched = {
        "transformers",
        "huggingface_hub",
        "concurrent",
        "sys",
        "threading",
        "IPython",
        compat.wire().client.__module__.partition(".")[0],
    }
    for module_name, module in sorted(sys.modules.items()):
        if module_name.partition(".")[0] not in touched or not hasattr(module, "__dict__"):
            continue
        found[module_name] = [(key, id(value)) for key, value in vars(module).items()]
        for key, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == module_name:
                found[f"{module_name}.{key}"] = [(name, id(each)) for name, each in vars(value).items()]
    return found


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    return [name for name in before if after[name] != before[name]]


def target(name: str) -> Any:
    """What a dotted name of ``patches()`` stands for, as it is stored."""
    owner, _, attribute = name.rpartition(".")
    parts = owner.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        return vars(functools.reduce(getattr, parts[cut:], found))[attribute]
    raise LookupError(name)


def settle(checkpoint: Path | None = None) -> None:
    """Let transformers import what the first patch, and the first load, make it import."""
    with st.patched():
        if checkpoint is not None:
            AutoModel.from_pretrained(checkpoint)


# What is guarded


def test_models_of_auto_classes_and_of_concrete_classes_are_guarded(bert: Path) -> None:
    assert not st.is_guarded(AutoModel.from_pretrained(bert))
    st.patch()
    assert st.is_guarded(AutoModel.from_pretrained(bert))
    assert st.is_guarded(transformers.AutoModelForMaskedLM.from_config(tiny("bert").config))
    model = BertModel.from_pretrained(bert)
    assert guarded_parts(model) == [""]
    assert (
        error(model, tiny("bert"), padded_rows("right"))
        < 1e-5
        < error(tiny("bert"), tiny("bert"), padded_rows("right"))
    )
    st.unpatch()
    assert not st.is_guarded(AutoModel.from_pretrained(bert))
    assert not st.is_guarded(BertModel.from_pretrained(bert))


def test_a_pipeline_is_guarded(bert: Path) -> None:
    with st.patched():
        assert st.is_guarded(pipeline("feature-extraction", model=str(bert)).model)
    assert not st.is_guarded(pipeline("feature-extraction", model=str(bert)).model)


@pytest.mark.usefixtures("code_cache")
def test_a_model_with_code_of_its_own_is_guarded(tmp_path: Path) -> None:
    folder = save_remote_code(tmp_path / "remote")
    with st.patched():
        model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert guarded_parts(model) == [""]
    assert not st.is_guarded(type(model).from_pretrained(folder))
    with st.patched():
        assert st.is_guarded(type(model).from_pretrained(folder))


def test_a_users_own_subclass_is_guarded(bert: Path) -> None:
    class Mine(BertModel):
        pass

    with st.patched():
        assert type(Mine.from_pretrained(bert)) is Mine
        assert guarded_parts(Mine.from_pretrained(bert)) == [""]


def test_a_method_taken_before_the_patch_stays_as_it_was_for_a_model_class_but_not_for_an_auto_class(
    bert: Path,
) -> None:
    # A bound method is an object of its own. That of a model class is the loader itself; that of an Auto class looks
    # the model's loader up when it is called.
    of_class, of_auto = BertModel.from_pretrained, AutoModel.from_pretrained
    with st.patched():
        assert not st.is_guarded(of_class(bert))
        assert st.is_guarded(of_auto(bert))


def test_a_method_taken_during_the_patch_does_nothing_after_it(bert: Path) -> None:
    with st.patched():
        load = BertModel.from_pretrained
        assert st.is_guarded(load(bert))
    assert not st.is_guarded(load(bert))
    with st.patched():
        assert not st.is_guarded(load(bert))


def test_a_model_put_together_from_two_is_guarded_once_at_the_outermost(bert: Path, tmp_path: Path) -> None:
    with st.patched(), st.policy(loading="off"):
        whole = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(bert, bert)
        assert guarded_parts(whole) == [""]
        whole.save_pretrained(tmp_path / "whole")
        for load in (transformers.EncoderDecoderModel, transformers.AutoModelForSeq2SeqLM):
            assert guarded_parts(load.from_pretrained(tmp_path / "whole")) == [""]
        assert guarded_parts(transformers.AutoModelForSeq2SeqLM.from_config(whole.config)) == [""]
    assert guarded_parts(st.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole")) == [""]


def test_guarded_parts_given_to_a_loader_of_wholes_leave_the_guard_to_the_whole(bert: Path) -> None:
    encoder = st.AutoModel.from_pretrained(bert)
    decoder = tiny("bert").config.to_diff_dict() | {"is_decoder": True, "add_cross_attention": True}
    decoder_model = st.AutoModelForCausalLM.from_config(transformers.BertConfig(**decoder))
    with st.patched():
        whole = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(
            encoder_model=encoder, decoder_model=decoder_model
        )
    assert guarded_parts(whole) == [""]


def test_the_parts_of_a_vision_encoder_decoder_and_of_a_dual_encoder_are_left_to_the_whole(
    bert: Path, tmp_path: Path
) -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision = transformers.ViTConfig(**size, image_size=16, patch_size=8)
    transformers.ViTModel(vision).save_pretrained(tmp_path / "vit")
    with st.patched(), st.policy(loading="off"):
        captioner = transformers.VisionEncoderDecoderModel.from_encoder_decoder_pretrained(tmp_path / "vit", bert)
        dual = transformers.VisionTextDualEncoderModel.from_vision_text_pretrained(tmp_path / "vit", bert)
    assert guarded_parts(captioner) == [""]
    assert guarded_parts(dual) == [""]


def test_a_part_that_is_loaded_for_a_whole_is_still_checked(bert: Path) -> None:
    with st.patched(), st.policy(loading="raise"), pytest.raises(st.errors.LoadingError, match="crossattention"):
        transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(bert, bert)


def test_constructing_a_whole_leaves_no_guarded_part_inside() -> None:
    config = tiny("bert").config
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(config, copy.deepcopy(config))
    with st.patched():
        assert guarded_parts(transformers.EncoderDecoderModel(config)) == []


def test_a_model_made_inside_a_plain_module_is_guarded() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = AutoModel.from_config(tiny("bert").config)

    with st.patched():
        assert guarded_parts(Net()) == ["body"]


def test_a_guard_that_fails_leaves_the_load_alone_except_in_strict_mode(
    bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(model: nn.Module, layer: Any) -> None:
        raise RuntimeError("no signature")

    monkeypatch.setattr("safetransformers.padding.attach.attach", broken)
    assert isinstance(st.AutoModel.from_pretrained(bert), BertModel)
    assert "cannot be guarded" in caplog.text
    with st.strict(), pytest.raises(st.errors.GuardError, match="BertModel cannot be guarded: RuntimeError"):
        st.AutoModel.from_pretrained(bert)


# What is left behind


def test_after_unpatch_all_of_transformers_is_as_it_was(bert: Path) -> None:
    def use() -> None:
        with st.patched():
            AutoModel.from_pretrained(bert)
        st.AutoModel.from_pretrained(bert)
        st.AutoModel.from_config(tiny("bert").config)
        st.pipeline("feature-extraction", model=str(bert))

    use()  # transformers keeps what was asked for once
    before = everything()
    st.patch()
    during = everything()
    st.unpatch()
    assert differences(before, during)
    assert differences(before, everything()) == []
    use()
    assert differences(before, everything()) == []


def test_patches_lists_every_target_and_nothing_else() -> None:
    settle()
    assert st.patches() == ()
    before = everything()
    st.patch()
    names = st.patches()
    assert len(names) == len(set(names)) == len({id(target(name)) for name in names})
    assert all(isinstance(target(name), wrapt.BaseObjectProxy) for name in names)
    # A class is found under each name that it goes by, so only those under their own are compared.
    touched = {name.rpartition(".")[0] for name in names}
    assert touched <= set(differences(before, everything()))
    auto = [getattr(transformers, name) for name in dir(transformers) if name.startswith("Auto")]
    loaders = {f"{c.__module__}.{c.__qualname__}" for c in auto if "from_pretrained" in vars(c)}
    of_auto = {name for name in loaders if name.startswith("transformers.models.auto.") and "Placeholder" not in name}
    assert len(of_auto) > 30
    assert of_auto | {"transformers.modeling_utils.PreTrainedModel"} <= touched
    st.unpatch()
    assert st.patches() == ()


def test_patching_twice_is_patching_once(bert: Path) -> None:
    settle(bert)
    before = everything()
    st.patch()
    once, names = everything(), st.patches()
    st.patch()
    assert differences(once, everything()) == []
    assert st.patches() == names
    assert guarded_parts(BertModel.from_pretrained(bert)) == [""]
    st.unpatch()
    assert differences(before, everything()) == []
    st.unpatch()
    assert differences(before, everything()) == []
    st.patch()
    assert st.is_guarded(BertModel.from_pretrained(bert))
    st.unpatch()
    assert differences(before, everything()) == []


def test_blocks_nest_and_a_patch_outside_stays_on(bert: Path) -> None:
    with st.patched():
        with st.patched():
            assert st.patches()
        assert st.is_guarded(BertModel.from_pretrained(bert))
    assert not st.patches()
    st.patch()
    with st.patched():
        pass
    assert st.is_guarded(BertModel.from_pretrained(bert))


def test_unpatch_inside_a_block_takes_the_patch_but_not_the_block(bert: Path) -> None:
    st.patch()
    with st.patched():
        st.unpatch()
        assert st.is_guarded(BertModel.from_pretrained(bert))
    assert st.patches() == ()
    assert not st.is_guarded(BertModel.from_pretrained(bert))


def test_patch_inside_a_block_outlives_it() -> None:
    with st.patched():
        st.patch()
    assert st.patches()


def test_an_exception_ends_a_block_and_a_load(bert: Path) -> None:
    settle()
    before = everything()
    with pytest.raises(KeyError), st.patched():
        raise KeyError
    with pytest.raises(ValueError, match="Unrecognized"):
        st.AutoModel.from_pretrained(bert.parent)
    assert differences(before, everything()) == []
    assert not st.is_guarded(BertModel.from_pretrained(bert))


def test_models_can_be_released_copies_included(bert: Path) -> None:
    with st.patched():
        model, generator = (
            BertModel.from_pretrained(bert),
            transformers.AutoModelForCausalLM.from_config(tiny("gpt2").config),
        )
    twin = copy.deepcopy(generator)
    own = st.guard(tiny("llama"))
    st.unpatch()
    assert all(map(st.is_guarded, (model, generator, twin, own)))
    st.unpatch(release_models=True)
    for each in (model, generator, twin, own):
        assert not st.is_guarded(each)
        assert guarded_parts(each) == []


# Other people's wrappers


class Foreign:
    """Somebody else's wrapper on ``PreTrainedModel.from_pretrained``: a wrapt one, a closure, or a replacement."""

    def __init__(self, kind: str) -> None:
        self.kind, self.calls = kind, 0

    def put_on(self) -> None:
        self.below = vars(PreTrainedModel)["from_pretrained"]
        if self.kind == "wrapt":
            self.handle = wrapt.wrap_function_wrapper(PreTrainedModel, "from_pretrained", self._count)
            return
        below = self.below.__func__ if self.kind == "closure" else None

        def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if below is None:  # a replacement knows nothing of what was there
                model = tiny("bert")
                return (model, {}) if kwargs.get("output_loading_info") else model
            return self.below.__get__(None, cls)(*args, **kwargs)

        wrapper = functools.wraps(below)(from_pretrained) if below is not None else from_pretrained
        PreTrainedModel.from_pretrained = classmethod(wrapper)

    def _count(self, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        return wrapped(*args, **kwargs)

    def take_off(self) -> None:
        if self.kind == "wrapt":
            wrapt.unwrap_object(PreTrainedModel, "from_pretrained", self.handle)
        else:
            PreTrainedModel.from_pretrained = self.below


KINDS = ("wrapt", "closure", "replacement")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("original")
def test_a_wrapper_that_was_there_before_is_kept_and_called(kind: str, bert: Path) -> None:
    settle()
    plain = everything()
    foreign = Foreign(kind)
    foreign.put_on()
    before = everything()
    for turn in (1, 2):
        st.patch()
        assert guarded_parts(BertModel.from_pretrained(bert)) == [""]
        assert foreign.calls == 2 * turn - 1
        st.unpatch()
        assert differences(before, everything()) == []
        assert not st.is_guarded(BertModel.from_pretrained(bert))
    foreign.take_off()
    assert differences(plain, everything()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("original")
def test_a_wrapper_that_came_later_is_kept_and_called(kind: str, bert: Path) -> None:
    settle()
    plain = everything()
    st.patch()
    foreign = Foreign(kind)
    foreign.put_on()
    above = vars(PreTrainedModel)["from_pretrained"]
    assert st.is_guarded(BertModel.from_pretrained(bert)) == (kind != "replacement")
    st.unpatch()
    assert vars(PreTrainedModel)["from_pretrained"] is above
    assert not st.is_guarded(BertModel.from_pretrained(bert))
    assert foreign.calls == 2
    if kind == "wrapt":
        foreign.take_off()
        assert differences(plain, everything()) == []


@pytest.mark.parametrize("below", KINDS)
@pytest.mark.parametrize("above", KINDS)
@pytest.mark.usefixtures("original")
def test_between_two_wrappers_of_others_only_ours_goes(below: str, above: str, bert: Path) -> None:
    lower, upper = Foreign(below), Foreign(above)
    lower.put_on()
    before = everything()
    st.patch()
    upper.put_on()
    BertModel.from_pretrained(bert)
    st.unpatch()
    assert not st.is_guarded(BertModel.from_pretrained(bert))
    assert upper.calls == 2
    assert lower.calls == (0 if above == "replacement" else 2)
    if above == "wrapt":
        upper.take_off()
        assert differences(before, everything()) == []


@pytest.mark.usefixtures("original")
def test_a_closure_that_keeps_our_wrapper_alive_keeps_a_wrapper_that_does_nothing(bert: Path) -> None:
    st.patch()
    foreign = Foreign("closure")
    foreign.put_on()
    st.unpatch()
    assert not st.is_guarded(BertModel.from_pretrained(bert))
    st.patch()
    with st.policy(loading="raise"):
        model, info = BertModel.from_pretrained(bert, output_loading_info=True)
    assert guarded_parts(model) == [""]
    assert not info["missing_keys"]
    st.unpatch()
    assert not st.is_guarded(BertModel.from_pretrained(bert))
    foreign.take_off()  # puts our dead wrapper back, as it found it
    assert not st.is_guarded(BertModel.from_pretrained(bert))
    st.patch()
    assert guarded_parts(BertModel.from_pretrained(bert)) == [""]


def test_a_wrapper_on_an_auto_class_is_kept(bert: Path) -> None:
    settle(bert)
    before, calls = everything(), []

    def count(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        calls.append(instance)
        return wrapped(*args, **kwargs)

    st.patch()
    handle = wrapt.wrap_function_wrapper(AutoModel, "from_pretrained", count)
    assert st.is_guarded(st.AutoModel.from_pretrained(bert))
    st.unpatch()
    assert st.is_guarded(st.AutoModel.from_pretrained(bert))
    assert not st.is_guarded(AutoModel.from_pretrained(bert))
    assert len(calls) == 3
    wrapt.unwrap_object(AutoModel, "from_pretrained", handle)
    assert differences(before, everything()) == []


# Threads


@pytest.fixture
def quick_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that is safe in threads, which transformers' own is not (it swaps torch's initialisers meanwhile)."""
    model = tiny("bert")

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        if (inside := kwargs.get("inside")) is not None:
            inside()
        twin = copy.deepcopy(model)
        return (twin, {}) if kwargs.get("output_loading_info") else twin

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(from_pretrained))


def in_threads(work: Callable[[int], None], number: int) -> None:
    failures: list[BaseException] = []

    def run(i: int) -> None:
        try:
            work(i)
        except BaseException as failure:  # noqa: BLE001 - told in the test's own thread
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.usefixtures("quick_loader")
def test_sixteen_threads_patch_unpatch_and_load_at_the_same_time(bert: Path) -> None:
    settle()
    before, config = everything(), tiny("bert").config

    def work(i: int) -> None:
        order = random.Random(i)
        for _ in range(12):
            action = order.choice(("patch", "unpatch", "patched", "ours", "theirs"))
            if action == "patch":
                st.patch()
            elif action == "unpatch":
                st.unpatch()
            elif action == "patched":
                with st.patched():
                    assert guarded_parts(BertModel.from_pretrained(bert)) == [""]
            elif action == "ours":
                assert guarded_parts(st.AutoModel.from_pretrained(bert, config=config)) == [""]
            else:
                BertModel.from_pretrained(bert)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        in_threads(work, 16)
    finally:
        sys.setswitchinterval(interval)
    st.unpatch()
    assert differences(before, everything()) == []
    assert not st.is_guarded(BertModel.from_pretrained(bert))


@pytest.mark.usefixtures("quick_loader")
def test_another_threads_plain_load_stays_plain_during_a_load_through_us(bert: Path) -> None:
    config, found = tiny("bert").config, {}

    def elsewhere() -> None:
        in_threads(lambda _: found.update(theirs=AutoModel.from_pretrained(bert, config=config)), 1)
        in_threads(lambda _: found.update(ours=st.AutoModel.from_pretrained(bert, config=config)), 1)

    found["outer"] = st.AutoModel.from_pretrained(bert, config=config, inside=elsewhere)
    assert {name: st.is_guarded(model) for name, model in found.items()} == {
        "outer": True,
        "theirs": False,
        "ours": True,
    }


@pytest.mark.usefixtures("quick_loader")
def test_unpatch_in_another_thread_does_not_cut_a_load_through_us_short(bert: Path) -> None:
    config = tiny("bert").config
    st.patch()
    assert st.is_guarded(
        st.AutoModel.from_pretrained(bert, config=config, inside=lambda: in_threads(lambda _: st.unpatch(), 1))
    )
    assert not st.is_guarded(BertModel.from_pretrained(bert))


def test_a_guarded_model_is_the_plain_one_but_for_the_guard(bert: Path) -> None:
    with st.patched():
        model = BertModel.from_pretrained(bert)
    plain = BertModel.from_pretrained(bert)
    st.unguard(model)
    assert vars(model).keys() == vars(plain).keys()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
