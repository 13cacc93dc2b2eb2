"""Every test starts from the defaults: no policy, no patch, no warning given yet, no variable of ours set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from safetransformers import configure, notices, policies, unpatch
from safetransformers.devices import record


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(policies.ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)
    everything = dict.fromkeys(["strict", *policies.CHOICES])
    configure(**everything)
    notices.forget()
    record.forget()
    monkeypatch.setattr(policies, "is_asked", False)
    torch.manual_seed(0)
    yield
    monkeypatch.undo()  # a variable that a test left wrong must not reach the calls below
    configure(**everything)
    unpatch()


@pytest.fixture
def code_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remote code of a test is kept, imported and registered for that test alone."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    for registry in (transformers.CONFIG_MAPPING, transformers.MODEL_MAPPING):
        monkeypatch.setattr(registry, "_extra_content", dict(registry._extra_content))
