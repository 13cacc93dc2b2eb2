"""The errors of ``from safetransformers import X`` and ``safetransformers.X``, where nobody has an X."""

from __future__ import annotations

from .. import policies
from ..errors import MissingNameError
from . import answers, history
from .suggestions import OFF

_PACKAGE = __package__.partition(".")[0]


def import_error(name: str) -> ImportError:
    """What the import statement raises."""
    if policies.resolve("errors") == "off":
        return ImportError(_plain(name), name=_PACKAGE)
    told = answers.for_name(name)
    return MissingNameError(told.code, told.what, why=told.why, do=told.do, off=OFF, module=_PACKAGE, missing=name)


def attribute_error(name: str) -> AttributeError:
    """What a look for the attribute raises: of the type that ``hasattr`` and ``getattr`` wait for."""
    is_told = policies.resolve("errors") != "off" and history.of_name(name) is not None  # others are looked for often
    return AttributeError(f"{_plain(name)}\n{answers.for_name(name)}" if is_told else _plain(name), name=name)


def _plain(name: str) -> str:
    return f"neither {_PACKAGE!r} nor 'transformers' has an attribute {name!r}"
