"""Several saves into one folder, in as many processes as wanted: each is a conversion of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import policies
from ..errors import DestinationError, SafeTransformersError
from ..notices import relative
from .convert import convert
from .report import ConversionReport


@dataclass(frozen=True)
class Done:
    """How one of several conversions ended.

    Attributes:
        source: as it was given.
        report: of the conversion, or None where it failed.
        error: why, or None.
    """

    source: Path
    report: ConversionReport | None = None
    error: SafeTransformersError | None = None


def destinations(sources: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each source goes: into a folder of its own name.

    Raises:
        DestinationError: where two have one name.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        target = folder / relative(source)
        if target in found:
            raise DestinationError(
                "ST-TF-007",
                f"two saves are called {target.name}: they cannot both go into {relative(folder)}/{target.name}",
                do="convert one of them by itself, or name them otherwise",
            )
        found[target] = source
    return {source: target for target, source in found.items()}


def convert_many(sources: Sequence[Path], folder: Path, *, jobs: int = 1, **options: Any) -> Iterator[Done]:
    """Convert saves, each into a folder of its own name, and yield how each ended, as it ends.

    One that fails does not end the others. A second run converts what is missing: what was converted before is told by
    its digests.

    Args:
        sources: as ``convert`` takes them.
        folder: where the folders go; it is made.
        jobs: processes; each holds one shard in memory.
        **options: of ``convert``.

    Raises:
        DestinationError: where two sources have one name; nothing is converted then.
    """
    wanted = destinations(sources, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if jobs == 1:
        for source, target in wanted.items():
            yield convert_one(source, target, **options)
        return
    task = partial(convert_one, layer=_policy(), **options)
    # Not forked: the threads of torch and the locks that they hold do not go along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(wanted)), mp_context=context) as pool:
        running = [pool.submit(task, source, target) for source, target in wanted.items()]
        for future in as_completed(running):
            yield future.result()


def convert_one(source: Path, target: Path, *, layer: Mapping[str, Any] | None = None, **options: Any) -> Done:
    """One of several conversions: a failure is an answer. What a process pool, or a cluster's task, runs.

    Args:
        source: the save.
        target: the folder to write.
        layer: the policy of the process that asks, where it is another one.
        **options: of ``convert``.
    """
    with policies.policy(**(layer or {})):
        try:
            return Done(source, convert(source, target, **options))
        except SafeTransformersError as error:
            return Done(source, error=error)


def _policy() -> dict[str, Any]:
    return {name: policies.resolve(name) for name in policies.CHOICES} | {"strict": policies.is_strict()}
