"""The limits of every text architecture, against what plain torch takes and refuses, in the same process.

A value at its limit must fail in plain torch, where ours names it; nothing that plain transformers takes is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from device_models import PlaceholderModel, bart, roberta
from models import tiny
from padding_cases import attempt, decoder_ids, random_rows, takes
from tiny_models import candidate_triples, tiny_model
from torch import Tensor, nn

import safetransformers as st
from safetransformers.devices.limits import Limit, limits_of
from safetransformers.devices.tables import tables_of
from safetransformers.errors import IndexOutOfRangeError
from safetransformers.padding.call import Call

_SHARDS = 2
_IDS = torch.stack([random_rows((9,), seed=row)[0] for row in range(2)])


class Outcome(NamedTuple):
    """What plain transformers and the eager check made of one call."""

    plain: Any
    eager: Any

    @property
    def is_refused(self) -> bool:
        return isinstance(self.eager, IndexOutOfRangeError)

    @property
    def fails(self) -> bool:
        return isinstance(self.plain, Exception)


def outcome(model: Any, kwargs: dict[str, Any]) -> Outcome:
    with torch.no_grad():
        plain = attempt(lambda: model(**kwargs))
        with st.policy(device_checks="eager"):
            return Outcome(plain, attempt(lambda: model(**kwargs)))


def arguments(model: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"input_ids": _IDS}
    if model.config.is_encoder_decoder and takes(model, "decoder_input_ids"):
        kwargs["decoder_input_ids"] = decoder_ids(2)
    return kwargs


def probes(model: Any, kwargs: dict[str, Any]) -> Iterator[tuple[Limit, int, dict[str, Any]]]:
    """Calls with one value just within and just beyond each limit."""
    zeros = {name: torch.zeros_like(_IDS) for name in ("token_type_ids", "position_ids") if takes(model, name)}
    for limit in limits_of(model, Call((), (), kwargs | zeros)):
        if limit.kind == "length" or limit.argument not in kwargs | zeros:
            continue
        for value in (limit.count - 1, limit.count, -7):
            changed = (kwargs | zeros)[limit.argument].clone()
            changed[1, -2] = value
            yield limit, value, {**kwargs, limit.argument: changed}


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(_SHARDS))
def test_every_architecture_is_refused_what_fails_and_nothing_else(shard: int) -> None:
    triples = [triple for triple in candidate_triples() if triple.auto == "AutoModel"][shard::_SHARDS]
    seen, wrong = Counter[str](), []
    for triple in triples:
        model = attempt(lambda triple=triple: st.guard(tiny_model(triple), padding="off"))
        if isinstance(model, Exception) or outcome(model, kwargs := arguments(model)).fails:
            continue  # it needs more than ids
        for limit, value, call in probes(model, kwargs):
            got = outcome(model, call)
            seen[limit.kind] += 1
            if got.is_refused and not got.fails:
                wrong.append(f"{triple.cls_name} takes {limit.argument}={value}")
            if limit.kind == "id":
                is_beyond = not 0 <= value < limit.count
                if got.fails != is_beyond or got.is_refused != is_beyond:
                    wrong.append(f"{triple.cls_name}: {limit} is not the limit of {value}: {got.eager!r}")
    assert wrong == []
    assert seen["id"] > 200 and seen["position"] > 30 and seen["token type"] > 30


@pytest.mark.parametrize(
    ("make", "argument", "longest"),
    [
        (lambda: tiny("gpt2"), "input_ids", 64),
        (lambda: tiny("bert"), "input_ids", 64),
        (roberta, "input_ids", 63),
        (bart, "input_ids", 64),
        (bart, "decoder_input_ids", 64),
    ],
)
def test_the_longest_row_is_the_longest_that_plain_transformers_takes(
    make: Callable[[], Any], argument: str, longest: int
) -> None:
    model = st.guard(make())
    (limit,) = (one for one in limits_of(model, Call((), (), {})) if (one.kind, one.argument) == ("length", argument))
    assert limit.count == longest
    for length in (longest, longest + 1):
        kwargs = {"input_ids": torch.full((2, 3), 5), argument: torch.full((2, length), 5)}
        got = outcome(model, kwargs)
        assert got.fails == (length > longest)
        assert isinstance(got.eager, Exception) == got.fails


def test_positions_that_a_table_moves_itself_are_limited_where_plain_transformers_fails() -> None:
    sizes = {"hidden_size": 8, "ffn_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "word_embed_proj_dim": 8}
    model = st.guard(transformers.OPTModel(transformers.OPTConfig(vocab_size=99, max_position_embeddings=64, **sizes)))
    (limit,) = (one for one in limits_of(model, Call((), (), {})) if one.kind == "position")
    for value in (limit.count - 1, limit.count):
        got = outcome(model, {"input_ids": _IDS, "position_ids": torch.full_like(_IDS, value)})
        assert (got.fails, got.is_refused) == ((value == limit.count,) * 2)


@pytest.mark.parametrize("name", ["llama", "bloom", "mistral", "t5"])
def test_a_model_without_learned_positions_has_no_longest_row(name: str) -> None:
    kinds = [limit.kind for limit in limits_of(tiny(name), Call((), (), {}))]
    assert "id" in kinds and "length" not in kinds and "position" not in kinds


def test_a_composite_model_has_the_limits_of_its_text_part() -> None:
    config = transformers.CLIPConfig(
        text_config={"vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
        vision_config={
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 4,
            "patch_size": 2,
        },
        projection_dim=8,
    )
    model = transformers.CLIPModel(config)
    limits = {limit.kind: limit for limit in limits_of(model, Call((), (), {}))}
    assert (limits["id"].count, limits["length"].count) == (99, 77)
    assert limits["id"].table == "text_model.embeddings.token_embedding"


def _labels(model: Any, labels: Tensor) -> list[int]:
    return [
        one.count
        for one in limits_of(model, Call((), (), {"input_ids": _IDS, "labels": labels}))
        if one.kind == "label"
    ]


def test_labels_are_limited_where_they_are_classes_only() -> None:
    rows, tokens = torch.tensor([0, 1]), _IDS
    assert _labels(tiny("bert-classifier", num_labels=5), rows) == [5]
    assert _labels(tiny("bert-classifier", num_labels=1), rows) == []
    assert _labels(tiny("bert-classifier", problem_type="regression"), rows) == []
    assert _labels(tiny("gpt2"), tokens) == [64]
    assert _labels(tiny("bert"), rows) == []
    assert _labels(tiny("gpt2"), tokens[..., None].expand(-1, -1, 3)) == []


def test_the_rows_of_a_table_are_read_anew_and_where_it_is_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gpt2")

    def rows() -> int:
        return next(limit.count for limit in limits_of(model, Call((), (), {})) if limit.kind == "id")

    assert rows() == 64
    monkeypatch.setattr(nn.Module, "named_modules", lambda *_: pytest.fail("walked over the modules again"))
    assert tables_of(model) is tables_of(model)
    model.get_input_embeddings().num_embeddings = 70
    assert rows() == 70


def test_a_model_of_ones_own_has_the_tables_that_stand_beside_that_of_its_ids() -> None:
    tables = tables_of(PlaceholderModel(tiny("bert").config))[""]
    assert tables.positions == "inner.embeddings.position_embeddings"
    assert tables.token_types == "inner.embeddings.token_type_embeddings"
