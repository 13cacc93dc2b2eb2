"""The only file that knows versions: what this release was proven with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final, Protocol, TypeVar, cast

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


class Wire(Protocol):
    """What differs between the HTTP libraries of huggingface_hub: requests (0.x), httpx (1.x) and httpx2 (2.x)."""

    client: type
    """The class whose ``send`` every request goes through, also of a client that a user's own factory made."""

    follows_absolute: bool
    """Whether huggingface_hub follows a redirect of a file's ``HEAD`` that names the host, and not only the path."""

    errors: tuple[type[Exception], ...]
    """What ``send`` raises where a request fails on the way."""

    def url(self, request: Any) -> str:
        """Where a request goes."""

    def redirect(self, request: Any, url: str) -> None:
        """Send a request elsewhere."""

    def limit(self, request: Any, kwargs: dict[str, Any], seconds: float) -> None:
        """Shorten the time-outs of a request to at most ``seconds`` for each step."""

    def answer(self, request: Any, status: int, headers: Mapping[str, str], body: bytes = b"") -> Any:
        """An answer that did not come from the network."""

    def watch(self, response: Any, arrived: Callable[[int], None], failed: Callable[[Exception], Exception]) -> None:
        """Call ``arrived`` with the size of each piece of a body that is read later; raise what ``failed`` makes."""

    def interrupted(self, text: str) -> Exception:
        """The exception after which huggingface_hub resumes a download."""


