"""What the loading guard allows: pure checks on names, flags and key lists."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from ..counts import count
from ..errors import LoadingError, LoadingWarning, RemoteCodeError, UnsafeWeightsError, message
from ..notices import relative, warn_once

_COMMIT_HASH: Final = re.compile(r"[0-9a-f]{40}")
_SHOWN: Final = 5
_ADAPTER: Final = "adapter_model"
_OFF_LOADING: Final = 'with safetransformers.policy(loading="off"): ...'
_OFF_CODE: Final = 'with safetransformers.policy(remote_code="any"): ...'


def is_commit_hash(revision: Any) -> bool:
    """Whether a revision is a full git commit hash, the only kind that cannot move."""
    return isinstance(revision, str) and _COMMIT_HASH.fullmatch(revision) is not None


def check_remote_code(source: Any, allowed: str, kwargs: Mapping[str, Any], revision: Any) -> None:
    """Refuse ``trust_remote_code=True`` where the policy does.

    Args:
        source: what is loaded, for the message.
        allowed: the policy's ``remote_code``.
        kwargs: of the load.
        revision: the one that the code would come from.

    Raises:
        RemoteCodeError: with ``never``; with ``pinned`` and a revision that is not a commit hash.
    """
    if not kwargs.get("trust_remote_code") or allowed == "any":
        return
    refuse_remote_code(source, allowed, revision)


def refuse_remote_code(source: Any, allowed: str, revision: Any) -> None:
    """Refuse code that is about to run, unless it is pinned and pinned code is allowed.

    Raises:
        RemoteCodeError: as ``check_remote_code``.
    """
    if allowed == "any" or (allowed == "pinned" and is_commit_hash(revision)):
        return
    count("loading.remote_code_refused")
    name = _name(source)
    if allowed == "never":
        raise RemoteCodeError(
            "ST-LOAD-004",
            f"{name} wants to run code of its own, and the policy is remote_code='never'",
            do="use a checkpoint whose architecture is in transformers",
            off=_OFF_CODE,
        )
    raise RemoteCodeError(
        "ST-LOAD-003",
        f"{name} would run code of its own from a revision that can move ({revision!r})",
        why="the policy is remote_code='pinned': only a 40-hex commit hash names one version of the code",
        do=f'from_pretrained("{name}", trust_remote_code=True, revision="<commit hash that you have read>")',
        off=f"{_OFF_CODE}  # also for a folder of your own, which has no commit",
        revision=revision,
    )


def check_weights(model: str, source: Any, mode: str, info: Mapping[str, Any]) -> None:
    """Say, or raise, that part of a loaded model does not come from its checkpoint.

    Args:
        model: name of the loaded class.
        source: what was loaded.
        mode: the policy's ``loading``: ``report`` warns of random weights, ``raise`` raises on any difference.
        info: what ``output_loading_info=True`` returns.

    Raises:
        LoadingError: with ``raise``, where keys are missing, unexpected, mismatched or in error.
    """
    missing, unexpected = sorted(info.get("missing_keys", ())), sorted(info.get("unexpected_keys", ()))
    mismatched = sorted(key if isinstance(key, str) else key[0] for key in info.get("mismatched_keys", ()))
    errors = [str(text) for text in info.get("error_msgs", ())]
    fresh = sorted({*missing, *mismatched})
    if not fresh and not errors and (mode == "report" or not unexpected):
        return
    found = {
        "newly initialised, with random values": fresh,
        "of another shape in the checkpoint": mismatched,
        "in the checkpoint but not in the model": unexpected if mode == "raise" else [],
        "in error": [text.partition("\n")[0] for text in errors],
    }
    why = "; ".join(f"{len(keys)} {what}: {_listed(keys)}" for what, keys in found.items() if keys)
    what = f"{model} is not what {_name(source)} holds"
    do = "load the class that the checkpoint was saved from (config.architectures), or train the new weights"
    if mode == "raise":
        count("loading.raised")
        raise LoadingError(
            "ST-LOAD-001",
            what,
            why=why,
            do=do,
            off=_OFF_LOADING,
            missing_keys=missing,
            unexpected_keys=unexpected,
            mismatched_keys=mismatched,
            error_msgs=errors,
        )
    count("loading.warned")
    warn_once(LoadingWarning, f"{model} {fresh}", message("ST-LOAD-001", what, why, do, _OFF_LOADING))


def unsafe_weights(cls: type, source: Any, subfolder: str = "") -> UnsafeWeightsError:
    """The error for a checkpoint that has pickle weights only."""
    name = _name(source)
    where = "in the folder's parent" if os.path.isdir(str(source)) else "in a sandbox"
    home = "transformers" if cls.__module__.startswith("transformers.") else cls.__module__
    inside = f", subfolder='{subfolder}'" if subfolder else ""
    return _pickle_refused(
        f"{name} has no safetensors weights",
        f'once, {where}: python -c "from {home} import {cls.__name__} as Model; '
        f"Model.from_pretrained('{name}'{inside}).save_pretrained('{relative(str(source))}-safetensors')\"",
    )


def unsafe_adapter(folder: Any) -> UnsafeWeightsError:
    """The error for an adapter that has pickle weights only."""
    name = _name(folder)
    return _pickle_refused(
        f"{name} has no safetensors weights for its adapter",
        "once, in the folder's parent: python -c \"import torch; from safetensors.torch import save_file; "
        f"save_file(torch.load('{name}/{_ADAPTER}.bin', weights_only=True), '{name}/{_ADAPTER}.safetensors')\"",
    )


def _pickle_refused(what: str, do: str) -> UnsafeWeightsError:
    count("loading.pickle_refused")
    return UnsafeWeightsError(
        "ST-LOAD-002",
        what,
        why="the policy is weights='safetensors', and reading pickle weights can run code",
        do=do,
        off='with safetransformers.policy(weights="any"): ...',
    )


def has_only_pickle(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds pickle weights and no safetensors ones."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return not any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names) and any(
        name.endswith((".bin", ".pt", ".pth", ".ckpt", ".bin.index.json")) for name in names
    )


def has_pickle_adapter(folder: str | os.PathLike[str] | None) -> bool:
    """Whether a folder holds a peft adapter with pickle weights and no safetensors ones."""
    if folder is None or not os.path.isdir(folder):
        return False
    names = os.listdir(folder)
    return f"{_ADAPTER}.bin" in names and f"{_ADAPTER}.safetensors" not in names


def _listed(keys: list[str]) -> str:
    rest = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + rest


def _name(source: Any) -> str:
    """What is loaded, as the user calls it: a path by its last part, a repo by its id."""
    if source is None:
        return "the state dict"
    text = str(source)
    is_path = os.path.exists(text) or os.path.isabs(text) or text.count(os.sep) > 1
    return relative(text) if is_path else text
