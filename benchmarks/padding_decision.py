"""From measurements to `safetransformers/padding/measured.json`: the cheapest right strategy for every class."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from padding_cases import TOLERANCE
from padding_measure import Measurement, Outcome, is_right

MEASURED_PATH = Path(__file__).parent.parent / "safetransformers" / "padding" / "measured.json"

_HIDDEN_STATES = re.compile(r".*hidden_states\[\d+\]")
NEEDS_A_KERNEL = "mra"
# Position ids before the mask alone: where both are right on a short row, on a long one the positions may still count
# (scaled rotary embeddings, attention temperature). Rolling moves rows, so it comes last.
_LEFT_STRATEGIES = ("positions", "mask", "roll")

Table = dict[str, str]
"""`"right left"` strategies by class name."""


def without_hidden_states(outcome: Outcome) -> Outcome:
    """Leave out the intermediate states that a model returns only when asked for them."""
    if isinstance(outcome, str):
        return outcome
    return {name: error for name, error in outcome.items() if not _HIDDEN_STATES.fullmatch(name)}


def outcomes_of(measurement: Measurement, case: str) -> list[Outcome]:
    """Collect the outcomes of one case over the ways to call the class."""
    return [outcome for name, outcome in measurement["cases"].items() if name.rpartition(": ")[2] == case]


def case_is_right(measurements: list[Measurement], case: str, *, hidden_states: bool = False) -> bool:
    """Tell whether a case is right for every triple and every way to call the class."""
    outcomes = [outcomes_of(measurement, case) for measurement in measurements]
    kept = (lambda outcome: outcome) if hidden_states else without_hidden_states
    return all(found and all(is_right(kept(outcome)) for outcome in found) for found in outcomes)


def _right(measurements: list[Measurement]) -> str:
    case = "right/mask" if measurements[0]["takes_mask"] else "right/none"
    return "mask" if case_is_right(measurements, case) and _decoder_is_right(measurements) else "exact"


def _decoder_is_right(measurements: list[Measurement]) -> bool:
    outcomes = [outcome for found in measurements for outcome in outcomes_of(found, "padded decoder")]
    return all(is_right(without_hidden_states(outcome)) for outcome in outcomes)


def _left(measurements: list[Measurement]) -> str:
    if _decoder_is_right(measurements):
        for strategy in _LEFT_STRATEGIES if measurements[0]["takes_mask"] else ("roll",):
            if case_is_right(measurements, f"left/{strategy}"):
                return strategy
    return "exact"


def by_class(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """Group the measurements that have cases by the name of the class."""
    found: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        if "cases" in measurement:
            found[measurement["triple"].cls_name].append(measurement)
    return dict(sorted(found.items()))


def decide(measurements: Iterable[Measurement]) -> Table:
    """Choose for each class, on each side, the cheapest strategy that is right in all outputs.

    MRA's attention returns zeros where its CUDA kernel is missing, so nothing measured on a CPU says anything about
    it: its classes get `exact`, which is right whatever they do.

    Returns:
        Strategies by class name. On the right `mask` or `exact`; on the left `mask`, `positions` (mask and position
        ids), `roll` or `exact`. A class whose forward takes no mask has `mask` where its padded rows are right as
        they are.
    """
    table = {}
    for name, found in by_class(measurements).items():
        is_measurable = all(measurement["triple"].model_type != NEEDS_A_KERNEL for measurement in found)
        table[name] = f"{_right(found)} {_left(found)}" if is_measurable else "exact exact"
    return table


def wrong_hidden_states(measurements: Iterable[Measurement]) -> list[str]:
    """Name the classes that a mask makes right except for the intermediate hidden states of right-padded rows."""
    return [
        name
        for name, found in by_class(measurements).items()
        if case_is_right(found, "right/mask") and not case_is_right(found, "right/mask", hidden_states=True)
    ]


def write_measured(measurements: list[Measurement], version: str, date: str, path: Path = MEASURED_PATH) -> None:
    """Put the decisions of one transformers version into the data file, beside those of other versions.

    `classes` holds the newest version's; `older` holds, by version, what other versions measured differently.
    """
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored = {}
    versions = _tables(stored) | {version: decide(measurements)}
    newest = max(versions, key=_version_key)
    classes: Table = {}
    for name in sorted(versions, key=_version_key):
        classes |= versions[name]
    older = {
        name: {cls: value for cls, value in sorted(table.items()) if classes[cls] != value}
        for name, table in sorted(versions.items(), key=lambda item: _version_key(item[0]))
        if name != newest
    }
    before = stored.get("meta", {})
    wrong = before.get("wrong_hidden_states", {}) | {version: wrong_hidden_states(measurements)}
    data = {
        "meta": {
            "dates": before.get("dates", {}) | {version: date},
            "tolerance": TOLERANCE,
            "values": "right-padded left-padded; mask, positions (mask and position ids), roll, exact",
            "wrong_hidden_states": wrong,
        },
        "older": older,
        "absent": {name: sorted(classes.keys() - table.keys()) for name, table in versions.items()},
        "classes": dict(sorted(classes.items())),
    }
    path.write_text(json.dumps(data, indent=0) + "\n", encoding="utf-8")


def newest_measured(path: Path = MEASURED_PATH) -> str:
    """Give the newest version in the data file: the documentation shows that one's run."""
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return max(map(str, stored["meta"]["dates"]), key=_version_key)


def _tables(stored: dict[str, Any]) -> dict[str, Table]:
    """Rebuild the table of every stored version: what it measured differently, else what `classes` says."""
    tables = {}
    for version in stored.get("meta", {}).get("dates", {}):
        absent = set(stored.get("absent", {}).get(version, ()))
        table = stored["classes"] | stored.get("older", {}).get(version, {})
        tables[version] = {name: value for name, value in table.items() if name not in absent}
    return tables


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
