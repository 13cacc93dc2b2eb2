"""Giving memory back before less is tried."""

from __future__ import annotations

import gc
import traceback

import torch


def free(error: BaseException, kind: str) -> None:
    """Free what a failed call left: the tensors in its frames, in cycles, and in the cache of torch's allocator.

    ``accelerate`` (1.15, ``utils/memory.py``) empties the cache while the error is being handled, whose traceback still
    holds the failed call's tensors. Here the frames are cleared; the traceback keeps its lines.

    Args:
        error: what was raised; it is no longer being handled.
        kind: of device, see ``texts.kind_of``.

    Cost: one garbage collection; on an accelerator one sync, as ``empty_cache`` does.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()
    empty_cache = getattr(getattr(torch, kind, None), "empty_cache", None)
    if empty_cache is not None:
        empty_cache()