class _Httpx:
    def __init__(self, library: Any, *, follows_absolute: bool) -> None:
        self._library, self.follows_absolute = library, follows_absolute
        self.client: type = library.Client
        self.errors: tuple[type[Exception], ...] = (library.HTTPError, library.InvalidURL, OSError)

    def url(self, request: Any) -> str:
        return str(request.url)

    def redirect(self, request: Any, url: str) -> None:
        request.url = self._library.URL(url)

    def limit(self, request: Any, kwargs: dict[str, Any], seconds: float) -> None:
        named = request.extensions.get("timeout") or {}
        limits = {step: min(named.get(step) or seconds, seconds) for step in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": limits}

    def answer(self, request: Any, status: int, headers: Mapping[str, str], body: bytes = b"") -> Any:
        return self._library.Response(status, headers=dict(headers), content=body, request=request)

    def watch(self, response: Any, arrived: Callable[[int], None], failed: Callable[[Exception], Exception]) -> None:
        stream = response.stream

        class Watched(self._library.SyncByteStream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Iterator[bytes]:
                yield from _watched(stream, arrived, failed)

            def close(self) -> None:
                stream.close()

        response.stream = Watched()

    def interrupted(self, text: str) -> Exception:
        return cast("Exception", self._library.ReadTimeout(text))


_PIECE_BYTES: Final = 2**16


class _Requests:
    follows_absolute = False

    def __init__(self, library: Any) -> None:
        self._library = library
        self.client: type = library.Session
        self.errors: tuple[type[Exception], ...] = (library.RequestException, OSError)

    def url(self, request: Any) -> str:
        return str(request.url)

    def redirect(self, request: Any, url: str) -> None:
        request.url = url

    def limit(self, request: Any, kwargs: dict[str, Any], seconds: float) -> None:
        named = kwargs.get("timeout")
        connect, read = named if isinstance(named, tuple) else (named, named)
        kwargs["timeout"] = tuple(seconds if step is None else min(step, seconds) for step in (connect, read))

    def answer(self, request: Any, status: int, headers: Mapping[str, str], body: bytes = b"") -> Any:
        response = self._library.Response()
        response.status_code, response.url, response.request = status, request.url, request
        response.headers.update(headers)
        response._content = body  # the one way to give it a body without a connection
        return response

    def watch(self, response: Any, arrived: Callable[[int], None], failed: Callable[[Exception], Exception]) -> None:
        raw = response.raw
        if not hasattr(raw, "read1"):
            return  # urllib3 before 2.1 tells of a piece when all of it is there: the time-out of each read remains

        def pieces(amt: int = 0, decode_content: bool | None = None) -> Iterator[bytes]:
            while piece := raw.read1(_PIECE_BYTES, decode_content=decode_content):
                yield piece

        raw.stream = lambda *args, **kwargs: _watched(pieces(*args, **kwargs), arrived, failed)

    def interrupted(self, text: str) -> Exception:
        return cast("Exception", self._library.exceptions.ConnectionError(text))


def _watched(
    pieces: Iterable[bytes], arrived: Callable[[int], None], failed: Callable[[Exception], Exception]
) -> Iterator[bytes]:
    try:
        for piece in pieces:
            arrived(len(piece))
            yield piece
    except Exception as error:
        raise failed(error) from error


@lru_cache(maxsize=1)
def wire() -> Wire:
    """The HTTP library of the installed huggingface_hub."""
    major = int(version("huggingface_hub").partition(".")[0])
    if major == 0:
        return _Requests(import_module("requests"))
    return _Httpx(import_module("httpx" if major == 1 else "httpx2"), follows_absolute=major > 1)


def hub_endpoint() -> str:
    """The hub that huggingface_hub asks, which is ``HF_ENDPOINT``; written as its client writes it."""
    from huggingface_hub import constants

    from .hub.urls import normal

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
    from transformers import pipelines
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    config = getattr(transformers, "PreTrainedConfig", None) or transformers.PretrainedConfig
    owners = [transformers.PreTrainedModel, config, transformers.GenerationConfig, PreTrainedTokenizerBase]
    owners += [FeatureExtractionMixin, ImageProcessingMixin, transformers.ProcessorMixin]
    video = getattr(transformers, "BaseVideoProcessor", None)
    if isinstance(video, type) and "from_pretrained" in vars(video):
        owners.append(video)
    return [*((owner, "from_pretrained") for owner in owners), (pipelines, "pipeline"), (transformers, "pipeline")]


def xet_switch() -> tuple[Any, str]:
    """The function by which huggingface_hub decides for each file whether hf_xet downloads it."""
    from huggingface_hub import file_download

    return file_download, "is_xet_available"


def tokenizer_assembler() -> tuple[type, str]:
    """The method of every tokenizer that is given the files which were found."""
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    return PreTrainedTokenizerBase, "_from_pretrained"


def checkpoint_keys(model: Any) -> dict[str, str]:
    """The key under which a checkpoint keeps each entry of a model's state dict, also one that transformers 4.57 reads.

    transformers 5 renamed modules of some models and renames the keys of their checkpoints when it loads; a save is
    written in the old names, which both read (``core_model_loading.revert_weight_conversion``, 5.23).
    """
    state = model.state_dict(keep_vars=True)
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import PrefixChange, revert_weight_conversion
    except ImportError:
        return {key: key for key in state}
    import torch

    # Without this list, what removes a prefix is left out, and 4.57 would not know the keys of CLIP's two halves.
    conversions = get_model_conversion_mapping(model, add_legacy=False)
    of_parts = [one for one in conversions if isinstance(one, PrefixChange) and getattr(one, "scope_prefix", None)]
    model._weight_conversions = [one for one in conversions if one not in of_parts] or None
    # Renaming keeps no trace of the old name. One element of its own marks each entry through it, and costs no memory.
    marked = {key: torch.full((1,), float(number)) for number, key in enumerate(state)}
    written = revert_weight_conversion(model, dict(marked))
    names = list(state)
    found = {names[int(mark[0])]: _with_torchs_leaf(key) for key, mark in written.items() if mark.numel() == 1}
    if len(found) != len(state) or len(written) != len(state):
        return {key: key for key in state}  # entries are merged or split, which no class that TensorFlow had does
    return found


def _with_torchs_leaf(key: str) -> str:
    """Some mappings go back as far as the names of TensorFlow's norms, which no checkpoint need have any more."""
    key = key.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")  # 5.23 does not read what it writes
    module, _, leaf = key.rpartition(".")
    return f"{module}.{ {'gamma': 'weight', 'beta': 'bias'}.get(leaf, leaf) }" if module.endswith("LayerNorm") else key


def tied_copies(model: Any) -> set[str]:
    """Patterns or names of the entries of a state dict that are left out of a checkpoint, being tied to others."""
    tied = getattr(model, "all_tied_weights_keys", None)
    if tied is None:
        tied = getattr(model, "_tied_weights_keys", None) or ()
    return set(tied)


@lru_cache(maxsize=1)
def model_class_names() -> dict[str, tuple[str, ...]]:
    """Every torch class that an Auto class loads: its name, and the model types that it is for. Imports none of them.

    The class without a head comes first of those of a model type.
    """
    from transformers.models.auto import modeling_auto

    found: dict[str, tuple[str, ...]] = {}
    names = sorted(name for name in dir(modeling_auto) if name.endswith("_MAPPING_NAMES"))
    for name in sorted(names, key=lambda name: name != "MODEL_MAPPING_NAMES"):
        mapping = getattr(modeling_auto, name)
        for model_type, classes in mapping.items() if isinstance(mapping, Mapping) else ():
            for cls in [classes] if isinstance(classes, str) else classes:
                found[cls] = (*found.get(cls, ()), model_type)
    return found


def config_class(model_type: str) -> Any:
    """The configuration class of a model type, or ``None`` where the installed transformers has none."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None  # noqa: SIM401 - it has no usable get


def hub_home() -> str:
    """The folder that holds the hub's cache, and what others keep beside it: ``HF_HOME``."""
    from huggingface_hub import constants

    return str(constants.HF_HOME)
