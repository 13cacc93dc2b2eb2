"""The effective batch kept: rows a step of one device x accumulation steps x devices."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from ..errors import BatchSizeError
from .fit import nearest_divisors

Arguments = TypeVar("Arguments")


def keep_effective_batch(training_args: Arguments, *, per_device_train_batch_size: int) -> Arguments:
    """The training arguments with another batch size, and the accumulation that keeps the effective batch.

    ``auto_find_batch_size=True`` of transformers (4.57 and 5.23) lowers the batch and leaves accumulation alone, so
    that the same learning rate meets another effective batch.

    Args:
        training_args: a ``TrainingArguments``, or a subclass's; it is left as it is.
        per_device_train_batch_size: the rows that fit, one or more.

    Returns:
        A copy, with ``per_device_train_batch_size`` and ``gradient_accumulation_steps`` changed.

    Raises:
        BatchSizeError: where the size does not divide the rows that one device sees for one optimizer step; it names
            the nearest sizes that do.

    Example:
        >>> from transformers import TrainingArguments
        >>> args = TrainingArguments(output_dir="out", per_device_train_batch_size=32, use_cpu=True)
        >>> smaller = keep_effective_batch(args, per_device_train_batch_size=8)
        >>> smaller.per_device_train_batch_size, smaller.gradient_accumulation_steps
        (8, 4)
    """
    changed: Any = copy.copy(training_args)
    batch, accumulation = changed.per_device_train_batch_size, changed.gradient_accumulation_steps
    product, wanted = batch * accumulation, per_device_train_batch_size
    if wanted < 1 or product % wanted:
        choices = nearest_divisors(product, wanted)
        raise BatchSizeError(
            "ST-OOM-005",
            f"per_device_train_batch_size={wanted} does not keep the effective batch",
            why=f"{batch} rows x {accumulation} accumulation steps = {product} a device, no multiple of {wanted}",
            do=" or ".join(f"per_device_train_batch_size={choice}" for choice in choices),
            choices=choices,
        )
    changed.per_device_train_batch_size, changed.gradient_accumulation_steps = wanted, product // wanted
    return changed  # type: ignore[no-any-return]  # a copy is of the same class
