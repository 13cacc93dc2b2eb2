# What type checkers see: every name of the installed transformers, and our own. The module itself makes the names
# lazily, which no checker can follow. tests/typing holds the two together.

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from torch import Tensor
from torch.nn import Module
from transformers import *
from typing_extensions import Unpack

from . import errors as errors
from ._version import __version__ as __version__
from .explanation import Explanation as Explanation
from .memory.accumulation import keep_effective_batch as keep_effective_batch
from .memory.finder import fit_batch_size as fit_batch_size
from .names.suggestions import Suggestion as Suggestion
from .names.suggestions import Suggestions as Suggestions
from .padding.audit import PaddingAudit as PaddingAudit
from .tf.convert import convert as convert
from .tf.report import ConversionReport as ConversionReport

_ModelT = TypeVar("_ModelT", bound=Module)
_TokenIds: TypeAlias = int | Sequence[int] | Tensor | None

_Padding: TypeAlias = Literal["infer", "exact", "warn", "raise", "off"]
_Offline: TypeAlias = Literal["fallback", "prefer", "raise", "off"]
_TfWeights: TypeAlias = Literal["convert", "raise", "off"]
_Loading: TypeAlias = Literal["report", "raise", "off"]
_Weights: TypeAlias = Literal["any", "safetensors"]
_RemoteCode: TypeAlias = Literal["any", "pinned", "never"]
_Verify: TypeAlias = Literal["size", "hash"]
_Errors: TypeAlias = Literal["explain", "off"]
_OnOom: TypeAlias = Literal["explain", "split", "accumulate", "off"]
_DeviceChecks: TypeAlias = Literal["off", "record", "eager"]

# Every field but strict, for `strict(...)`; None leaves a field as it is, or puts it back to its default.
class _Guards(TypedDict, total=False):
    padding: _Padding | None
    offline: _Offline | None
    tf_weights: _TfWeights | None
    loading: _Loading | None
    weights: _Weights | None
    remote_code: _RemoteCode | None
    verify: _Verify | None
    errors: _Errors | None
    on_oom: _OnOom | None
    device_checks: _DeviceChecks | None

class _Fields(_Guards, total=False):
    strict: bool | None

@dataclass(frozen=True)
class Policy:
    strict: bool = False
    padding: _Padding = ...
    offline: _Offline = ...
    tf_weights: _TfWeights = ...
    loading: _Loading = ...
    weights: _Weights = ...
    remote_code: _RemoteCode = ...
    verify: _Verify = ...
    errors: _Errors = ...
    on_oom: _OnOom = ...
    device_checks: _DeviceChecks = ...

def configure(**named: Unpack[_Fields]) -> Policy: ...
def policy(**named: Unpack[_Fields]) -> AbstractContextManager[Policy]: ...
def strict(**named: Unpack[_Guards]) -> AbstractContextManager[Policy]: ...
def get_policy() -> Policy: ...
def patch() -> None: ...
def unpatch(*, release_models: bool = False) -> None: ...
def patched() -> AbstractContextManager[None]: ...
def patches() -> tuple[str, ...]: ...
def guard(model: _ModelT, **named: Unpack[_Fields]) -> _ModelT: ...
def unguard(model: _ModelT) -> _ModelT: ...
def is_guarded(model: Module) -> bool: ...
def infer_attention_mask(
    input_ids: Tensor, pad_token_id: int, *, eos_token_id: _TokenIds = None, bos_token_id: _TokenIds = None
) -> Tensor: ...
def position_ids_from_mask(attention_mask: Tensor) -> Tensor: ...
def exact_forward(model: Module, *args: Any, **kwargs: Any) -> Any: ...
def audit_padding(model: Module, inputs: Tensor | Mapping[str, Tensor] | None = None) -> PaddingAudit: ...
def suggest_auto_classes(
    config_or_path: Any,
    requested: str | type | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    subfolder: str = "",
) -> Suggestions: ...
def explain(exception_or_text: BaseException | str) -> Explanation | None: ...
def report() -> Mapping[str, int]: ...
