"""What the runs of a suite say: outcomes, numbers, and what of their differences is the patch's fault."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

# What a guard does to numbers, by its kind in safetransformers.report().
PADDING_ACTS = frozenset({"padding.inferred", "padding.inferred_for_generate", "padding.exact"})


@dataclass
class Run:
    """What one process of pytest has told.

    Args:
        outcomes: "passed", "failed" or "skipped" by node id.
        texts: the end of the traceback of what failed, by node id; also of files that could not be imported.
        unimportable: files that could not be imported.
        acts: what the guards did in a test, by node id and kind; "guarded" is the models that got a guard.
        checksums: of the numbers that models put out, by node id.
        end: "whole", "late" where its time ran out, "dead" where the process broke down.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    unimportable: list[str] = field(default_factory=list)
    acts: dict[str, dict[str, int]] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)
    end: str = "dead"

    def passed(self) -> frozenset[str]:
        """The node ids of what passed."""
        return frozenset(test for test, outcome in self.outcomes.items() if outcome == "passed")

    def lost(self, wanted: Iterable[str]) -> list[str]:
        """What did not pass of ``wanted``; where time ran out, what was not reached is not counted."""
        unreached = "passed" if self.end == "late" else "none"
        return [test for test in wanted if self.outcomes.get(test, unreached) != "passed"]

    def with_act(self, *kinds: str) -> set[str]:
        """The tests in which the guards did any of this."""
        return {test for test, acts in self.acts.items() if acts.keys() & set(kinds)}

    def differing(self, other: Run) -> list[str]:
        """The tests that passed in both runs and in which models put out other numbers."""
        both = self.passed() & other.passed()
        return [test for test in both if self.checksums.get(test) != other.checksums.get(test)]


def read(outcomes: Path, end: str) -> Run:
    """What the plugin wrote. A test failed where any of its phases did."""
    result = Run(end=end)
    for line in map(json.loads, outcomes.read_text().splitlines()):
        test = line["test"]
        if line["outcome"] == "failed":
            result.texts[test] = line["text"]
        if line["phase"] == "collect":
            result.unimportable.append(test)
        elif result.outcomes.get(test) != "failed":
            result.outcomes[test] = line["outcome"]
        if line.get("acts"):
            result.acts[test] = line["acts"]
        if line.get("checksum") is not None:
            result.checksums[test] = line["checksum"]
    return result


@dataclass(frozen=True)
class Verdict:
    """What two runs and their repetition say, as sorted node ids.

    Args:
        broken: tests that fail with the patch and not without, twice, or in which a guard itself failed.
        changed: tests that pass with other numbers although no guard did anything: as bad as broken ones.
        mended: tests that pass with other numbers because a guard acted on padding that nobody had masked.
        unsteady: tests that differ from themselves.
    """

    broken: list[str]
    changed: list[str]
    mended: list[str]
    unsteady: list[str]


def judge(suspects: Collection[str], plain: Run, plain_again: Run, patched_again: Run) -> Verdict:
    """Tell apart what the patch breaks, changes and mends, and what is chance."""
    broken = set(patched_again.lost(plain_again.passed().intersection(suspects)))
    other = {
        test
        for test in patched_again.differing(plain_again)
        if plain.checksums.get(test) == plain_again.checksums.get(test)
    }
    mended = other & patched_again.with_act(*PADDING_ACTS)
    broken |= patched_again.with_act("padding.failed")
    unsteady = set(suspects) - broken - other
    return Verdict(sorted(broken), sorted(other - mended), sorted(mended), sorted(unsteady))
