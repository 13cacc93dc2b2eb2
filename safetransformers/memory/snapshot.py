"""The state of a training run before its first step, kept on the host, and put back for another start."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import nn


class Snapshot:
    """Weights that train, buffers, the caller's own optimizer and scheduler, and every random state.

    Cost: a copy of what trains on the host; with adapters (peft) that is little.
    """

    def __init__(self, trainer: Any) -> None:
        self._tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in _changing(trainer.model)}
        self._training = trainer.model.training
        self._given = {name: getattr(trainer, name) for name in ("optimizer", "lr_scheduler")}
        self._states = {
            name: None if given is None else copy.deepcopy(given.state_dict()) for name, given in self._given.items()
        }
        scaler = trainer.accelerator.scaler  # of fp16
        self._scaler = None if scaler is None else scaler.state_dict()
        self._random = _random_states()

    def put_back(self, trainer: Any) -> None:
        """Make the trainer what it was; an optimizer that it made itself is dropped, to be made anew."""
        with torch.no_grad():
            for name, tensor in _changing(trainer.model):
                tensor.copy_(self._tensors[name])
        trainer.model.zero_grad(set_to_none=True)
        trainer.model.train(self._training)
        for name, given in self._given.items():
            setattr(trainer, name, given)
            if given is not None:
                given.load_state_dict(copy.deepcopy(self._states[name]))
        if self._scaler is not None:
            trainer.accelerator.scaler.load_state_dict(self._scaler)
        trainer.model_wrapped = trainer.model
        random.setstate(self._random["python"])
        np.random.set_state(self._random["numpy"])
        torch.set_rng_state(self._random["torch"])
        for device, state in self._random["cuda"].items():
            torch.cuda.set_rng_state(state, device)


def _changing(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [*trained, *model.named_buffers()]


def _random_states() -> dict[str, Any]:
    in_use = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": {device: torch.cuda.get_rng_state(device) for device in in_use},
    }
