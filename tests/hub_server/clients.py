"""Pointing huggingface_hub and transformers, already imported, at another endpoint and cache.

Both read the environment once, at import, and keep copies of what they read: as constants, in API objects, in lists of
trusted origins, and in open HTTP connections. All of them are changed here and restored afterwards.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import huggingface_hub.constants
from huggingface_hub import HfApi

_LIBRARIES = {"huggingface_hub", "transformers", "safetransformers", "sentence_transformers", "peft", "accelerate"}
# Imported before anything is changed: a module that copied a constant meanwhile would keep the test's value.
_COPYING_MODULES = (
    "huggingface_hub._snapshot_download",
    "huggingface_hub.file_download",
    "huggingface_hub.hf_api",
    "huggingface_hub.hf_file_system",
    "huggingface_hub.utils._cache_manager",
    "huggingface_hub.utils._http",
    "transformers.file_utils",
    "transformers.utils.hub",
)
_ENDPOINT_NAMES = {"ENDPOINT": "", "HUGGINGFACE_CO_RESOLVE_ENDPOINT": ""}
_TEMPLATE_NAMES = {
    "HUGGINGFACE_CO_URL_TEMPLATE": "/{repo_id}/resolve/{revision}/{filename}",
    "HUGGINGFACE_CO_PREFIX": "/{model_id}/resolve/{revision}/{filename}",
    "HUGGINGFACE_CO_EXAMPLES_TELEMETRY": "/api/telemetry/examples",
}
_CACHE_NAMES = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "PYTORCH_PRETRAINED_BERT_CACHE",
    "PYTORCH_TRANSFORMERS_CACHE",
    "TRANSFORMERS_CACHE",
)
_MISSING = object()


@contextmanager
def pointed_at(endpoint: str, cache: str | None) -> Iterator[None]:
    """Use ``endpoint``, and ``cache`` unless it is None, as if the process had been started with them."""
    for name in _COPYING_MODULES:
        _import_if_there(name)
    with ExitStack() as stack:
        stack.callback(_forget_connections)
        stack.enter_context(_api_objects(endpoint))
        for name, value in _constants(endpoint, cache).items():
            stack.enter_context(_constant(name, value))
        _trust(endpoint, stack)
        stack.enter_context(_known_agents())
        _forget_connections()
        yield


def _constants(endpoint: str, cache: str | None) -> dict[str, Any]:
    names: dict[str, Any] = {name: endpoint + path for name, path in {**_ENDPOINT_NAMES, **_TEMPLATE_NAMES}.items()}
    names |= {"HF_TOKEN_PATH": os.devnull, "HF_HUB_OFFLINE": False, "_is_offline_mode": False}
    if cache is not None:
        names |= dict.fromkeys(_CACHE_NAMES, cache)
        names["HF_XET_CACHE"] = os.path.join(cache, "xet")
    return names


@contextmanager
def _constant(name: str, value: Any) -> Iterator[None]:
    """Give a constant a value in every module of the libraries that has it."""
    before = {module: vars(module)[name] for module in _modules() if name in vars(module)}
    try:
        for module in before:
            setattr(module, name, value)
        yield
    finally:
        for module, old in before.items():
            setattr(module, name, old)
        # A module that was imported meanwhile has copied the test's value: it gets what its elders have.
        for module in _modules():
            if module not in before and before and vars(module).get(name, _MISSING) is value:
                setattr(module, name, next(iter(before.values())))


@contextmanager
def _api_objects(endpoint: str) -> Iterator[None]:
    """Point the shared API objects at the endpoint; each froze the one that it was made with."""
    default = huggingface_hub.constants.ENDPOINT
    try:
        for api in _found_api_objects():
            if api.endpoint == default:
                api.endpoint = endpoint
        yield
    finally:
        # Those that were made meanwhile have the test's endpoint as well.
        for api in _found_api_objects():
            if api.endpoint == endpoint:
                api.endpoint = default


def _found_api_objects() -> list[HfApi]:
    values = [value for module in _modules() for value in vars(module).values()]
    return list({id(value): value for value in values if isinstance(value, HfApi)}.values())


@contextmanager
def _known_agents() -> Iterator[None]:
    """Spare the request for the list of AI agents, which huggingface_hub 2.x makes once a day and process."""
    try:
        module: Any = importlib.import_module("huggingface_hub.utils._detect_agent")
    except ImportError:
        yield
        return
    if not hasattr(module, "_registry"):
        yield
        return
    with mock.patch.object(module, "_registry", {"standardEnvVars": [], "harnesses": {}}):
        yield


def _trust(endpoint: str, stack: ExitStack) -> None:
    """Add the endpoint to the origins that huggingface_hub 1.x and 2.x take for the hub."""
    url = urlsplit(endpoint)
    if (hosts := getattr(huggingface_hub.constants, "HF_URL_HOSTS", None)) is not None:
        stack.enter_context(_constant("HF_URL_HOSTS", hosts | {url.hostname}))
    http = importlib.import_module("huggingface_hub.utils._http")
    if (origins := getattr(http, "_HUB_ORIGINS", None)) is not None:
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        stack.enter_context(_constant("_HUB_ORIGINS", origins | {(url.scheme, url.hostname, port)}))


def _forget_connections() -> None:
    """Make the library open new HTTP connections: it keeps them, and their proxies, as long as the process lives."""
    http = importlib.import_module("huggingface_hub.utils._http")
    close: Callable[[], None] = getattr(http, "close_session", None) or http.reset_sessions
    close()


def _modules() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in _LIBRARIES]


def _import_if_there(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError:
        return
