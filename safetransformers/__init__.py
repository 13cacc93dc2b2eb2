"""Drop-in Auto classes for transformers whose silent failures are not silent. See the README.

Nothing is imported until a name is asked for; a name that is not ours is transformers' own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ._version import __version__

# Public name: the module that defines it.
_HOME = {
    "ConversionReport": "tf.report",
    "Explanation": "explanation",
    "Policy": "policies",
    "PaddingAudit": "padding.audit",
    "Suggestion": "names.suggestions",
    "Suggestions": "names.suggestions",
    "audit_padding": "padding.audit",
    "configure": "policies",
    "convert": "tf.convert",
    "exact_forward": "padding.forward",
    "explain": "explanations.find",
    "fit_batch_size": "memory.finder",
    "get_policy": "policies",
    "guard": "guards",
    "infer_attention_mask": "padding.mask",
    "is_guarded": "guards",
    "keep_effective_batch": "memory.accumulation",
    "patch": "patching",
    "patched": "patching",
    "patches": "patching",
    "policy": "policies",
    "position_ids_from_mask": "padding.mask",
    "report": "counts",
    "strict": "policies",
    "suggest_auto_classes": "names.suggest",
    "unguard": "guards",
    "unpatch": "patching",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the table is the one list of names


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return _kept(name, getattr(import_module(f"{__name__}.{_HOME[name]}"), name))
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    from .auto import drop_in, is_drop_in

    try:
        value = drop_in(name)
    except (AttributeError, ImportError) as failure:
        from .names.missing import attribute_error, import_error

        # Of an AttributeError the import statement would show only that *we* lack the name.
        is_import = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        if isinstance(failure, ImportError):
            # The name is there, and a package that it needs is not.
            if (error := import_error(name, failure)) is failure:
                raise
            raise error from failure
        raise (import_error(name) if is_import else attribute_error(name)) from None
    return _kept(name, value) if is_drop_in(name) else value


def _kept(name: str, value: Any) -> Any:
    """The one object of this name: of two threads that ask at the same time both get the first one's."""
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted(__all__)
