"""What to do after memory has run out: lines to paste, the surest first. Pure text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .fit import split_batch


@dataclass(frozen=True)
class Situation:
    """What the advice depends on.

    Attributes:
        rows: of the failed call; 0 where unknown.
        at_most: rows that can fit, by what was reached when it failed.
        is_training: whether gradients are kept in training mode.
        keeps_gradients: whether operations are recorded for a backward pass.
        generates: whether the call is one of ``generate()``.
        checkpoints: whether gradient checkpointing is on.
        is_float32: whether the parameters are.
        is_fragmented: whether much is reserved and unused.
        on_oom: the policy.
    """

    rows: int
    at_most: int | None
    is_training: bool
    keeps_gradients: bool
    generates: bool = False
    checkpoints: bool = False
    is_float32: bool = False
    is_fragmented: bool = False
    on_oom: str = "explain"


def advice(situation: Situation, training_args: Any = None) -> list[str]:
    """At most four lines.

    Args:
        situation: of the failed call.
        training_args: the ``TrainingArguments`` of the Trainer that runs, or None.
    """
    if not situation.is_training:
        first = _for_inference(situation, "" if training_args is None else "per_device_eval_batch_size")
    elif training_args is not None:
        first = _for_trainer(situation, training_args)
    else:
        first = _for_loop(situation)
    lines = [*first]
    beside = "; ".join(_beside(situation))
    if beside:
        lines.append(f"also: {beside}" if lines else beside)
    return lines


def _for_trainer(situation: Situation, args: Any) -> Iterator[str]:
    batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    # A collator may make other rows of a batch, by packing: then nothing is known of how many fit.
    split = split_batch(batch, accumulation, situation.at_most if situation.rows == batch else None)
    if split is None:
        yield "one row does not fit: shorter texts (max_length), a smaller model, or adapters (peft)"
        return
    rows, steps = split
    effective = args.train_batch_size * accumulation * args.world_size
    yield (
        f"TrainingArguments(per_device_train_batch_size={rows}, gradient_accumulation_steps={steps}, ...)  "
        f"# {_probably(rows, situation)}; {effective} rows a step as before"
    )
    if situation.on_oom != "accumulate":
        yield 'or let it be done: safetransformers.configure(on_oom="accumulate")'


def _for_loop(situation: Situation) -> Iterator[str]:
    split = split_batch(situation.rows, 1, situation.at_most)
    if split is not None:
        rows, steps = split
        yield f"batches of {rows} rows, {steps} of them for one optimizer.step()  # {_probably(rows, situation)}"
    if situation.on_oom == "accumulate":
        yield 'on_oom="accumulate" acts on transformers\' Trainer, under safetransformers.patch() only'


def _for_inference(situation: Situation, argument: str) -> Iterator[str]:
    if situation.keeps_gradients:
        yield "with torch.no_grad(): ...  # activations are kept for a backward pass now"
    split = split_batch(situation.rows, 1, situation.at_most)
    if split is not None:
        smaller = f"{argument}={split[0]}" if argument else f"batches of {split[0]} rows"
        yield f"{smaller}  # {_probably(split[0], situation)}"
        if not situation.generates and situation.on_oom != "split":
            yield 'or with torch.no_grad(), safetransformers.policy(on_oom="split"): ...  # runs halves, joins outputs'
    if situation.generates:
        yield 'fewer max_new_tokens, or generate(..., cache_implementation="offloaded")'


def _beside(situation: Situation) -> Iterator[str]:
    """What helps whatever the batch is."""
    if situation.is_training and not situation.checkpoints:
        yield "model.gradient_checkpointing_enable()"
    if situation.is_float32:
        yield "bf16=True in TrainingArguments" if situation.is_training else "dtype=torch.bfloat16"
    if situation.is_fragmented:
        yield "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, for much is reserved and unused"


def _probably(rows: int, situation: Situation) -> str:
    known = "" if situation.at_most is None else f"at most {situation.at_most} can fit, "
    return f"{known}{rows} probably do"
