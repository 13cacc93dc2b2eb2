"""What was measured is what the installed transformers gets."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from typing import Any

import pytest
import transformers
from models import PAD, tiny

from safetransformers.padding import known
from safetransformers.padding.facts import facts_of
from safetransformers.padding.known import Known, measured, table_of

_DATA: dict[str, Any] = {
    "meta": {"dates": {"5.23.0": "a day", "4.57.6": "a day"}},
    "classes": {"Same": "mask positions", "Moved": "mask positions", "Better": "mask mask"},
    "older": {"4.57.6": {"Moved": "mask roll", "Better": "exact exact"}},
}


@pytest.mark.parametrize(
    ("installed", "moved", "better"),
    [
        ("4.57.0", ("mask", "roll"), ("exact", "exact")),
        ("4.57.6", ("mask", "roll"), ("exact", "exact")),
        ("5.1.0", ("mask", "roll"), ("exact", "exact")),  # between the measured ones: the more careful of both
        ("5.23.0", ("mask", "positions"), ("mask", "mask")),
        ("5.30.0", ("mask", "positions"), ("mask", "mask")),
    ],
)
def test_each_version_gets_its_own_measurement(installed: str, moved: Any, better: Any) -> None:
    table = table_of(_DATA, installed)
    assert (table["Moved"], table["Better"]) == (Known(*moved), Known(*better))
    assert table["Same"] == Known("mask", "positions")


def test_a_users_subclass_has_the_measurement_of_what_it_inherits_from() -> None:
    class Mine(transformers.BertModel):
        pass

    assert measured(Mine) == measured(transformers.BertModel) is not None


def test_a_users_class_of_the_same_name_has_none() -> None:
    assert measured(type("BertModel", (transformers.PreTrainedModel,), {"__module__": "mine"})) is None


def test_the_data_speaks_of_the_supported_range_and_covers_every_kind_of_verdict() -> None:
    data = json.loads(resources.files("safetransformers.padding").joinpath("measured.json").read_text("utf-8"))
    assert {version.rpartition(".")[0] for version in data["meta"]["dates"]} >= {"4.57", "5.23"}
    lefts = {value.split()[1] for value in data["classes"].values()}
    assert lefts == {"mask", "positions", "roll", "exact"}


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_the_rule_for_classes_that_nobody_measured_agrees_on_token_outputs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_facts = facts_of(tiny(name))
    monkeypatch.setattr("safetransformers.padding.facts.measured", lambda cls: None)
    ruled = facts_of(tiny(name))
    assert not ruled.measured and ruled.right == measured_facts.right
    assert ruled.left == measured_facts.left_when_traced


def test_classes_that_count_positions_from_the_ids_get_none_by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    config = transformers.RobertaConfig(
        vocab_size=64, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, pad_token_id=PAD
    )
    monkeypatch.setattr("safetransformers.padding.facts.measured", lambda cls: None)
    assert facts_of(transformers.RobertaModel(config)).left == "mask"


def test_facts_are_plain_values_that_travel_with_the_model() -> None:
    assert all(isinstance(value, (str, bool, tuple)) for value in dataclasses.asdict(facts_of(tiny("gpt2"))).values())
    assert known.Known("mask", "roll") == ("mask", "roll")
