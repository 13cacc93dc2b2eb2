"""Exceptions and warning categories of every guard.

Each exception also inherits what transformers or Python raises in the same place today, so an ``except`` clause that
was written before keeps working. Each carries its parts as attributes, pickles, and holds no other exception's
traceback. The text has four parts: what happened, why we think so, what to do, and how to switch the check off.
"""

from __future__ import annotations

from typing import Any


def message(code: str, what: str, why: str = "", do: str = "", off: str = "") -> str:
    """The text of an error or warning in the house's four parts; empty parts are left out.

    Example:
        >>> print(message("ST-MASK-001", "pads are not masked", do="pass attention_mask"))
        [ST-MASK-001] pads are not masked
        Do: pass attention_mask
    """
    parts = (("Why", why), ("Do", do), ("Off", off))
    return "\n".join([f"[{code}] {what}", *(f"{label}: {text}" for label, text in parts if text)])


class SafeTransformersError(Exception):
    """Base of every exception that safetransformers raises.

    Attributes:
        code: stable identifier such as ``"ST-MASK-001"``; each has a page in ``docs/errors``.
        what: what happened, one line.
        why: the facts behind it, with numbers.
        do: the fix, to paste.
        off: how to switch the check off.
        details: structured values (names of keys, shapes, ids) for programs.
    """

    def __init__(self, code: str, what: str, *, why: str = "", do: str = "", off: str = "", **details: Any) -> None:
        super().__init__(message(code, what, why, do, off))
        self.code, self.what, self.why, self.do, self.off = code, what, why, do, off
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.what, self.why, self.do, self.off, self.details)


def _rebuild(
    cls: type[SafeTransformersError], code: str, what: str, why: str, do: str, off: str, details: dict[str, Any]
) -> SafeTransformersError:
    return cls(code, what, why=why, do=do, off=off, **details)


class PolicyError(SafeTransformersError, ValueError, TypeError):
    """A policy field or value does not exist. ``TypeError`` too: an unknown keyword is one in Python."""


class PaddingError(SafeTransformersError, ValueError):
    """Padding reached a model without a mask, or cannot be made right, and the policy says to raise."""


class IndexOutOfRangeError(SafeTransformersError, IndexError, RuntimeError):
    """An id, a position or a label is beyond its table. ``IndexError`` as on the CPU, ``RuntimeError`` as on a GPU."""


class LoadingError(SafeTransformersError, RuntimeError):
    """Weights are missing, unexpected or of another shape. ``RuntimeError``, as ``load_state_dict`` raises."""


class UnsafeWeightsError(SafeTransformersError, OSError):
    """Only pickle weights are there. ``OSError``, as transformers raises for ``use_safetensors=True``."""


class RemoteCodeError(SafeTransformersError, ValueError):
    """Remote code is not allowed or not pinned. ``ValueError``, as transformers raises without trust_remote_code."""


class HubError(SafeTransformersError, OSError):
    """Base of the hub guard's errors. ``OSError``, as transformers raises where files cannot be had."""


class StaleCacheError(HubError):
    """Strict mode: the cache has a copy, but whether the revision still means that commit cannot be verified."""


class NotCachedError(HubError):
    """The hub cannot be reached, and the cache has no whole copy."""


class CorruptCacheError(HubError):
    """A cached file is not what the hub's hash, its own header or its format say."""


class VocabularyError(HubError):
    """A tokenizer would be made without its vocabulary: every word would be unknown to it."""


class IncompatibleTaskError(SafeTransformersError, ValueError):
    """The Auto class, or the pipeline's task, does not fit the checkpoint. ``ValueError``, as transformers raises.

    ``details["suggestions"]`` are the Auto classes that do load it, best first; ``details["accepted"]`` the names of
    all configuration classes that the one asked for takes.
    """


class IncompatiblePreprocessorError(IncompatibleTaskError, OSError, KeyError):
    """The same of a tokenizer or processor: ``OSError`` or ``KeyError``, as transformers raises there by version."""

    __str__ = Exception.__str__  # that of a KeyError is its repr


class CheckpointError(SafeTransformersError, OSError, ValueError):
    """There is no ``config.json`` that can be read. ``OSError``, as transformers raises there, and ``ValueError``."""


