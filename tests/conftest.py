"""Every test starts from the defaults: no policy, no patch, no warning given yet, no variable of ours set."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from safetransformers import configure, notices, policies, unpatch


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(policies.ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)
    policies._exact_was_named = False
    everything = dict.fromkeys(["strict", *policies.CHOICES])
    configure(**everything)
    notices.forget()
    torch.manual_seed(0)
    yield
    monkeypatch.undo()  # a variable that a test left wrong must not reach the calls below
    configure(**everything)
    unpatch()
