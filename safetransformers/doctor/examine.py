"""All that the doctor looks at, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import accelerator, cache, environment, hub, model, versions
from .finding import Finding


def examine(
    source: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: Any = None,
    run: bool = False,
    verify: str = "size",
    limit_s: float = hub.STEP_S,
) -> Iterator[Finding]:
    """Look at this machine, and at one checkpoint where one is named; each finding comes when it is known.

    Args:
        source: a folder or a cached repository.
        revision: of the repository.
        cache_dir: the hub cache; ``None`` for the one that transformers reads.
        run: load the checkpoint, and measure its padding.
        verify: ``"hash"`` reads every byte of the cache.
        limit_s: for each step of the way to the hub.

    Raises:
        CheckpointError: where ``source`` is no such folder or cached repository; before anything else is looked at.
        UnknownArchitectureError: for a ``model_type`` that the installed transformers does not know.
    """
    last = None if source is None else model.look(source, revision=revision, cache_dir=cache_dir, run=run)
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: versions.findings(versions.look()),
        lambda: accelerator.findings(accelerator.look()),
        lambda: environment.findings(environment.look()),
        lambda: hub.findings(hub.look(limit_s)),
        lambda: cache.findings(cache.look(cache_dir, verify=verify)),
    )
    for look in looks:
        yield from look()
    if last is not None:
        yield from model.findings(last)
