"""Drop-in Auto classes for transformers whose silent failures are not silent. See the README.

Nothing is imported until a name is asked for; a name that is not ours is transformers' own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ._version import __version__

# Public name: the module that defines it.
_HOME = {
    "Policy": "policies",
    "PaddingAudit": "padding.audit",
    "audit_padding": "padding.audit",
    "configure": "policies",
    "exact_forward": "padding.forward",
    "get_policy": "policies",
    "guard": "guards",
    "infer_attention_mask": "padding.mask",
    "is_guarded": "guards",
    "patch": "patching",
    "patched": "patching",
    "patches": "patching",
    "policy": "policies",
    "position_ids_from_mask": "padding.mask",
    "report": "counts",
    "strict": "policies",
    "unguard": "guards",
    "unpatch": "patching",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the table is the one list of names


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        from .auto import drop_in, is_drop_in

        try:
            value = drop_in(name)
        except AttributeError:
            raise AttributeError(f"neither {__name__!r} nor 'transformers' has an attribute {name!r}") from None
        if not is_drop_in(name):
            return value
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
