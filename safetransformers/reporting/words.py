"""What each kind of count means, in words that follow a number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ..hub.faults import WORDS as FAULTS

_FAULT: Final = "hub.fault."
WORDS: Final = {
    "device_checks.failed": "looks at ids that failed themselves: the call went on; please report it as a bug",
    "device_checks.raised": "calls refused: an id, a position or a label was beyond its table",
    "hub.corrupt": "loads refused: a file was not what its hash, its header or its format says",
    "hub.incomplete": "loads with files that could not be looked up and that the model may have besides",
    "hub.newer_on_hub": "loads of the cached copy while the hub had a newer commit",
    "hub.no_vocabulary": "tokenizers refused: their vocabulary was missing",
    "hub.not_cached": "loads that failed: the hub did not answer and the cache has no whole copy",
    "hub.prefetched": "runs of prefetch that made repositories ready",
    "hub.served_from_cache": "loads of the cached copy, as the hub did not answer",
    "hub.shared": "loads that took what another process had just asked the hub",
    "hub.stale": "loads refused in strict mode: nobody could say whether the cached copy is still the right one",
    "hub.turn_stalled": "loads that no longer waited for another process, whose download stood still",
    "loading.pickle_refused": "loads refused: the checkpoint has pickle weights only",
    "loading.raised": "loads refused: part of the model would have been random",
    "loading.remote_code_refused": "loads refused: the checkpoint's own code is not allowed or not pinned",
    "loading.warned": "loads with weights that are missing from the checkpoint, and so random",
    "memory.accumulated": "training runs started again with a smaller batch and more accumulation",
    "memory.explained": "errors of memory that ran out, told with what filled it",
    "memory.reduced": "smaller batch sizes tried for a function that ran out of memory",
    "memory.split": "batches run in pieces, as they ran out of memory",
    "names.explained": "errors about classes, tasks and names, told with what does fit",
    "padding.exact": "calls whose rows were run unpadded, in groups of equal length",
    "padding.failed": "padding guards that failed themselves: the call went on unguarded; please report it as a bug",
    "padding.inferred": "calls whose padding was masked by rule, as no mask was passed",
    "padding.inferred_for_generate": "calls of generate() whose padding was masked by rule",
    "padding.raised": "calls refused: padding without a mask, or that no mask can mend",
    "padding.warned": "calls with padding that nobody masked or no mask can mend, and a warning",
    "tf.converted": "TensorFlow or Flax saves converted",
    "tf.converted_on_the_fly": "loads of a TensorFlow or Flax save that was converted for it",
    "tf.raised": "loads refused: the checkpoint is a TensorFlow or Flax save",
}


def words_of(kind: str) -> str:
    """What a kind of count means; one of another release is told as such.

    Example:
        >>> words_of("hub.fault.refused")
        'requests that failed: the hub refuses the connection'
    """
    if kind in WORDS:
        return WORDS[kind]
    fault = FAULTS.get(kind.removeprefix(_FAULT)) if kind.startswith(_FAULT) else None
    if fault is None:
        return "events of a kind that this release does not know"
    without_status = re.sub(r"\s*\([^()]*\{status\}[^()]*\)", "", fault)
    return f"requests that failed: {without_status.format(host='the hub')}"


def described(counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Kind, number and words of each count, by kind."""
    return [(kind, counts[kind], words_of(kind)) for kind in sorted(counts)]
