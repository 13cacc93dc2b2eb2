"""Where the versions of huggingface_hub differ, and what of transformers asks it."""

from __future__ import annotations

import os
from typing import Any

from .auto import config_base, pipelines


def hub_endpoint() -> str:
    """The hub that huggingface_hub asks, which is ``HF_ENDPOINT``; written as its client writes it."""
    from huggingface_hub import constants

    from ..hub.urls import normal

    return normal(str(constants.ENDPOINT)).rstrip("/")


def hub_endpoint_is_private() -> bool:
    """Whether ``HF_ENDPOINT`` holds a user name or password, which transformers repeats in its messages."""
    from huggingface_hub import constants

    return "@" in str(constants.ENDPOINT)


def hub_timeout_s() -> float:
    """How long the user wants the hub to be waited for, as ``HF_HUB_ETAG_TIMEOUT`` says; 0 where it does not."""
    try:
        return float(os.environ.get("HF_HUB_ETAG_TIMEOUT", "0"))
    except ValueError:
        return 0.0


def hub_head(path: str, seconds: float) -> Any:
    """The answer to a ``HEAD`` request by huggingface_hub's own client: with its proxies and certificates, no token.

    Args:
        path: at the hub, which ``HF_ENDPOINT`` may name.
        seconds: for each step of it.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # 1.x and 2.x do not list it

    return get_session().request("HEAD", f"{str(constants.ENDPOINT).rstrip('/')}{path}", timeout=seconds)


def hub_cache() -> str:
    """The cache that transformers reads, where a call does not name one."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def hub_is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` switches off every request of huggingface_hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def blocked(text: str) -> Exception:
    """The exception that huggingface_hub never tries again and transformers takes for its own offline mode."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return OfflineModeIsEnabled(text)


def is_blocked(error: BaseException) -> bool:
    """Whether huggingface_hub, or ``blocked``, did not let a request go."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


def offline_switches() -> list[tuple[Any, str]]:
    """Modules of transformers that ask ``is_offline_mode`` before they start requests of their own."""
    from transformers import modeling_utils

    return [(modeling_utils, "is_offline_mode")] if hasattr(modeling_utils, "is_offline_mode") else []


def hub_loaders() -> list[tuple[Any, str]]:
    """What loads files of a repository, beside the Auto classes."""
    import transformers
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    owners = [transformers.PreTrainedModel, config_base(), transformers.GenerationConfig, PreTrainedTokenizerBase]
    owners += [FeatureExtractionMixin, ImageProcessingMixin, transformers.ProcessorMixin]
    video = getattr(transformers, "BaseVideoProcessor", None)
    if isinstance(video, type) and "from_pretrained" in vars(video):
        owners.append(video)
    return [*((owner, "from_pretrained") for owner in owners), *pipelines()]


def xet_switch() -> tuple[Any, str]:
    """The function by which huggingface_hub decides for each file whether hf_xet downloads it."""
    from huggingface_hub import file_download

    return file_download, "is_xet_available"


def tokenizer_assembler() -> tuple[type, str]:
    """The method of every tokenizer that is given the files which were found."""
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    return PreTrainedTokenizerBase, "_from_pretrained"


def weights_finder() -> list[tuple[Any, str]]:
    """The function of ``PreTrainedModel.from_pretrained`` after which the weights are on the disk (4.57 and 5.x)."""
    from transformers import modeling_utils

    name = "_get_resolved_checkpoint_files"
    return [(modeling_utils, name)] if hasattr(modeling_utils, name) else []


def hub_home() -> str:
    """The folder that holds the hub's cache, and what others keep beside it: ``HF_HOME``."""
    from huggingface_hub import constants

    return str(constants.HF_HOME)
