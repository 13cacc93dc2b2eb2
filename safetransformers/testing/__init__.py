"""For your own tests: a hub that fails, memory that runs out, and tiny models of any architecture; no network.

Example:
    >>> from safetransformers import AutoModel, testing
    >>> model = testing.tiny_model("bert")
    >>> with testing.offline("dns") as requests:
    ...     _ = AutoModel.from_config(model.config)
    >>> requests
    []
"""

from __future__ import annotations

from .configs import tiny_config
from .memory import limited_memory
from .models import tiny_checkpoint, tiny_model, tiny_tokenizer
from .network import FAULTS, offline

__all__ = [
    "FAULTS",
    "limited_memory",
    "offline",
    "tiny_checkpoint",
    "tiny_config",
    "tiny_model",
    "tiny_tokenizer",
]
