"""Failures on the way to the hub, each on a hub of its own that has the fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
from checkpoints import save
from explain_making import Case, Made, raised
from hub_server import Hub
from models import tiny
from transformers import AutoConfig, GenerationConfig

_REPO = "me/bert"
_GATED = "me/gated"
_WITHOUT_WAITING = time.sleep  # between tries: the client's waits are not what is looked at


def _config() -> Any:
    return AutoConfig.from_pretrained(_REPO)


def _weights() -> Any:
    return huggingface_hub.hf_hub_download(_REPO, "model.safetensors")


def _on_hub(
    call: Callable[[], Any] = _config, fault: str = "", token: str | None = None, **constants: Any
) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        save(tiny("bert"), folder / "files")
        with Hub() as hub, ExitStack() as stack:
            for repo_id in (_REPO, _GATED):
                hub.add(repo_id, folder / "files")
            hub.gate(_GATED)
            access = stack.enter_context(hub.faulty(fault)) if fault else hub.access
            stack.enter_context(access.apply(folder / "cache", token=token))
            stack.enter_context(mock.patch("time.sleep", lambda seconds: _WITHOUT_WAITING(min(seconds, 0.01))))
            for name, value in constants.items():
                stack.enter_context(mock.patch(f"huggingface_hub.constants.{name}", value))
            return raised(call)

    return make


_BRIEF = {"HF_HUB_DOWNLOAD_TIMEOUT": 0.2, "HF_HUB_ETAG_TIMEOUT": 0.2}

HUB = (
    Case("nobody listens", "ST-HUB-510", _on_hub(fault="refused")),
    Case("a name that nobody knows", "ST-HUB-511", _on_hub(fault="dns_failure"), ("DNS",)),
    Case("a certificate of nobody", "ST-HUB-501", _on_hub(fault="self_signed"), ("self-signed", "CA_BUNDLE")),
    Case("TLS to a port without it", "ST-HUB-517", _on_hub(fault="tls_to_plain"), ("WRONG_VERSION_NUMBER",)),
    Case("a connection that is cut", "ST-HUB-509", _on_hub(fault="reset")),
    Case("a download that is cut", "ST-HUB-509", _on_hub(_weights, "truncated_body")),
    Case("a download that stalls", "ST-HUB-508", _on_hub(_weights, "stall", **_BRIEF)),
    Case("a server error", "ST-HUB-515", _on_hub(fault="status_503"), ("503",)),
    Case("too many requests", "ST-HUB-507", _on_hub(fault="rate_limited"), ("429",)),
    Case("a firewall's page", "ST-HUB-514", _on_hub(fault="firewall_403_html"), ("firewall",)),
    Case("a portal's page", "ST-HUB-514", _on_hub(fault="portal_200"), ("captive portal",)),
    Case("a circle of redirects", "ST-HUB-514", _on_hub(fault="redirect_loop_absolute"), ("captive portal",)),
    Case("a proxy that wants a password", "ST-HUB-502", _on_hub(fault="proxy_407"), ("407",)),
    Case("a proxy that denies", "ST-HUB-502", _on_hub(fault="proxy_403"), ("403",)),
    Case(
        "a proxy that is down",
        "ST-HUB-502",
        _on_hub(fault="proxy_down"),
        ("proxy",),
        only=4,
        otherwise="httpx2 says of a proxy that is down what it says of a server",
    ),
    Case("a token that is refused", "ST-HUB-513", _on_hub(fault="bad_token_401", token="hf_wrong"), ("whoami",)),
    Case("a gated repository", "ST-HUB-503", _on_hub(lambda: AutoConfig.from_pretrained(_GATED)), (_GATED,)),
    Case(
        "a gated repository, asked by huggingface_hub",
        "ST-HUB-503",
        _on_hub(lambda: huggingface_hub.hf_hub_download(_GATED, "config.json")),
        (_GATED,),
    ),
    Case("no such repository", "ST-HUB-504", _on_hub(lambda: AutoConfig.from_pretrained("me/none")), ("me/none",)),
    Case(
        "no such repository, asked by huggingface_hub",
        "ST-HUB-504",
        _on_hub(lambda: huggingface_hub.hf_hub_download("me/none", "config.json")),
        ("me/none",),
    ),
    Case(
        "no such revision",
        "ST-HUB-505",
        _on_hub(lambda: AutoConfig.from_pretrained(_REPO, revision="nope")),
        (_REPO, "nope"),
    ),
    Case(
        "no such revision, asked by huggingface_hub",
        "ST-HUB-505",
        _on_hub(lambda: huggingface_hub.hf_hub_download(_REPO, "config.json", revision="nope")),
        (_REPO, "nope"),
    ),
    Case(
        "no such file",
        "ST-HUB-506",
        _on_hub(lambda: GenerationConfig.from_pretrained(_REPO, "of_mine.json")),
        ("of_mine.json", _REPO),
    ),
    Case(
        "no such file, asked by huggingface_hub",
        "ST-HUB-506",
        _on_hub(lambda: huggingface_hub.hf_hub_download(_REPO, "of_mine.json")),
        ("of_mine.json", _REPO),
    ),
    Case(
        "only the cache is allowed",
        "ST-HUB-005",
        _on_hub(lambda: AutoConfig.from_pretrained(_REPO, local_files_only=True)),
        ("prefetch",),
    ),
    Case(
        "a snapshot that is not cached",
        "ST-HUB-005",
        _on_hub(lambda: huggingface_hub.snapshot_download(_REPO, local_files_only=True)),
        ("prefetch",),
    ),
    Case(
        "offline mode",
        "ST-HUB-512",
        _on_hub(lambda: huggingface_hub.HfApi().model_info(_REPO), HF_HUB_OFFLINE=True),
        ("HF_HUB_OFFLINE",),
    ),
    Case("a path that is no repository", "ST-HUB-516", _on_hub(lambda: AutoConfig.from_pretrained("no/such/folder"))),
    Case(
        "a name that is no repository",
        "ST-HUB-516",
        _on_hub(lambda: huggingface_hub.hf_hub_download("what is this", "config.json")),
        ("what is this",),
    ),
)
