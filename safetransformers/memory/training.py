"""The wrapper around the Trainer's training loop, under ``patch()``: the note, and ``on_oom="accumulate"``.

Memory runs out in backward and in the optimizer's step too, which no hook of a model sees.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from typing import Any

from .. import policies
from ..counts import count
from ..errors import AccumulatingWarning, SafeTransformersWarning, message
from ..failing import tell
from ..notices import relative, warn_once
from . import note, texts
from .fit import split_batch
from .freeing import free
from .loss_scale import ignores_item_count
from .snapshot import Snapshot

logger = logging.getLogger(__name__)


def training_loop(wrapped: Callable[..., Any], trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around ``Trainer._inner_training_loop`` (4.57 and 5.23), which ``train()`` calls once for each batch size."""
    token = note.trainer.set(trainer)
    try:
        if policies.resolve("on_oom") != "accumulate":
            return _noted(wrapped, trainer, args, kwargs)
        named = inspect.signature(wrapped).bind(*args, **kwargs).arguments
        return _accumulating(wrapped, trainer, named)
    finally:
        note.trainer.reset(token)


def _noted(wrapped: Callable[..., Any], trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return wrapped(*args, **kwargs)
    except (RuntimeError, MemoryError) as error:
        tell(trainer.model, {}, error)
        raise


def _accumulating(wrapped: Callable[..., Any], trainer: Any, named: dict[str, Any]) -> Any:
    """Run the loop; each time that memory runs out, start again with a smaller batch and more accumulation.

    It goes on from the newest checkpoint of this run, else from the state before the run, so that the numbers are those
    of a run that had the smaller batch from the start.
    """
    refusal = _refusal(trainer)
    if refusal:
        logger.warning('on_oom="accumulate" leaves this run alone: %s', refusal)
        return _noted(wrapped, trainer, (), named)
    snapshot, before = Snapshot(trainer), _checkpoints(trainer)
    while True:
        try:
            return _noted(wrapped, trainer, (), named)
        except (RuntimeError, MemoryError) as error:
            kind, split = texts.kind_of(error), _smaller(trainer)
            if kind is None or split is None or _is_evaluating(error):
                raise
            failure = error
        free(failure, kind)
        try:
            snapshot.put_back(trainer)
            free(failure, kind)  # the optimizer that the trainer made went just now
            if not _keeps_loss(trainer):
                raise failure
            named = _again(trainer, named, snapshot, split, before)
        except SafeTransformersWarning:  # a filter may turn ours into an error
            raise
        except Exception as error:
            if error is not failure:
                logger.exception("a run that ran out of memory could not start again")
            raise failure from None
        del failure


def _refusal(trainer: Any) -> str:
    """Why a run cannot start again from here; empty where it can."""
    if trainer.args.world_size > 1:
        return "of several processes one alone cannot start again; the note on the error says what to set"
    if getattr(trainer, "is_deepspeed_enabled", False) or getattr(trainer, "is_fsdp_enabled", False):
        return "DeepSpeed and FSDP have taken its weights apart"
    if trainer.args.train_batch_size != trainer._train_batch_size:
        return "auto_find_batch_size has chosen another batch size already"
    return ""


def _smaller(trainer: Any) -> tuple[int, int] | None:
    return split_batch(trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps)


def _keeps_loss(trainer: Any) -> bool:
    """Whether more accumulation steps leave the loss as it is, if need be with the Trainer dividing it itself."""
    if not ignores_item_count(trainer):
        return True
    if trainer.args.gradient_accumulation_steps > 1:
        logger.warning(
            "%s ignores num_items_in_batch, so that this run's gradient is already multiplied by its accumulation "
            "steps; more of them would multiply it further",
            type(trainer.model).__name__,
        )
        return False
    trainer.model_accepts_loss_kwargs = False  # what transformers' own remedy is, in the docstring of compute_loss
    return True


def _is_evaluating(error: BaseException) -> bool:
    """Whether the error came out of an evaluation, whose batch size is another one."""
    link = error.__traceback__
    while link is not None:
        if link.tb_frame.f_code.co_name == "evaluate":
            return True
        link = link.tb_next
    return False


def _again(
    trainer: Any, named: dict[str, Any], snapshot: Snapshot, split: tuple[int, int], before: set[str]
) -> dict[str, Any]:
    """Set the smaller batch and put the state back: the arguments of the loop's next start."""
    rows, steps = split
    args = trainer.args
    tried = args.per_device_train_batch_size
    checkpoint = _newest(trainer, before)
    count("memory.accumulated")
    text = message(
        "ST-OOM-004",
        f"training ran out of memory with {tried} rows a device; it starts again with {rows}",
        f"gradient_accumulation_steps={steps} keeps the effective batch; it goes on from "
        f"{relative(checkpoint) if checkpoint else 'the beginning'}",
        f"TrainingArguments(per_device_train_batch_size={rows}, gradient_accumulation_steps={steps}, ...)",
        'safetransformers.configure(on_oom="explain")',
    )
    warn_once(AccumulatingWarning, str(rows), text)
    args.per_device_train_batch_size, args.gradient_accumulation_steps = rows, steps
    trainer._train_batch_size = args.train_batch_size
    snapshot.put_back(trainer)
    changes: dict[str, Any] = {"batch_size": trainer._train_batch_size}
    if checkpoint:
        trainer._load_from_checkpoint(checkpoint)
        changes["resume_from_checkpoint"] = checkpoint
    return {**named, **changes}


def _checkpoints(trainer: Any) -> set[str]:
    folder = trainer._get_output_dir(trial=None)
    if not os.path.isdir(folder):
        return set()
    return {os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("checkpoint-")}


def _newest(trainer: Any, before: set[str]) -> str | None:
    """The newest checkpoint that this run has written whole, and can go on from."""
    if trainer.args.save_only_model:
        return None
    made = [path for path in _checkpoints(trainer) - before if os.path.isfile(os.path.join(path, "trainer_state.json"))]
    return max(made, key=lambda path: int(path.rpartition("-")[2]), default=None)
