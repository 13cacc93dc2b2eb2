"""Environment variables that bite. Their values are shown only where they hold no secret."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .. import compat
from ..counts import REPORT_VARIABLE
from ..errors import PolicyError
from ..hub.urls import host
from ..policies import CHOICES, ENVIRONMENT_PREFIX, checked
from .finding import Finding

TOPIC: Final = "environment"
_TRUE: Final = ("1", "on", "yes", "true")  # as huggingface_hub reads them
_FALSE: Final = ("", "0", "off", "no", "false")
_OFFLINE: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_OLD_CACHES: Final = ("TRANSFORMERS_CACHE", "PYTORCH_TRANSFORMERS_CACHE", "PYTORCH_PRETRAINED_BERT_CACHE")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CERTIFICATES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_OURS_BESIDE: Final = ("STRICT", REPORT_VARIABLE.removeprefix(ENVIRONMENT_PREFIX))
# Variable: the values that bite, why, and what to do.
_SIMPLE: Final[dict[str, tuple[Callable[[str], bool], str, str]]] = {
    "CUDA_LAUNCH_BLOCKING": (
        lambda value: value not in ("", "0"),
        "every kernel is waited for: good for finding an error, slow for anything else",
        "unset CUDA_LAUNCH_BLOCKING",
    ),
    "PYTORCH_NO_CUDA_MEMORY_CACHING": (
        bool,
        "each tensor is allocated by the driver: slow, and reports of memory say little",
        "unset PYTORCH_NO_CUDA_MEMORY_CACHING",
    ),
    "PYTORCH_CUDA_ALLOC_CONF": (
        bool,
        "it changes how torch allocates GPU memory; where memory runs out, try without it first",
        "unset PYTORCH_CUDA_ALLOC_CONF",
    ),
    "CUDA_VISIBLE_DEVICES": (
        lambda value: not value.strip("-1 "),
        "it hides every GPU",
        "unset CUDA_VISIBLE_DEVICES",
    ),
    "USE_TORCH": (
        lambda value: value.lower() in ("0", "off", "no", "false"),
        "transformers acts as if torch were not installed",
        "unset USE_TORCH",
    ),
    "USE_TF": (
        lambda value: value.lower() in _TRUE,
        "transformers 4 leaves torch alone where it is set; 5 has no TensorFlow",
        "unset USE_TF",
    ),
    "TRANSFORMERS_VERBOSITY": (
        lambda value: value.lower() in ("error", "critical"),
        "the warnings of transformers are hidden, those about random weights among them",
        "unset TRANSFORMERS_VERBOSITY",
    ),
    "PYTHONWARNINGS": (
        lambda value: value.startswith("ignore"),
        "every warning is hidden, those of safetransformers among them",
        "unset PYTHONWARNINGS",
    ),
}


@dataclass(frozen=True)
class Facts:
    """The environment, and what can be seen of the places that it names.

    Attributes:
        variables: all of it.
        transformers: the installed version.
        certificate_variables: those by which the HTTP library of huggingface_hub is told whom to trust.
        unwritable: folders of the hub that cannot be written, by the variable that names them.
        missing: variables that name a file or folder which is not there.
    """

    variables: Mapping[str, str] = field(repr=False)
    transformers: str = "5"
    certificate_variables: tuple[str, ...] = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    unwritable: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def look() -> Facts:
    """Read the environment, and look whether the folders that it names can be written."""
    from importlib.metadata import version

    variables = dict(os.environ)
    homes = [name for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") if variables.get(name)]
    files = [name for name in _CERTIFICATES if variables.get(name)]
    return Facts(
        variables,
        version("transformers"),
        compat.wire().certificate_variables,
        tuple(name for name in homes if not can_write(_path(variables[name]))),
        tuple(name for name in files if not _path(variables[name]).exists()),
    )


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the nearest one above it that is there."""
    there = next((one for one in (folder, *folder.absolute().parents) if one.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def findings(facts: Facts) -> Iterator[Finding]:
    """What there is to say about it; one line where there is nothing."""
    found = [
        *_of_offline(facts.variables),
        *_of_folders(facts),
        *_of_endpoint(facts.variables),
        *_of_proxies(facts.variables),
        *_of_certificates(facts),
        *_of_ours(facts.variables),
        *_of_simple(facts.variables),
    ]
    yield from found or [Finding(TOPIC, "ok", "no variable is set that changes what loads and calls do")]


def _of_offline(variables: Mapping[str, str]) -> Iterator[Finding]:
    for name in _OFFLINE:
        value = variables.get(name, "").lower()
        if value in _TRUE:
            why = "no request reaches the hub: what is not cached cannot be loaded, what is may be old"
            yield Finding(TOPIC, "note", f"{name}={variables[name]}", why, f"unset {name}")
        elif value not in _FALSE:
            why = f"that is none of {', '.join(_TRUE)}, so it counts as off"
            yield Finding(TOPIC, "problem", f"{name}={variables[name]}", why, f"{name}=1, or unset it")


def _of_folders(facts: Facts) -> Iterator[Finding]:
    for name in facts.unwritable:
        why = "nothing can be downloaded there, and a lock or a ref cannot be kept"
        yield Finding(
            TOPIC, "problem", f"{name} cannot be written", why, f"{name}=FOLDER that you may write, or chmod u+w it"
        )
    is_gone = int(facts.transformers.split(".")[0]) >= 5
    for name in _OLD_CACHES:
        if facts.variables.get(name):
            why = "transformers 5 does not read it" if is_gone else "transformers 5 will not read it any more"
            why += ": models are looked for in HF_HUB_CACHE, or in hub below HF_HOME"
            do = f"HF_HUB_CACHE in place of {name}"
            yield Finding(TOPIC, "problem" if is_gone else "note", f"{name} is set", why, do)


def _of_endpoint(variables: Mapping[str, str]) -> Iterator[Finding]:
    value = variables.get("HF_ENDPOINT", "")
    if not value:
        return
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or value != value.strip():
        why = "it is no address such as https://mirror.example"
        yield Finding(TOPIC, "problem", "HF_ENDPOINT cannot be used", why, "HF_ENDPOINT=https://HOST, or unset it")
    else:
        why = "every request for a model goes there, with your token where you have one"
        yield Finding(TOPIC, "note", f"HF_ENDPOINT is {host(value)}", why, "unset HF_ENDPOINT for huggingface.co")


def _of_proxies(variables: Mapping[str, str]) -> Iterator[Finding]:
    for name in _PROXIES:
        upper, lower = variables.get(name, ""), variables.get(name.lower(), "")
        value = lower or upper
        if upper and lower and upper != lower:
            why = "programs differ in which of them they read"
            yield Finding(
                TOPIC, "problem", f"{name} and {name.lower()} differ", why, f"set both alike, or unset {name}"
            )
        elif value:
            shown = host(value if "//" in value else f"//{value}")
            why = "requests go through it; hosts in NO_PROXY do not"
            yield Finding(
                TOPIC, "note", f"{name} is {shown or 'set'}", why, f"unset {name} {name.lower()}, where that is wrong"
            )


def _of_certificates(facts: Facts) -> Iterator[Finding]:
    is_told = any(facts.variables.get(name) for name in facts.certificate_variables)
    for name in _CERTIFICATES:
        if not facts.variables.get(name):
            continue
        if name in facts.missing:
            why = "it names a file that is not there: every HTTPS request fails, or it is passed over"
            yield Finding(TOPIC, "problem", f"{name} is set", why, f"unset {name}, or name the file")
        elif not is_told:
            read = facts.certificate_variables[0]
            why = f"the installed huggingface_hub does not read it: it reads {read}"
            yield Finding(TOPIC, "note", f"{name} is set", why, f"{read}, with the same value")


def _of_ours(variables: Mapping[str, str]) -> Iterator[Finding]:
    for variable in sorted(variables):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        known = [*_OURS_BESIDE, *(field.upper() for field in CHOICES)]
        if name not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            do = f"{ENVIRONMENT_PREFIX}{near[0]}, if that is meant" if near else f"unset {variable}"
            why = f"there is no such field of the policy: {', '.join(known)}"
            yield Finding(TOPIC, "problem", f"{variable} is not read", why, do)
        elif wrong := _wrong_value(name.lower(), variables[variable].strip().lower()):
            what, do = wrong
            yield Finding(TOPIC, "problem", f"{variable}: {what}", "the first load or call raises it", do)
        elif variables[variable].strip():
            yield Finding(TOPIC, "ok", f"{variable} is set")


def _wrong_value(name: str, value: str) -> tuple[str, str] | None:
    """What is wrong with the value of one of our variables, and what would be right."""
    if name == "strict" and value not in (*_TRUE, *_FALSE):
        return f"{value!r} is neither true nor false", "set it to 1 or 0"
    try:
        checked({name: value} if name in CHOICES and value else {})
    except PolicyError as error:
        return error.what, error.do
    return None


def _of_simple(variables: Mapping[str, str]) -> Iterator[Finding]:
    for name, (bites, why, do) in _SIMPLE.items():
        if name in variables and bites(variables[name]):
            yield Finding(TOPIC, "note", f"{name}={variables[name]}", why, do)


def _path(value: str) -> Path:
    return Path(os.path.expandvars(value)).expanduser()
