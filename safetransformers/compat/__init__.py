"""The only package that knows versions: what this release was proven with, and where the supported ones differ."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any, Final, TypeVar, cast

from packaging.specifiers import SpecifierSet

from ..errors import UnsupportedVersionWarning, message
from ..notices import warn_once
from .auto import (
    PREPROCESSORS,
    accepted_configs,
    assemblers,
    auto_classes,
    auto_mapping,
    config_base,
    config_class,
    has_tokenizer,
    is_auto_class,
    is_auto_name,
    is_configured_by,
    lazy_module,
    mapped_names,
    model_class,
    model_types,
    models_of,
    pipeline_classes,
    pipeline_loader,
    pipelines,
    says,
    tied_names,
)
from .checkpoints import checkpoint_keys, model_class_names
from .http import Wire, wire
from .hub import (
    blocked,
    hub_cache,
    hub_endpoint,
    hub_endpoint_is_private,
    hub_head,
    hub_home,
    hub_is_offline,
    hub_loaders,
    hub_timeout_s,
    is_blocked,
    offline_switches,
    tokenizer_assembler,
    weights_finder,
    xet_switch,
)
from .ranks import agreed, is_sharded

__all__ = [
    "PREPROCESSORS",
    "SUPPORTED",
    "Wire",
    "accepted_configs",
    "agreed",
    "assemblers",
    "auto_classes",
    "auto_mapping",
    "blocked",
    "check_versions",
    "checkpoint_keys",
    "config_base",
    "config_class",
    "has_tokenizer",
    "hub_cache",
    "hub_endpoint",
    "hub_endpoint_is_private",
    "hub_head",
    "hub_home",
    "hub_is_offline",
    "hub_loaders",
    "hub_timeout_s",
    "is_auto_class",
    "is_auto_name",
    "is_blocked",
    "is_configured_by",
    "is_sharded",
    "lazy_module",
    "mapped_names",
    "model_class",
    "model_class_names",
    "model_types",
    "models_of",
    "not_compiled",
    "offline_switches",
    "pipeline_classes",
    "pipeline_loader",
    "pipelines",
    "says",
    "tied_names",
    "tokenizer_assembler",
    "weights_finder",
    "wire",
    "xet_switch",
]

Function = TypeVar("Function", bound=Callable[..., Any])

SUPPORTED: Final = {"transformers": ">=4.57,<6", "torch": ">=2.5", "wrapt": ">=2.5"}


@lru_cache(maxsize=1)
def check_versions() -> None:
    """Warn once where an installed package is outside the range that this release was proven with."""
    for package, range_ in SUPPORTED.items():
        installed = version(package)
        if not SpecifierSet(range_).contains(installed, prereleases=True):
            text = message(
                "ST-VERSION-001",
                f"{package} {installed} is outside the range that safetransformers was proven with: {range_}",
                do=f"pip install '{package}{range_}'",
            )
            warn_once(UnsupportedVersionWarning, package, text)


def not_compiled(reason: str) -> Callable[[Function], Function]:
    """A decorator: dynamo breaks its graph at the function, and says why where it must not (torch 2.7 and later)."""
    import torch

    takes_reason = "reason" in inspect.signature(torch.compiler.disable).parameters
    named = {"reason": reason} if takes_reason else {}
    return cast("Callable[[Function], Function]", partial(torch.compiler.disable, **named))
