"""``safetransformers.testing``, as a user's own suite uses it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import HfApi
from models import weights

import safetransformers as st
from safetransformers import compat, testing
from safetransformers.errors import CachedCopyWarning, NotCachedError

WORDS = {"refused": "refuses", "dns": "DNS", "timeout": "in time", "reset": "is cut", "certificate": "not trusted"}
WORDS |= {"429": "limits the rate", "503": "server error", "firewall": "blocks", "captive portal": "in its place"}


def state() -> list[object]:
    owners = [compat.wire().transport, compat.xet_switch()]
    return [vars(owner)[name] for owner, name in owners]


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A cache with one checkpoint, as ``save_pretrained`` wrote it."""
    repo = tmp_path / "cache" / "models--org--bert"
    commit = "a1" * 20
    testing.tiny_checkpoint("bert", repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    return repo.parent


@pytest.mark.parametrize("fault", testing.FAULTS)
def test_a_cached_model_loads_under_each_fault_and_the_user_is_told_why(fault: str, cached: Path) -> None:
    with testing.offline(fault) as requests, pytest.warns(CachedCopyWarning, match=WORDS[fault]):
        model = st.AutoModel.from_pretrained("org/bert", cache_dir=cached)
    assert requests and all(request.startswith(("HEAD https://", "GET https://")) for request in requests)
    assert torch.equal(weights(model), weights(testing.tiny_model("bert")))


def test_a_fault_is_also_met_where_everything_was_patched_before(cached: Path) -> None:
    with st.patched(), testing.offline("refused") as requests, pytest.warns(CachedCopyWarning, match="refuses"):
        transformers.AutoModel.from_pretrained("org/bert", cache_dir=cached)
    assert requests


def test_one_test_does_not_depend_on_the_one_before(cached: Path) -> None:
    for _ in range(2):
        with testing.offline("certificate") as requests, pytest.raises(NotCachedError):
            st.AutoConfig.from_pretrained("org/other", cache_dir=cached)
        assert requests  # no circuit stayed open


def test_a_second_test_with_the_same_call_is_warned_too(cached: Path) -> None:
    for _ in range(2):
        with testing.offline("certificate"), pytest.warns(CachedCopyWarning):
            st.AutoConfig.from_pretrained("org/bert", cache_dir=cached)


@pytest.mark.parametrize("fault", testing.FAULTS)
def test_plain_huggingface_hub_meets_the_fault_too(fault: str) -> None:
    with testing.offline(fault) as requests, pytest.raises((*compat.wire().errors, ValueError)):
        HfApi().model_info("org/model", timeout=3)
    assert "GET https://huggingface.co/api/models/org/model" in requests


def test_a_request_without_a_time_out_is_a_failure_where_it_would_hang() -> None:
    with testing.offline("timeout"), pytest.raises(RuntimeError, match="never end"):
        HfApi().model_info("org/model")


def test_nothing_is_left_behind_also_after_an_error_and_an_inner_block_counts(cached: Path) -> None:
    before = state()
    inside = pytest.raises(NotCachedError, match="TLS")
    with testing.offline("dns") as outer, testing.offline("certificate") as inner, inside:
        st.AutoConfig.from_pretrained("org/other", cache_dir=cached)
    assert inner and not outer
    with pytest.raises(ZeroDivisionError), testing.offline("dns"):
        raise ZeroDivisionError
    assert all(now is then for now, then in zip(state(), before, strict=True))


def test_other_threads_are_offline_too(cached: Path) -> None:
    found: list[str] = []
    with testing.offline("refused") as requests, pytest.warns(CachedCopyWarning):
        load = lambda: found.append(st.AutoConfig.from_pretrained("org/bert", cache_dir=cached).model_type)  # noqa: E731
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
    assert found == ["bert"] and requests


def test_a_fault_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="captive portal"), testing.offline("no such"):
        pass


def test_memory_that_runs_out_is_torchs_own_error_and_split_by_the_policy() -> None:
    plain, ids = testing.tiny_model("bert"), torch.randint(10, 90, (6, 5))
    model = st.guard(testing.tiny_model("bert"))
    with torch.no_grad(), testing.limited_memory(model, rows=4):
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            model(ids, attention_mask=torch.ones_like(ids))
        with st.policy(on_oom="split"):
            split = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        assert torch.allclose(split, plain(ids).last_hidden_state, atol=1e-6)
    with torch.no_grad():
        model(ids, attention_mask=torch.ones_like(ids))  # the hook is gone


@pytest.mark.parametrize(
    ("model_type", "auto_class"),
    [
        ("bert", "AutoModelForSequenceClassification"),
        ("llama", "AutoModelForCausalLM"),
        ("t5", "AutoModelForSeq2SeqLM"),
        ("vit", "AutoModelForImageClassification"),
        ("wav2vec2", "AutoModelForCTC"),
    ],
)
def test_a_tiny_checkpoint_of_any_architecture_loads_and_is_the_same_each_time(
    model_type: str, auto_class: str, tmp_path: Path
) -> None:
    state_before = torch.get_rng_state()
    folder = testing.tiny_checkpoint(model_type, tmp_path / "made", auto_class)
    assert torch.equal(state_before, torch.get_rng_state())
    loaded = getattr(st, auto_class).from_pretrained(folder)
    assert loaded.num_parameters() < (5_000_000 if model_type == "wav2vec2" else 500_000)
    assert torch.equal(weights(loaded), weights(testing.tiny_model(model_type, auto_class)))
    assert not torch.equal(weights(loaded), weights(testing.tiny_model(model_type, auto_class, seed=1)))


def test_the_tokenizer_fits_the_tiny_models() -> None:
    tokenizer, model = testing.tiny_tokenizer(), testing.tiny_model("llama", "AutoModelForCausalLM")
    batch = tokenizer(["hello wonderful world", "hello"], padding=True, return_tensors="pt")
    assert batch["input_ids"].max() < model.config.vocab_size
    assert tokenizer.pad_token_id == model.config.pad_token_id
    assert tokenizer.decode(batch["input_ids"][0]) == "hello wonderful world"


def test_settings_reach_the_configuration() -> None:
    model = testing.tiny_model("bert", "AutoModelForSequenceClassification", num_labels=7)
    assert model.config.num_labels == model.classifier.out_features == 7


def test_importing_the_package_does_not_import_it() -> None:
    code = "import sys, safetransformers; assert 'safetransformers.testing' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
