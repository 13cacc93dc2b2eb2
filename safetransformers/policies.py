"""What the guards may do: one frozen dataclass, and the layers that it is read from.

Innermost wins: ``with policy(...)`` (contextvars) over a model's own fields (``guard(model, ...)``) over
``configure(...)`` over the environment (``SAFETRANSFORMERS_<FIELD>``, read when asked) over the defaults. A layer that
says ``strict=True`` sets every field that it does not name, and so hides all layers outside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, Final

from .errors import PolicyError

# field: (values, default first; the value under strict). The policy table of the documentation is this table.
CHOICES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "padding": (("infer", "exact", "warn", "raise", "off"), "raise"),
    "offline": (("fallback", "prefer", "raise", "off"), "raise"),
    "tf_weights": (("convert", "raise", "off"), "raise"),
    "loading": (("report", "raise", "off"), "raise"),
    "weights": (("any", "safetensors"), "safetensors"),
    "remote_code": (("any", "pinned", "never"), "pinned"),
    "verify": (("size", "hash"), "hash"),
    "errors": (("explain", "off"), "explain"),
    "on_oom": (("explain", "split", "accumulate", "off"), "explain"),
    "device_checks": (("off", "record", "eager"), "record"),
}
ENVIRONMENT_PREFIX: Final = "SAFETRANSFORMERS_"

Layer = Mapping[str, Any]


@dataclass(frozen=True)
class Policy:
    """What each guard may do; see ``docs/policy.md`` for the table.

    ``Policy(strict=True)`` is the strict column; a field named beside it keeps its own value.

    Raises:
        PolicyError: for a value that the field does not have.

    Example:
        >>> Policy().padding, Policy(strict=True).padding, Policy(strict=True, padding="exact").padding
        ('infer', 'raise', 'exact')
    """

    strict: bool = False
    padding: str = ""
    offline: str = ""
    tf_weights: str = ""
    loading: str = ""
    weights: str = ""
    remote_code: str = ""
    verify: str = ""
    errors: str = ""
    on_oom: str = ""
    device_checks: str = ""

    def __post_init__(self) -> None:
        named = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != ""}
        for name, value in checked(named).items():
            object.__setattr__(self, name, value)
        for name, (values, strict_value) in CHOICES.items():
            if name not in named:
                object.__setattr__(self, name, strict_value if self.strict else values[0])


def checked(named: Mapping[str, Any]) -> dict[str, Any]:
    """``named`` as a layer, with ``None`` left out.

    Raises:
        PolicyError: for an unknown field, or a value that the field does not have.
    """
    layer: dict[str, Any] = {}
    for name, value in named.items():
        if value is None:
            continue
        if name == "strict":
            if not isinstance(value, bool):
                raise PolicyError("ST-POLICY-002", f"strict={value!r} is not a bool", do="strict=True or strict=False")
        elif name not in CHOICES:
            known = ", ".join(["strict", *CHOICES])
            raise PolicyError("ST-POLICY-001", f"there is no policy field {name!r}", do=f"use one of {known}")
        elif value not in CHOICES[name][0]:
            choices = ", ".join(map(repr, CHOICES[name][0]))
            raise PolicyError("ST-POLICY-002", f"{name}={value!r} is not a value of it", do=f"use one of {choices}")
        layer[name] = value
    return layer


# Called with each layer that is set: a guard that costs nothing where it is not asked for learns of it here.
followers: list[Callable[[Layer], None]] = []

_process: Layer = {}
_scoped: ContextVar[Layer] = ContextVar("safetransformers_policy")
_NOTHING: Final[Layer] = {}

is_asked = False
"""Whether any layer but a model's own has ever asked for what even a call with a mask must be looked at for.

