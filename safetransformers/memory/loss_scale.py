"""Whether a model's loss is that of the whole effective batch, where the Trainer believes that it is."""

from __future__ import annotations

from typing import Any

import torch


def ignores_item_count(trainer: Any) -> bool:
    """Whether the Trainer leaves the loss unscaled for a model that does not scale it either.

    The Trainer (4.57 and 5.23, ``training_step``) divides the loss by the accumulation steps unless forward takes
    further keywords: then it passes ``num_items_in_batch`` and trusts the model to divide by that. 5.23's
    ``BertForSequenceClassification`` takes it and ignores it, so that N accumulation steps make N times the gradient.

    Cost: two forwards of one row, and one batch of the training loader; the caller puts the random state back.
    """
    if not trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None:
        return False
    if getattr(trainer, "loss_is_scaled_for_ga", None) is False:  # 5.23: the user knows
        return False
    batch = next(iter(trainer.get_train_dataloader()))
    row = trainer._prepare_inputs({name: value[:1] for name, value in batch.items()})
    was_training = trainer.model.training
    trainer.model.eval()  # no dropout: the two must differ by the count alone
    try:
        with torch.no_grad():
            one, two = (trainer.compute_loss(trainer.model, dict(row), num_items_in_batch=n) for n in (1, 2))
    finally:
        trainer.model.train(was_training)
    return bool(torch.isclose(one, two))
