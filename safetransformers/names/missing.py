"""The errors of ``from safetransformers import X`` and ``safetransformers.X``, where nobody has an X."""

from __future__ import annotations

import sys
from functools import lru_cache

from .. import policies
from ..errors import MissingModuleError, MissingNameError
from . import answers, history
from .suggestions import OFF

_PACKAGE = __package__.partition(".")[0]


def import_error(name: str, failure: ImportError | None = None) -> ImportError:
    """What the import statement raises; of the type of transformers' own failure, where it has one."""
    path = getattr(sys.modules[_PACKAGE], "__file__", None)
    if policies.resolve("errors") == "off":
        return failure or ImportError(_plain(name), name=_PACKAGE, path=path)
    told = answers.for_name(name, cause=_cause(failure))
    cls = MissingModuleError if isinstance(failure, ModuleNotFoundError) else MissingNameError
    return cls(told.code, told.what, why=told.why, do=told.do, off=OFF, module=_PACKAGE, path=path, missing=name)


def _cause(failure: BaseException | None) -> str:
    """The first failure beneath, where it is a module that is not there; other texts may hold paths."""
    while failure is not None and failure.__cause__ is not None:
        failure = failure.__cause__
    missing = failure.name if isinstance(failure, ModuleNotFoundError) else None
    return f"no module named {missing!r} is installed" if missing else ""


def attribute_error(name: str) -> AttributeError:
    """What a look for the attribute raises: of the type that ``hasattr`` and ``getattr`` wait for."""
    text = _plain(name) if policies.resolve("errors") == "off" else _told(name)
    return AttributeError(text, name=name)


@lru_cache(maxsize=256)  # ``hasattr`` may ask often
def _told(name: str) -> str:
    return _plain(name) if history.of_name(name) is None else f"{_plain(name)}\n{answers.for_name(name)}"


def _plain(name: str) -> str:
    return f"neither {_PACKAGE!r} nor 'transformers' has an attribute {name!r}"
