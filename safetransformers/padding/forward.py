"""One call of a model with its rows run unpadded, whatever the policy says elsewhere."""

from __future__ import annotations

import threading
from typing import Any

from torch import nn

from .. import policies
from ..guards import guard, is_guarded, unguard

_guarding_for_a_call = threading.RLock()


def exact_forward(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run a model on padded rows as if each were alone: in groups of equal real length, unpadded.

    Right for every architecture, also those that no mask can make right (convolution, Fourier, recurrent state).

    Args:
        model: a transformers model, guarded or not; it is left as it was.
        *args: as for the model itself.
        **kwargs: as for the model itself; where no ``attention_mask`` is among them, it is inferred by rule.

    Returns:
        The model's own output type. Each tensor has the padded shape, with zeros where there is no token; there is no
        cache in it.

    Raises:
        PaddingError: for labels, ``use_cache=True``, a row without a real token, an output that has no batch axis.

    Cost: one forward a group and one sync; two forwards of at most 3 x 9 tokens once per kind of call on a guarded
    model, and at each call on another, whose calls from several threads take turns. Guard the model to be spared both.

    Example:
        >>> import torch
        >>> from transformers import FNetConfig, FNetModel
        >>> tiny = FNetConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, intermediate_size=8, pad_token_id=0)
        >>> model = FNetModel(tiny).eval()
        >>> padded, alone = torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([[8]])
        >>> exact = exact_forward(model, padded).last_hidden_state
        >>> torch.allclose(exact[1, :1], model(alone).last_hidden_state[0])
        True
    """
    with policies.policy(padding="exact"):
        with _guarding_for_a_call:  # another thread must not take the guard off in between
            if not is_guarded(model):
                try:
                    return guard(model)(*args, **kwargs)
                finally:
                    unguard(model)
        return model(*args, **kwargs)