That is ``padding="exact"`` or checks of a device. A guarded call reads this one name and then, where nobody asked, is
left alone. It never turns back: a ``with policy(...)`` block may live on in the context of a task that it started.
"""


def configure(**named: Any) -> Policy:
    """Set policy fields for the whole process, and return the policy that now holds.

    ``None`` puts a field back to its default. ``configure(strict=True)`` drops what earlier calls set, except what the
    same call names. Threads see the change at once; ``with policy(...)`` blocks that are open keep their own fields.

    Raises:
        PolicyError: for an unknown field or value; nothing is changed then.

    Example:
        >>> configure(padding="raise").padding
        'raise'
        >>> configure(padding=None).padding
        'infer'
    """
    global _process
    layer = checked(named)
    kept = {name: value for name, value in _process.items() if name not in named}
    _process = layer if layer.get("strict") else {**kept, **layer}
    _announce(layer)
    return get_policy()


@contextmanager
def policy(**named: Any) -> Iterator[Policy]:
    """Set policy fields inside a ``with`` block, for this thread and the tasks started in it.

    Raises:
        PolicyError: for an unknown field or value.

    Example:
        >>> with policy(padding="off") as inside:
        ...     inside.padding
        'off'
    """
    layer = checked(named)
    outer = _scoped.get(_NOTHING)
    token = _scoped.set(layer if layer.get("strict") else {**outer, **layer})
    try:
        _announce(layer)
        yield get_policy()
    finally:
        _scoped.reset(token)


def strict(**named: Any) -> Any:
    """``policy(strict=True, ...)``: nothing is guessed inside the block; a field named here keeps its own value."""
    return policy(strict=True, **named)


def resolve(name: str, model_layer: Layer = _NOTHING) -> str:
    """The value of one field now. Costs about a microsecond; ``model_layer`` holds the fields of one guarded model."""
    strict_off = False
    for layer in (_scoped.get(_NOTHING), model_layer, _process):
        if name in layer:
            return str(layer[name])
        if "strict" in layer and not strict_off:
            if layer["strict"]:
                return CHOICES[name][1]
            strict_off = True
    value = os.environ.get(ENVIRONMENT_PREFIX + name.upper(), "").strip().lower()
    if value:
        layer = checked({name: value})
        _notice(layer)
        return str(layer[name])
    if not strict_off and _environment_strict():
        _notice({"strict": True})
        return CHOICES[name][1]
    return CHOICES[name][0][0]


def asks(layer: Layer) -> bool:
    """Whether a layer asks for what even a call with a mask must be looked at for; see ``is_asked``.

    The environment is not looked at here, which would cost as much as the rest of a call's guard: each ``resolve``
    that reaches it does, and so does the guarding of a model.
    """
    if layer.get("padding") == "exact":
        return True
    return str(layer.get("device_checks", CHOICES["device_checks"][1] if layer.get("strict") else "off")) != "off"


def _notice(layer: Layer) -> None:
    global is_asked
    is_asked = is_asked or asks(layer)


def _announce(layer: Layer) -> None:
    """A layer was set, by ``configure`` or ``policy``: whoever has to know is told."""
    _notice(layer)
    for follower in followers:
        follower(layer)


def is_strict(model_layer: Layer = _NOTHING) -> bool:
    """Whether the innermost layer that speaks of strictness says so."""
    for layer in (_scoped.get(_NOTHING), model_layer, _process):
        if "strict" in layer:
            return bool(layer["strict"])
    return _environment_strict()


def get_policy() -> Policy:
    """The policy that holds here and now, with every layer but the models' own taken into account."""
    return Policy(strict=is_strict(), **{name: resolve(name) for name in CHOICES})


def _environment_strict() -> bool:
    value = os.environ.get(ENVIRONMENT_PREFIX + "STRICT", "").strip().lower()
    if value in ("", "0", "false", "no", "off"):
        return False
    if value in ("1", "true", "yes", "on"):
        return True
    raise PolicyError(
        "ST-POLICY-002", f"{ENVIRONMENT_PREFIX}STRICT={value!r} is neither true nor false", do="set it to 1 or 0"
    )
