"""The padding guard on models: what is inferred, what is left alone, what is said."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

import pytest
import torch
import transformers
from models import BOS, EOS, PAD, ROWS, error, mask_of, numbers, padded_rows, tiny
from torch import Tensor, nn

from safetransformers import configure, guard, policy, position_ids_from_mask, report, strict, unguard
from safetransformers.errors import (
    AmbiguousPaddingWarning,
    GuardError,
    NoCacheWarning,
    NotInvariantWarning,
    PaddingError,
    SafeTransformersWarning,
    UnmaskedPaddingWarning,
    UnmeasuredArchitectureWarning,
)

_TOLERANCE = 1e-4


class Seen:
    """The arguments that forward really gets."""

    def __init__(self, model: nn.Module) -> None:
        self.kwargs: dict[str, Any] = {}
        model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.kwargs = kwargs

    def __getitem__(self, name: str) -> Any:
        return self.kwargs.get(name)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["bert", "bert-classifier", "gpt2", "llama", "mistral"])
def test_padded_rows_have_the_numbers_of_the_rows_alone(name: str, side: str) -> None:
    plain, ids = tiny(name), padded_rows(side)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SafeTransformersWarning)
        assert error(guard(tiny(name)), plain, ids) < _TOLERANCE


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_same_rows_are_wrong_without_the_guard(name: str) -> None:
    assert error(tiny(name), tiny(name), padded_rows("left")) > 100 * _TOLERANCE


def test_the_pooled_output_of_left_padded_rows_is_that_of_the_rows_alone() -> None:
    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("left")
    pooled = model(input_ids=ids, output_hidden_states=True)
    for row, tokens in enumerate(ROWS):
        reference = plain(input_ids=torch.tensor([tokens]), output_hidden_states=True)
        assert (pooled.pooler_output[row] - reference.pooler_output[0]).abs().max() < _TOLERANCE
        for ours, theirs in zip(pooled.hidden_states, reference.hidden_states, strict=True):
            assert (ours[row, -len(tokens) :] - theirs[0]).abs().max() < _TOLERANCE


def test_a_batch_padded_on_both_sides_is_right() -> None:
    plain, model = tiny("gpt2"), guard(tiny("gpt2"))
    ids = torch.tensor([[PAD, PAD, 7, 8, PAD], [5, 6, 7, 8, 9]])
    difference = model(input_ids=ids).logits[0, 2:4] - plain(input_ids=ids[:1, 2:4]).logits[0]
    assert difference.abs().max() < _TOLERANCE


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_without_padding_nothing_is_passed_and_the_result_is_bit_identical(name: str) -> None:
    plain, model = tiny(name), guard(tiny(name))
    seen = Seen(model)
    ids = torch.tensor([[5, PAD, PAD, 7], [6, 8, 9, 4]])  # pads in the middle are tokens
    kwargs = {"decoder_input_ids": torch.tensor([[PAD, 5], [PAD, 6]])} if name == "t5" else {}
    assert torch.equal(numbers(model(input_ids=ids, **kwargs)), numbers(plain(input_ids=ids, **kwargs)))
    assert set(seen.kwargs) == {"input_ids", *kwargs}


def test_a_pad_in_the_middle_of_a_padded_row_is_a_token() -> None:
    model = guard(tiny("gpt2"))
    seen = Seen(model)
    model(input_ids=torch.tensor([[5, PAD, 7, PAD], [5, 6, 7, 8]]))
    assert seen["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_positional_arguments_are_guarded_as_well() -> None:
    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("right")
    assert torch.equal(model(ids)[0], model(input_ids=ids)[0])
    assert torch.equal(model(ids, None)[0], model(input_ids=ids)[0])
    ones = torch.ones_like(ids)
    assert torch.equal(model(ids, ones)[0], plain(ids, ones)[0])


def test_a_mask_of_the_callers_wins_also_when_it_is_all_ones() -> None:
    ids = padded_rows("left")
    for mask in (torch.ones_like(ids), mask_of(ids), torch.ones(len(ids), 1, ids.shape[1], ids.shape[1]).bool()):
        plain, model = tiny("gpt2"), guard(tiny("gpt2"))
        seen = Seen(model)
        ours, theirs = (m(input_ids=ids, attention_mask=mask).logits for m in (model, plain))
        assert torch.equal(ours, theirs)
        assert seen["attention_mask"] is mask and seen["position_ids"] is None


def test_a_dictionary_of_masks_is_left_alone() -> None:
    ids = padded_rows("right")
    causal = torch.ones(ids.shape[1], ids.shape[1]).tril().bool().expand(len(ids), 1, -1, -1)
    masks = {"full_attention": causal}
    seen = Seen(model := guard(tiny("llama")))
    with suppress(TypeError, AttributeError, RuntimeError):  # some forwards take none; what counts is what they got
        model(input_ids=ids, attention_mask=masks)
    assert seen["attention_mask"] is masks


@pytest.mark.parametrize(
    "foreign",
    [
        {"position_ids": torch.tensor([[0, 1, 2, 0, 1]])},
        {"cu_seq_lens_q": torch.tensor([0, 3, 5])},
    ],
)
def test_packed_rows_are_left_alone(foreign: dict[str, Tensor]) -> None:
    plain, model = tiny("llama"), guard(tiny("llama"))
    ids = torch.tensor([[5, 6, PAD, 8, PAD]])
    assert torch.equal(model(input_ids=ids, **foreign).logits, plain(input_ids=ids, **foreign).logits)


def test_embeddings_are_left_alone() -> None:
    plain, model = tiny("bert"), guard(tiny("bert"))
    embeddings = plain.get_input_embeddings()(padded_rows("right"))
    assert torch.equal(model(inputs_embeds=embeddings)[0], plain(inputs_embeds=embeddings)[0])


def test_a_call_that_goes_on_from_a_filled_cache_is_left_alone() -> None:
    plain, model = tiny("gpt2"), guard(tiny("gpt2"))
    start, rest = torch.tensor([[5, 6, 7]]), torch.tensor([[8, PAD]])
    logits = []
    for m in (plain, model):
        cache = m(input_ids=start, use_cache=True).past_key_values
        logits.append(m(input_ids=rest, past_key_values=cache).logits)
    assert torch.equal(*logits)


def test_an_empty_cache_does_not_hide_padding() -> None:
    plain, ids = tiny("gpt2"), padded_rows("left")
    cache = transformers.DynamicCache()
    logits = guard(tiny("gpt2"))(input_ids=ids, past_key_values=cache).logits
    assert (logits[1, -3:] - plain(input_ids=ids[1:2, -3:]).logits[0]).abs().max() < _TOLERANCE


def test_a_single_column_is_never_padding() -> None:
    plain, model, ids = tiny("gpt2"), guard(tiny("gpt2")), torch.tensor([[PAD], [5]])
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_encoder_side_of_an_encoder_decoder_is_masked(side: str) -> None:
    plain, model, ids = tiny("t5"), guard(tiny("t5")), padded_rows(side)
    target = torch.tensor([[PAD, 5, 6], [PAD, 7, PAD], [PAD, PAD, PAD]])
    seen = Seen(model)
    logits = model(input_ids=ids, decoder_input_ids=target).logits
    assert seen["decoder_attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    for row, tokens in enumerate(ROWS):
        reference = plain(input_ids=torch.tensor([tokens]), decoder_input_ids=target[row : row + 1]).logits[0]
        real = seen["decoder_attention_mask"][row].bool()
        assert (logits[row] - reference)[real].abs().max() < _TOLERANCE * reference.abs().max()


def test_the_pad_token_is_read_when_the_model_is_called() -> None:
    model = guard(tiny("gpt2", pad_token_id=None))
    seen = Seen(model)
    model(input_ids=padded_rows("right"))
    assert seen["attention_mask"] is None
    model.config.pad_token_id = PAD
    model(input_ids=padded_rows("right"))
    assert torch.equal(seen["attention_mask"], mask_of(padded_rows("right")))


def test_the_pad_token_of_a_composite_config_is_the_text_configs() -> None:
    text = tiny("gpt2").config

    class Config(transformers.PretrainedConfig):
        model_type = "composite-of-a-test"
        sub_configs = {"text_config": type(text)}  # noqa: RUF012

    class Composite(transformers.PreTrainedModel):
        config_class = Config

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor | None:
            return attention_mask

    config = Config()
    config.text_config = text
    model = guard(Composite(config))
    with policy(strict=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model(input_ids=padded_rows("right")).tolist() == mask_of(padded_rows("right")).tolist()


def test_a_pad_that_is_also_eos_keeps_the_genuine_eos_and_says_so_once() -> None:
    plain = tiny("gpt2", pad_token_id=EOS)
    model = guard(tiny("gpt2", pad_token_id=EOS))
    ids = torch.tensor([[5, 6, EOS, EOS, EOS], [5, 6, 7, 8, EOS]])
    with pytest.warns(AmbiguousPaddingWarning) as told:
        for _ in range(2):
            logits = model(input_ids=ids).logits
    assert len(told) == 1
    assert (logits[0, :3] - plain(input_ids=ids[:1, :3]).logits[0]).abs().max() < _TOLERANCE
    with strict(padding="infer"), pytest.raises(PaddingError, match="ST-MASK-003"):
        model(input_ids=ids)


def test_a_pad_that_is_also_bos_keeps_the_genuine_bos_where_every_row_begins_with_it() -> None:
    model = guard(tiny("gpt2", pad_token_id=BOS))
    seen = Seen(model)
    with pytest.warns(AmbiguousPaddingWarning):
        model(input_ids=torch.tensor([[BOS, BOS, BOS, 5], [BOS, 6, 7, 8]]))
        assert seen["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    model(input_ids=torch.tensor([[BOS, BOS, BOS, 5], [9, 6, 7, 8]]))  # no tokenizer put a bos before the second row
    assert seen["attention_mask"].tolist() == [[0, 0, 0, 1], [1, 1, 1, 1]]


def test_strict_raises_a_value_error_with_the_numbers_and_the_fix() -> None:
    model = guard(tiny("bert"))
    with strict(), pytest.raises(ValueError, match=r"ST-MASK-001") as raised:
        model(input_ids=padded_rows("right"))
    assert "row 1 has 4 of 7 tokens equal to pad_token_id=0" in str(raised.value)
    assert "infer_attention_mask" in raised.value.do
    with strict():
        model(input_ids=padded_rows("right"), attention_mask=mask_of(padded_rows("right")))
        model(input_ids=torch.tensor([[5, 6]]))


def test_warn_changes_nothing_and_warns_once_per_line() -> None:
    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("right")
    with policy(padding="warn"), pytest.warns(UnmaskedPaddingWarning) as told:
        for _ in range(3):
            output = model(input_ids=ids)
        model(input_ids=ids)
    assert torch.equal(output[0], plain(input_ids=ids)[0])
    assert [warning.filename for warning in told] == [__file__] * 2


def test_off_is_plain() -> None:
    plain, ids = tiny("bert"), padded_rows("right")
    configure(padding="off")
    assert torch.equal(guard(tiny("bert"))(input_ids=ids)[0], plain(input_ids=ids)[0])


def test_a_models_own_policy_goes_with_it() -> None:
    model = guard(tiny("bert"), padding="raise")
    with pytest.raises(PaddingError):
        model(input_ids=padded_rows("right"))
    guard(model, padding="off")
    model(input_ids=padded_rows("right"))


def test_what_was_inferred_is_counted() -> None:
    before = report().get("padding.inferred", 0)
    guard(tiny("gpt2"))(input_ids=padded_rows("right"))
    assert report()["padding.inferred"] == before + 1


def _convbert() -> Any:
    return transformers.ConvBertModel(
        transformers.ConvBertConfig(
            vocab_size=64,
            hidden_size=32,
            embedding_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            initializer_range=0.3,
            pad_token_id=PAD,
        )
    ).eval()


@pytest.mark.parametrize("masked", [True, False])
def test_a_class_that_no_mask_can_mend_says_so_once_and_raises_in_strict_mode(masked: bool) -> None:
    model, ids = guard(_convbert()), padded_rows("right")
    kwargs = {"attention_mask": mask_of(ids)} if masked else {}
    with pytest.warns(NotInvariantWarning, match='padding="exact"') as told:
        for _ in range(2):
            model(input_ids=ids, **kwargs)
    assert len(told) == 1
    with strict(), pytest.raises(PaddingError):
        model(input_ids=ids, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard(_convbert())(input_ids=ids[:1], **({"attention_mask": mask_of(ids[:1])} if masked else {}))


def test_a_class_that_nobody_measured_is_masked_and_says_so() -> None:
    class MyModel(transformers.BertPreTrainedModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.inner = transformers.BertModel(config)
            self.post_init()

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask)

    model = guard(MyModel(tiny("bert").config).eval())
    plain = unguard(model)
    ids = padded_rows("right")
    reference = plain(input_ids=ids[1:2, :3])[0]
    with pytest.warns(UnmeasuredArchitectureWarning):
        output = guard(model)(input_ids=ids)[0]
    assert (output[1, :3] - reference[0]).abs().max() < _TOLERANCE


def test_a_guard_that_fails_does_not_break_the_call_except_in_strict_mode(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from safetransformers.padding import hook

    def broken(*args: Any) -> None:
        raise KeyError("a fault of ours")

    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("right")
    monkeypatch.setattr(hook, "edges", broken)
    assert torch.equal(model(input_ids=ids)[0], plain(input_ids=ids)[0])
    assert "unguarded" in caplog.text
    with strict(), pytest.raises(GuardError, match="a fault of ours"):
        model(input_ids=ids)


def test_the_rolled_rows_of_a_left_padded_batch_train_as_the_rows_alone() -> None:
    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("left")
    model.train(), plain.train()
    real = mask_of(ids).bool()
    model(input_ids=ids)[0][real].pow(2).sum().backward()
    sum(plain(input_ids=torch.tensor([row]))[0].pow(2).sum() for row in ROWS).backward()  # type: ignore[union-attr]
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_position_ids_are_those_that_the_docs_give() -> None:
    model, ids = guard(tiny("gpt2")), padded_rows("left")
    seen = Seen(model)
    model(input_ids=ids)
    assert torch.equal(seen["position_ids"], position_ids_from_mask(mask_of(ids)))


def test_left_padded_encoder_rows_that_count_their_columns_are_rolled_also_for_generate() -> None:
    plain, model, ids = tiny("bart"), guard(tiny("bart")), padded_rows("left")
    target = torch.tensor([[EOS, 5, 6], [EOS, 7, 8], [EOS, 9, 10]])
    logits = model(input_ids=ids, decoder_input_ids=target).logits
    kwargs = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    texts = model.generate(ids, **kwargs)
    for row, tokens in enumerate(ROWS):
        own = torch.tensor([tokens])
        reference = plain(input_ids=own, decoder_input_ids=target[row : row + 1]).logits[0]
        assert (logits[row] - reference).abs().max() < _TOLERANCE * reference.abs().max()
        assert torch.equal(texts[row], plain.generate(own, **kwargs)[0])


def test_decoder_ids_as_long_as_the_encoders_are_not_rolled() -> None:
    plain, model, ids = tiny("bart"), guard(tiny("bart")), padded_rows("left")
    target = torch.randint(5, 60, ids.shape)
    logits = model(input_ids=ids, decoder_input_ids=target).logits
    reference = plain(input_ids=torch.tensor([ROWS[1]]), decoder_input_ids=target[1:2]).logits[0]
    assert (logits[1] - reference).abs().max() < _TOLERANCE * reference.abs().max()


def test_rolled_rows_say_that_they_return_no_cache_and_one_that_is_asked_for_is_told_to_be_wrong() -> None:
    model, ids = guard(tiny("bart")), padded_rows("left")
    with pytest.warns(NoCacheWarning):
        assert model(input_ids=ids).past_key_values is None
    with pytest.warns(NotInvariantWarning):
        model(input_ids=ids, use_cache=True)


@pytest.mark.parametrize("mode", ["raise", "exact", "warn"])
def test_a_policy_that_needs_values_decides_beside_the_compiled_graph(mode: str) -> None:
    plain, model, ids = tiny("bert"), guard(tiny("bert"), padding=mode), padded_rows("right")
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager")
    full = torch.tensor([[5, 6], [7, 8]])
    assert torch.equal(compiled(input_ids=full)[0], plain(input_ids=full)[0])
    if mode == "raise":
        with pytest.raises(PaddingError, match="ST-MASK-001"):
            compiled(input_ids=ids)
    elif mode == "exact":
        assert error(compiled, plain, ids) < _TOLERANCE
    else:
        with pytest.warns(UnmaskedPaddingWarning):
            compiled(input_ids=ids)


def test_an_export_under_strict_asks_for_a_mask() -> None:
    model = guard(tiny("bert"))
    with strict(), pytest.raises(PaddingError, match="ST-MASK-008"):
        torch.export.export(model, (), {"input_ids": padded_rows("right")}, strict=False)


def test_intermediate_states_that_no_mask_makes_right_are_told() -> None:
    config = transformers.PegasusXConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        block_size=4,
        num_global_tokens=2,
        pad_token_id=PAD,
    )
    model, ids = guard(transformers.PegasusXModel(config).eval()), padded_rows("right")
    kwargs = {"input_ids": ids, "decoder_input_ids": torch.tensor([[EOS]] * len(ids))}
    with warnings.catch_warnings():
        warnings.simplefilter("error", SafeTransformersWarning)
        model(**kwargs)
    with pytest.warns(NotInvariantWarning):
        model(**kwargs, output_hidden_states=True)


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 0]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])])
def test_a_classifier_learns_from_left_padded_rows_as_from_the_rows_alone(labels: Tensor, return_dict: bool) -> None:
    plain, model, ids = tiny("bert-classifier"), guard(tiny("bert-classifier")), padded_rows("left")
    loss = model(input_ids=ids, labels=labels, return_dict=return_dict)[0]
    alone = [plain(input_ids=torch.tensor([row]), labels=labels[i : i + 1]).loss for i, row in enumerate(ROWS)]
    assert (loss - torch.stack(alone).mean()).abs() < _TOLERANCE


def test_labels_as_wide_as_the_rows_are_not_moved_when_they_are_no_tokens() -> None:
    rows = torch.tensor([[5, 6], [PAD, 8]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain, model = tiny("bert-classifier"), guard(tiny("bert-classifier"))
    loss = model(input_ids=rows, labels=labels).loss
    alone = [plain(input_ids=rows[:1], labels=labels[:1]).loss, plain(input_ids=rows[1:, 1:], labels=labels[1:]).loss]
    assert (loss - torch.stack(alone).mean()).abs() < _TOLERANCE


def test_an_argument_that_rolling_does_not_understand_is_never_silently_wrong() -> None:
    model, ids = guard(tiny("bert")), padded_rows("left")
    with pytest.warns(NotInvariantWarning):
        model(input_ids=ids, token_type_ids=torch.zeros(1, ids.shape[1], dtype=torch.int64))
    with strict(padding="infer"), pytest.raises(PaddingError):
        model(input_ids=ids, token_type_ids=torch.zeros(1, ids.shape[1], dtype=torch.int64))


def test_a_warning_that_a_filter_makes_an_error_is_an_error_each_time() -> None:
    model = guard(tiny("gpt2", pad_token_id=EOS))
    ids = torch.tensor([[5, 6, EOS, EOS, EOS], [5, 6, 7, 8, EOS]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(AmbiguousPaddingWarning):
                model(input_ids=ids)


def test_rows_that_each_end_with_their_own_eos_are_not_padded() -> None:
    plain, model = tiny("gpt2", pad_token_id=EOS), guard(tiny("gpt2", pad_token_id=EOS))
    ids = torch.tensor([[5, 6, 7, EOS], [8, 9, 7, EOS]])
    seen = Seen(model)
    with strict(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert seen["attention_mask"] is None


def test_the_users_positional_hooks_still_get_positions() -> None:
    shapes = []
    model, ids = guard(tiny("bert")), padded_rows("left")
    model.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    difference = model(ids)[0][1, -3:] - tiny("bert")(torch.tensor([ROWS[1]]))[0][0]
    assert difference.abs().max() < _TOLERANCE
    assert shapes == [ids.shape]


def test_ids_of_a_subclass_of_tensor_are_looked_at() -> None:
    class Mine(Tensor):
        pass

    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("left")
    pooled = model(input_ids=ids.as_subclass(Mine)).pooler_output[1]
    assert (pooled - plain(input_ids=torch.tensor([ROWS[1]])).pooler_output[0]).abs().max() < _TOLERANCE


def test_a_forward_that_somebody_hides_behind_any_arguments_is_guarded() -> None:
    model, ids = tiny("bert"), padded_rows("right")
    original = model.forward

    def hidden(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    model.forward = hidden
    assert error(guard(model), tiny("bert"), ids) < _TOLERANCE


def test_another_guarded_model_inside_generate_is_guarded() -> None:
    plain, judge, ids = tiny("bert"), guard(tiny("bert")), padded_rows("right")
    seen: list[Tensor] = []

    class Judging(transformers.LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            seen.append(judge(input_ids=ids)[0])
            return scores

    guard(tiny("gpt2")).generate(torch.tensor([[5, 6]]), logits_processor=[Judging()], max_new_tokens=1)
    assert (seen[0][1, :3] - plain(input_ids=torch.tensor([ROWS[1]]))[0][0]).abs().max() < _TOLERANCE


def test_a_class_that_no_mask_can_mend_says_so_where_it_is_compiled() -> None:
    torch.compiler.reset()
    with pytest.warns(NotInvariantWarning, match="ST-MASK-011"):
        torch.compile(guard(_convbert()), backend="eager")(input_ids=padded_rows("right"))


def test_outputs_that_cannot_be_rolled_back_are_told_and_come_from_the_mask_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from safetransformers.padding import hook

    def fail(*args: Any) -> None:
        raise PaddingError("ST-MASK-007", "no layout")

    monkeypatch.setattr(hook, "learn_layout", fail)
    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("left")
    mask = mask_of(ids)
    with pytest.warns(NotInvariantWarning):
        output = model(input_ids=ids)[0]
    reference = plain(input_ids=ids, attention_mask=mask, position_ids=position_ids_from_mask(mask))[0]
    assert torch.equal(output, reference)


@pytest.mark.parametrize("mode", ["infer", "exact"])
def test_a_users_hook_that_puts_other_ids_in_their_place_loses_nothing(mode: str) -> None:
    model, ids = guard(tiny("bert"), padding=mode), padded_rows("left")
    model.register_forward_pre_hook(
        lambda module, args, kwargs: (args, kwargs | {"input_ids": kwargs["input_ids"].clone()}), with_kwargs=True
    )
    assert error(model, tiny("bert"), ids) < _TOLERANCE


def test_a_call_that_fails_leaves_nothing_for_the_next_one() -> None:
    plain, model, ids = tiny("bert"), guard(tiny("bert")), padded_rows("left")
    model(input_ids=ids)
    with pytest.raises(IndexError):
        model(input_ids=torch.where(ids == 5, 10_000, ids))
    full = torch.tensor([[5, 6, 7]])
    kwargs = {"input_ids": full, "attention_mask": torch.ones_like(full)}
    assert torch.equal(model(**kwargs)[0], plain(**kwargs)[0])


def test_a_masked_call_of_a_class_that_was_told_of_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from safetransformers.padding import hook

    model, ids = guard(_convbert()), padded_rows("right")
    with pytest.warns(NotInvariantWarning):
        model(input_ids=ids, attention_mask=mask_of(ids))
    looks = []
    monkeypatch.setattr(hook, "edges", lambda pads: looks.append(pads) or (False, False))
    model(input_ids=ids, attention_mask=mask_of(ids))
    assert not looks
    with strict():
        model(input_ids=ids, attention_mask=mask_of(ids))
    assert len(looks) == 1
