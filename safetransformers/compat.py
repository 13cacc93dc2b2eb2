"""The only file that knows versions: what this release was proven with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any, Final, TypeVar, cast

from packaging.specifiers import SpecifierSet

from .errors import UnsupportedVersionWarning, message
from .notices import warn_once

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


@lru_cache(maxsize=1)  # each load through us asks, and dir(transformers) alone takes a quarter of a second
def auto_classes() -> dict[str, type]:
    """The Auto classes of the installed transformers, by name; the dummies of missing backends are left out."""
    import transformers

    found = {name: getattr(transformers, name) for name in dir(transformers) if is_auto_name(name)}
    return {name: cls for name, cls in found.items() if is_auto_class(cls)}


def assemblers() -> list[tuple[type, str]]:
    """The classes and class methods that put a model together from others that they load.

    The same in 4.57 and 5.23. The RAG models and the two Musicgen inherit or repeat them.
    """
    import transformers

    names = {
        "EncoderDecoderModel": "from_encoder_decoder_pretrained",
        "SpeechEncoderDecoderModel": "from_encoder_decoder_pretrained",
        "VisionEncoderDecoderModel": "from_encoder_decoder_pretrained",
        "VisionTextDualEncoderModel": "from_vision_text_pretrained",
        "RagPreTrainedModel": "from_pretrained_question_encoder_generator",
        "MusicgenForConditionalGeneration": "from_sub_models_pretrained",
        "MusicgenMelodyForConditionalGeneration": "from_sub_models_pretrained",
    }
    found = ((getattr(transformers, name, None), method) for name, method in names.items())
    return [(cls, method) for cls, method in found if isinstance(cls, type) and hasattr(cls, method)]


def pipeline_loader() -> tuple[Any, str]:
    """The module and the name of the function by which ``pipeline()`` loads a model."""
    from transformers import pipelines

    return pipelines, "load_model" if hasattr(pipelines, "load_model") else "infer_framework_load_model"


def is_auto_name(name: str) -> bool:
    """Whether a name can be an Auto class; ``AutoformerModel`` and the like are not."""
    return name.startswith("Auto") and name[4:5].isupper()


def is_auto_class(cls: object) -> bool:
    """Whether this is one of transformers' Auto classes, such as ``AutoModel`` or ``AutoTokenizer``.

    They live in ``transformers.models.auto`` and load something; ``AutoRoundConfig`` and pipelines do not. The dummy of
    a missing backend raises at every look, hence the static one.
    """
    return (
        isinstance(cls, type)
        and cls.__module__.startswith("transformers.models.auto.")
        and any(inspect.getattr_static(cls, loader, None) is not None for loader in ("from_pretrained", "from_config"))
    )
