"""padding="exact": rows run unpadded, outputs put back, compared with each row run alone."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import transformers
from models import PAD, ROWS, mask_of, padded_rows, tiny
from torch import Tensor

from safetransformers import exact_forward, guard, policy, report
from safetransformers.errors import PaddingError
from safetransformers.padding.layout import _axis, leaves

_TEXT = {"vocab_size": 64, "pad_token_id": PAD, "initializer_range": 0.3}
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_MAKERS = {
    "convbert": lambda: transformers.ConvBertModel(transformers.ConvBertConfig(**_TEXT, **_SIZES, embedding_size=32)),
    "fnet": lambda: transformers.FNetModel(
        transformers.FNetConfig(**_TEXT, hidden_size=32, num_hidden_layers=2, intermediate_size=64)
    ),
    "mamba": lambda: transformers.MambaForCausalLM(
        transformers.MambaConfig(**_TEXT, hidden_size=32, num_hidden_layers=2, state_size=4)
    ),
    "xlnet": lambda: transformers.XLNetModel(
        transformers.XLNetConfig(**_TEXT, d_model=32, n_layer=2, n_head=4, d_inner=64)
    ),
    "bert": lambda: tiny("bert"),
    "gpt2": lambda: tiny("gpt2"),
}


def _make(name: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _MAKERS[name]().eval()


def _check(padded: dict[Any, Any], plain: Any, ids: Tensor, **kwargs: Any) -> int:
    """Compare every output tensor that has a row per row with the row alone; returns how many were compared."""
    compared = 0
    for row, tokens in enumerate(ROWS):
        start = 0 if ids[row, 0] != PAD else ids.shape[1] - len(tokens)
        real = slice(start, start + len(tokens))
        reference = dict(leaves(plain(input_ids=torch.tensor([tokens]), **kwargs)))
        for path, leaf in leaves(padded):
            if not isinstance(leaf, Tensor) or leaf.shape[0] != len(ROWS):
                continue
            alone, ours = reference[path][0], leaf[row]
            for axis, size in enumerate(alone.shape):
                if size != ours.shape[axis]:
                    assert (size, ours.shape[axis]) == (len(tokens), ids.shape[1])
                    ours = ours.movedim(axis, 0)[real].movedim(0, axis)
            assert torch.allclose(ours, alone, atol=1e-5), path
            compared += 1
    return compared


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", _MAKERS)
def test_every_output_of_padded_rows_is_that_of_the_rows_alone(name: str, side: str) -> None:
    ids, plain, model = padded_rows(side), _make(name), guard(_make(name))
    caches = name in ("bert", "gpt2", "xlnet")
    kwargs = {"output_hidden_states": True} | ({"use_cache": False} if caches else {})
    with policy(padding="exact"):
        padded = model(input_ids=ids, **kwargs)
    assert type(padded) is type(plain(input_ids=ids, **kwargs))
    assert _check(padded, plain, ids, **kwargs) >= 4 * len(ROWS)


def test_attentions_are_put_back_on_both_of_their_axes() -> None:
    plain, model, ids = tiny("bert", attn_implementation="eager"), tiny("bert", attn_implementation="eager"), None
    ids = padded_rows("right")
    padded = exact_forward(model, ids, output_attentions=True)
    longest = ids.shape[1]
    assert all(layer.shape == (len(ROWS), 4, longest, longest) for layer in padded.attentions)
    assert _check(padded, plain, ids, output_attentions=True)


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_encoder_decoder_is_grouped_by_both_lengths(side: str) -> None:
    plain, model, ids = tiny("t5"), guard(tiny("t5")), padded_rows(side)
    target = torch.tensor([[PAD, 5, 6], [PAD, 7, PAD], [PAD, 8, PAD]])
    with policy(padding="exact"):
        output = model(input_ids=ids, decoder_input_ids=target, output_hidden_states=True)
    for row, tokens in enumerate(ROWS):
        length = 3 if row == 0 else 2
        reference = plain(input_ids=torch.tensor([tokens]), decoder_input_ids=target[row : row + 1, :length])
        assert torch.allclose(output.logits[row, :length], reference.logits[0], rtol=1e-4, atol=1e-3)
        start = 0 if side == "right" else ids.shape[1] - len(tokens)
        encoded = output.encoder_last_hidden_state[row, start : start + len(tokens)]
        assert torch.allclose(encoded, reference.encoder_last_hidden_state[0], atol=1e-4)


def test_places_without_a_token_hold_zeros() -> None:
    ids = padded_rows("right")
    output = exact_forward(_make("fnet"), ids)[0]
    assert output[mask_of(ids) == 0].abs().max() == 0


def test_a_mask_that_is_passed_says_what_is_padding() -> None:
    plain, ids = _make("convbert"), padded_rows("right")
    ids[ids == PAD] = 9  # not the pad token: the mask alone tells
    mask = mask_of(padded_rows("right"))
    output = exact_forward(_make("convbert"), input_ids=ids, attention_mask=mask)[0]
    for row, tokens in enumerate(ROWS):
        assert torch.allclose(output[row, : len(tokens)], plain(torch.tensor([tokens]))[0][0], atol=1e-5)


def test_a_mask_with_holes_is_left_to_the_model() -> None:
    plain, ids = tiny("bert"), padded_rows("right")
    mask = mask_of(ids)
    mask[0, 2] = 0
    output = exact_forward(tiny("bert"), input_ids=ids, attention_mask=mask)[0]
    assert torch.equal(output, plain(input_ids=ids, attention_mask=mask)[0])


def test_other_arguments_per_token_and_per_row_go_along() -> None:
    plain, ids = tiny("bert"), padded_rows("left")
    types = (torch.arange(ids.numel()).view_as(ids) % 2).contiguous()
    output = exact_forward(tiny("bert"), input_ids=ids, token_type_ids=types)[0]
    for row, tokens in enumerate(ROWS):
        own = types[row : row + 1, -len(tokens) :]
        reference = plain(input_ids=torch.tensor([tokens]), token_type_ids=own)[0][0]
        assert torch.allclose(output[row, -len(tokens) :], reference, atol=1e-5)


@pytest.mark.parametrize("keep", [1, 4, 7, torch.tensor([5, 6])])
def test_the_logits_of_the_last_columns_alone_are_those_of_the_padded_row(keep: Any) -> None:
    plain, model, ids = tiny("gpt2"), guard(tiny("gpt2")), padded_rows("left")
    with policy(padding="exact"):
        last = model(input_ids=ids, logits_to_keep=keep).logits
    for row, tokens in enumerate(ROWS):
        reference = plain(input_ids=torch.tensor([tokens])).logits[0]
        kept = min(last.shape[1], len(tokens))
        assert torch.allclose(last[row, -kept:], reference[-kept:], atol=1e-5)


def test_states_that_a_decoder_attends_to_are_not_cut_as_if_they_were_tokens() -> None:
    config = {"is_decoder": True, "add_cross_attention": True}
    plain, model, ids = tiny("bert", **config), guard(tiny("bert", **config)), padded_rows("right")
    states = torch.randn(*ids.shape, 32)
    with policy(padding="exact"):
        output = model(input_ids=ids, attention_mask=mask_of(ids), encoder_hidden_states=states)[0]
    reference = plain(input_ids=torch.tensor([ROWS[1]]), encoder_hidden_states=states[1:2])[0][0]
    assert torch.allclose(output[1, : len(ROWS[1])], reference, atol=1e-5)


def test_an_output_of_every_row_against_every_row_is_refused() -> None:
    class Similar(transformers.BertModel):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor]:  # type: ignore[override]
            pooled = super().forward(input_ids=input_ids, attention_mask=attention_mask).pooler_output
            return (pooled @ pooled.T,)

    with pytest.raises(PaddingError, match="one batch axis"):
        exact_forward(Similar(tiny("bert").config).eval(), input_ids=padded_rows("right"))


def test_images_beside_the_rows_are_refused() -> None:
    with pytest.raises(PaddingError, match="pixel_values"):
        exact_forward(tiny("bert"), input_ids=padded_rows("right"), pixel_values=torch.zeros(3, 3, 8, 8))


def test_a_models_own_exact_policy_acts_on_masked_calls_without_any_other_mention_of_it() -> None:
    plain, model, ids = _make("convbert"), guard(_make("convbert"), padding="exact"), padded_rows("right")
    model = pickle.loads(pickle.dumps(model))
    output = model(input_ids=ids, attention_mask=mask_of(ids))[0]
    assert torch.allclose(output[1, : len(ROWS[1])], plain(torch.tensor([ROWS[1]]))[0][0], atol=1e-5)


def test_threads_that_run_one_plain_model_exactly_do_not_disturb_each_other() -> None:
    model, ids = _make("convbert"), padded_rows("right")
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda _: exact_forward(model, ids)[0], range(12)))
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    assert not model._forward_pre_hooks


def test_a_tuple_stays_a_tuple() -> None:
    ids = padded_rows("right")
    output = exact_forward(tiny("bert"), input_ids=ids, return_dict=False)
    assert isinstance(output, tuple) and output[0].shape[:2] == ids.shape


def test_rows_of_one_length_run_once_and_bit_identical() -> None:
    plain, model = tiny("bert"), guard(tiny("bert"))
    ids = torch.tensor([[5, 6, 7], [8, 9, 4]])
    before = report().get("padding.exact", 0)
    with policy(padding="exact"):
        assert torch.equal(model(input_ids=ids)[0], plain(input_ids=ids)[0])
    assert report().get("padding.exact", 0) == before


def test_a_hidden_size_equal_to_a_length_is_not_taken_for_the_sequence() -> None:
    plain, model = (
        tiny("bert", hidden_size=8, num_attention_heads=2),
        tiny("bert", hidden_size=8, num_attention_heads=2),
    )
    ids = torch.tensor([[5, 6, 7, 8, 9, 4, 3, 11], [5, 6, 7, 8, 9, PAD, PAD, PAD]])
    output = exact_forward(model, ids)
    assert torch.allclose(output.last_hidden_state[1, :5], plain(ids[1:, :5])[0][0], atol=1e-5)
    assert torch.allclose(output.pooler_output[1], plain(ids[1:, :5]).pooler_output[0], atol=1e-5)


def test_gradients_are_those_of_the_rows_alone() -> None:
    plain, model, ids = _make("convbert"), _make("convbert"), padded_rows("right")
    exact_forward(model, ids)[0].pow(2).sum().backward()
    sum(plain(torch.tensor([row]))[0].pow(2).sum() for row in ROWS).backward()  # type: ignore[union-attr]
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_the_random_state_and_the_training_mode_are_kept() -> None:
    model, ids = guard(_make("convbert")).train(), padded_rows("right")
    with policy(padding="exact"):
        model(input_ids=ids)  # learns the layout of the outputs once
        torch.manual_seed(1)
        first = model(input_ids=ids)[0]
        torch.manual_seed(1)
        assert torch.equal(model(input_ids=ids)[0], first)
    fresh = guard(_make("convbert")).train()
    torch.manual_seed(1)
    with policy(padding="exact"):
        assert torch.equal(fresh(input_ids=ids)[0], first)
    assert all(module.training for module in fresh.modules())


def test_the_users_own_hooks_see_the_outputs_where_the_tokens_stood() -> None:
    shapes = []
    model, ids = guard(_make("convbert")), padded_rows("right")
    model.register_forward_hook(lambda module, args, output: shapes.append(tuple(output[0].shape[:2])))
    with policy(padding="exact"):
        model(input_ids=ids)
    assert tuple(ids.shape) in shapes


def test_exact_forward_leaves_the_model_as_it_was() -> None:
    model = _make("convbert")
    before = {name: id(value) for name, value in vars(model).items()}
    exact_forward(model, padded_rows("right"))
    assert {name: id(value) for name, value in vars(model).items()} == before
    assert not model._forward_pre_hooks and not model._forward_hooks


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"labels": torch.zeros(3, 7, dtype=torch.int64)}, "losses"),
        ({"use_cache": True}, "cache"),
    ],
)
def test_what_cannot_be_put_together_is_refused(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(PaddingError, match=said):
        exact_forward(tiny("gpt2"), input_ids=padded_rows("right"), **kwargs)


def test_a_row_without_a_token_is_refused_by_number() -> None:
    with pytest.raises(PaddingError, match="row 1"):
        exact_forward(tiny("bert"), input_ids=torch.tensor([[5, 6], [PAD, PAD]]))


def test_a_mask_is_honoured_also_where_the_call_is_compiled() -> None:
    plain, model, ids = _make("convbert"), guard(_make("convbert"), padding="exact"), padded_rows("right")
    torch.compiler.reset()
    output = torch.compile(model, backend="eager")(input_ids=ids, attention_mask=mask_of(ids))[0]
    assert torch.allclose(output[1, : len(ROWS[1])], plain(torch.tensor([ROWS[1]]))[0][0], atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "kind"),
    [((3, 2), "batch"), ((5, 7), "sequence"), ((4, 9), "target"), ((6, 6), "fixed"), ((2, 3), "ragged")],
)
def test_an_axis_is_told_by_how_its_size_follows_the_probes(sizes: tuple[int, int], kind: str) -> None:
    assert _axis((), sizes) == kind
