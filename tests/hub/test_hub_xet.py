"""The store that hf_xet reads by itself does not answer: files come over plain HTTP, without its minutes of waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from checkpoints import save
from hub_server import Hub
from models import tiny

import safetransformers as st
from safetransformers.hub import load
from safetransformers.hub.breaker import breakers

DEAD_STORE = "http://127.0.0.1:9"  # the discard port
REPO = "me/bert"

pytest.importorskip("hf_xet", reason="huggingface_hub asks for the store only where hf_xet is installed")


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    breakers.forget()
    load.verified.clear()
    yield
    breakers.forget()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(xet_store=DEAD_STORE) as hub:
        hub.add(REPO, save(tiny("bert"), tmp_path / "bert"))
        yield hub


def test_a_user_whose_firewall_blocks_the_store_gets_the_weights_over_http(hub: Hub, tmp_path: Path) -> None:
    with hub.applied(tmp_path / "hub"):
        start_s = time.monotonic()
        model = st.AutoModel.from_pretrained(REPO)
        assert time.monotonic() - start_s < 10  # hf_xet alone tries for more than a minute
    for name, weight in tiny("bert").state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    assert any(request.kind == "cdn" and request.method == "GET" for request in hub.requests)
    assert any("xet-read-token" in request.path for request in hub.requests)


def test_a_users_second_load_does_not_ask_for_the_store_again(hub: Hub, tmp_path: Path) -> None:
    with hub.applied(tmp_path / "hub"):
        st.AutoModel.from_pretrained(REPO)
        hub.clear()
        st.AutoModel.from_pretrained(REPO, cache_dir=tmp_path / "another")
    assert any(request.kind == "cdn" for request in hub.requests)
    assert not any("xet-read-token" in request.path for request in hub.requests)


def test_a_user_is_left_with_hf_xet_as_it_was(hub: Hub, tmp_path: Path) -> None:
    before = huggingface_hub.file_download.is_xet_available
    with hub.applied(tmp_path / "hub"):
        st.AutoModel.from_pretrained(REPO)
    assert huggingface_hub.file_download.is_xet_available is before
    assert before()