class UnknownArchitectureError(SafeTransformersError, ValueError):
    """The installed transformers does not know a ``model_type`` or a tokenizer class. ``ValueError``, as it raises."""


class MissingNameError(SafeTransformersError, ImportError):
    """The installed transformers does not have a name: too new, removed, or never there. ``ImportError``.

    ``name`` and ``path`` are those of the module that lacks it, as in every ``ImportError``.
    """

    def __init__(self, code: str, what: str, *, module: str = "", path: str | None = None, **parts: Any) -> None:
        super().__init__(code, what, module=module, path=path, **parts)
        self.name, self.path = module, path


class MissingModuleError(MissingNameError, ModuleNotFoundError):
    """The same of a whole module: ``ModuleNotFoundError``, as Python raises there."""


class ConversionError(SafeTransformersError, OSError, ValueError):
    """A TensorFlow save cannot be converted. ``OSError`` and ``ValueError``, as transformers 4 raises for such files.

    Nothing was written where it is raised: what was begun beside the destination is gone.
    """


class BrokenSaveError(ConversionError):
    """A file of the save is cut, damaged, or not what its name says."""


class UnsafeSaveError(ConversionError):
    """The save holds code (a Lambda layer, a pickle, ``auto_map``), or points at files outside its folder."""


class UnknownSaveError(ConversionError):
    """There is no save of a known format, or the model that it holds cannot be told."""


class MismatchedSaveError(ConversionError):
    """The weights are not those of the model that the configuration describes."""


class DestinationError(ConversionError, FileExistsError):
    """The destination exists and is not what this conversion would write."""


class MissingExtraError(SafeTransformersError, ImportError):
    """Reading this format needs a package of an extra that is not installed."""


class BatchSizeError(SafeTransformersError, ValueError):
    """A batch size does not keep the effective batch, or there is none in the range given. ``ValueError``.

    ``details["choices"]`` are the nearest sizes that do.
    """


class GuardError(SafeTransformersError, RuntimeError):
    """A guard itself failed. Raised in strict mode only; elsewhere the call goes on unguarded and it is logged."""


class SafeTransformersWarning(UserWarning):
    """Base of every warning category of safetransformers, so that one filter reaches all."""


class PaddingWarning(SafeTransformersWarning):
    """Base of the warnings about padding."""


class UnmaskedPaddingWarning(PaddingWarning):
    """``padding="warn"``: the batch has padding, no mask was passed, and nothing was changed."""


class AmbiguousPaddingWarning(PaddingWarning):
    """The pad token is also the eos or bos token: which of them is padding was inferred by rule."""


class NotInvariantWarning(PaddingWarning):
    """No mask can make this architecture right on padded rows; ``padding="exact"`` can."""


class NoCacheWarning(PaddingWarning):
    """Left-padded rows were run with their padding last, and no cache is returned for them."""


class RightPaddedPromptWarning(PaddingWarning):
    """``generate()`` of a decoder-only model was given prompts that end in padding."""


class UnmeasuredArchitectureWarning(PaddingWarning):
    """Padding was masked on an architecture that no measurement covers."""


class LoadingWarning(SafeTransformersWarning):
    """``loading="report"``: part of the model does not come from the checkpoint."""


class HubWarning(SafeTransformersWarning):
    """Base of the hub guard's warnings."""


class CachedCopyWarning(HubWarning):
    """The hub did not answer, and the cached copy was loaded."""


class IncompleteFetchWarning(HubWarning):
    """The model was loaded, but files that it may have besides could not be looked up."""


class ConversionWarning(SafeTransformersWarning):
    """A save was converted, and something about it should be known: unused weights, NaN, sizes that were assumed."""


class MemoryWarning(SafeTransformersWarning):
    """Base of the warnings about memory that ran out."""


class SplitBatchWarning(MemoryWarning):
    """``on_oom="split"``: a batch ran out of memory and was run in pieces."""


class AccumulatingWarning(MemoryWarning):
    """``on_oom="accumulate"``: a training run starts again with a smaller batch and more accumulation steps."""


class UnsupportedVersionWarning(SafeTransformersWarning):
    """An installed package is outside the range that this release was proven with."""
