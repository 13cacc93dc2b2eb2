"""The policy: its table, its layers, and who wins."""

from __future__ import annotations

import asyncio
import dataclasses
import threading

import pytest

from safetransformers import Policy, configure, get_policy, policies, policy, strict
from safetransformers.errors import PolicyError


@pytest.mark.parametrize("field", policies.CHOICES)
def test_the_first_value_is_the_default_and_strict_sets_the_right_hand_column(field: str) -> None:
    values, strict_value = policies.CHOICES[field]
    assert getattr(Policy(), field) == getattr(get_policy(), field) == values[0]
    assert getattr(Policy(strict=True), field) == strict_value
    with strict() as inside:
        assert getattr(inside, field) == strict_value


def test_a_policy_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().padding = "off"  # type: ignore[misc]


def test_any_field_can_be_overridden_beside_strict() -> None:
    assert Policy(strict=True, padding="exact").padding == "exact"
    with strict(padding="exact") as inside:
        assert (inside.padding, inside.loading, inside.strict) == ("exact", "raise", True)


@pytest.mark.parametrize("make", [Policy, configure])
def test_an_unknown_value_is_a_value_error_that_lists_the_values(make: type) -> None:
    with pytest.raises(ValueError, match="'infer', 'exact'"):
        make(padding="guess")


def test_an_unknown_field_is_an_error_that_lists_the_fields_and_changes_nothing() -> None:
    with pytest.raises(PolicyError, match="padding, offline"):
        configure(loading="off", paddding="off")
    assert get_policy() == Policy()


def test_a_strict_that_is_no_bool_is_refused() -> None:
    with pytest.raises(PolicyError):
        configure(strict="yes")


def test_the_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETRANSFORMERS_PADDING", "Warn")
    assert get_policy().padding == "warn"
    monkeypatch.setenv("SAFETRANSFORMERS_STRICT", "1")
    assert (get_policy().padding, get_policy().loading, get_policy().strict) == ("warn", "raise", True)
    monkeypatch.delenv("SAFETRANSFORMERS_PADDING")
    assert get_policy().padding == "raise"
    monkeypatch.setenv("SAFETRANSFORMERS_STRICT", "maybe")
    with pytest.raises(PolicyError, match="SAFETRANSFORMERS_STRICT"):
        get_policy()


def test_configure_wins_over_the_environment_and_a_block_wins_over_configure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETRANSFORMERS_PADDING", "off")
    configure(padding="warn")
    assert get_policy().padding == "warn"
    with policy(padding="exact"):
        assert get_policy().padding == "exact"
        with policy(loading="off") as inner:
            assert (inner.padding, inner.loading) == ("exact", "off")
    assert get_policy().padding == "warn"


def test_a_strict_block_hides_what_was_loosened_outside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETRANSFORMERS_LOADING", "off")
    configure(padding="off")
    with policy(weights="any"), strict() as inside:
        assert (inside.padding, inside.weights, inside.loading) == ("raise", "safetensors", "raise")


def test_a_block_that_is_not_strict_inside_a_strict_process_is_not() -> None:
    configure(strict=True)
    with policy(strict=False) as inside:
        assert inside == Policy()
    assert get_policy().strict


def test_configure_strict_drops_what_earlier_calls_set() -> None:
    configure(padding="off")
    assert configure(strict=True).padding == "raise"
    assert configure(padding="exact").padding == "exact"
    assert configure(padding=None).padding == "raise"


def test_a_models_own_field_wins_over_configure_and_gives_way_to_a_block() -> None:
    own = {"padding": "warn"}
    configure(padding="off")
    assert policies.resolve("padding", own) == "warn"
    with policy(padding="exact"):
        assert policies.resolve("padding", own) == "exact"


def test_a_block_in_one_thread_or_task_is_not_seen_in_another() -> None:
    seen: dict[str, str] = {}
    entered, looked = threading.Event(), threading.Event()

    def loosened() -> None:
        with policy(padding="off"):
            entered.set()
            looked.wait(5)
            seen["inside"] = get_policy().padding

    thread = threading.Thread(target=loosened)
    thread.start()
    assert entered.wait(5)
    seen["outside"] = get_policy().padding
    looked.set()
    thread.join()

    async def one(value: str) -> str:
        with policy(padding=value):
            await asyncio.sleep(0)
            return get_policy().padding

    async def both() -> list[str]:
        return list(await asyncio.gather(one("warn"), one("exact")))

    assert seen == {"inside": "off", "outside": "infer"}
    assert asyncio.run(both()) == ["warn", "exact"]


def test_a_block_ends_with_an_exception_too() -> None:
    with pytest.raises(RuntimeError), policy(padding="off"):
        raise RuntimeError
    assert get_policy().padding == "infer"
