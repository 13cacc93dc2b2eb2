"""Which head the weights of a checkpoint hold, and whether a class finds its own among them.

The names and shapes of the weights are read, never the weights. A class is made on the meta device, which holds no
numbers: milliseconds for a small model, about a second for one of a hundred layers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from .. import compat

Shapes = Mapping[str, "tuple[int, ...] | None"]

_WHOLE: Final = "model.safetensors"
_INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_BUFFERS: Final = (
    "position_ids",
    "token_type_ids",
    ".masked_bias",
    ".attn.bias",
    "num_batches_tracked",
    "_mean",
    "_var",
)
# What old releases called the weights of a layer norm; transformers renames them when it loads (modeling_utils.py).
_OLD_ENDS: Final = {".gamma": ".weight", ".beta": ".bias"}


def shapes_of(folder: Path) -> Shapes | None:
    """The names of a checkpoint's weights, with their shapes where a safetensors header tells them.

    ``None`` where only pickles are there, which are not opened, or nothing that can be read.
    """
    try:
        if (folder / _WHOLE).is_file():
            return _header(folder / _WHOLE)
        for index in _INDEXES:
            if (folder / index).is_file():
                return _indexed(folder, json.loads((folder / index).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # a broken file is the load's to tell; here it only means that nothing is known
    return None


def _header(file: Path) -> dict[str, tuple[int, ...] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _indexed(folder: Path, index: Any) -> dict[str, tuple[int, ...] | None]:
    names: dict[str, tuple[int, ...] | None] = dict.fromkeys(index["weight_map"])
    for shard in sorted(set(index["weight_map"].values())):
        if shard.endswith(".safetensors") and (folder / shard).name == shard and (folder / shard).is_file():
            names.update(_header(folder / shard))
    return names


class Heads:
    """The weights of one checkpoint, compared with the classes that could load them. Each class is made once."""

    def __init__(self, config: Any, folder: Path | None, architectures: Sequence[str] = ()) -> None:
        self.config, self.folder, self.architectures = config, folder, architectures
        self._made: dict[str, Shapes | Exception] = {}

    @cached_property
    def shapes(self) -> Shapes | None:
        """The checkpoint's own names, in today's spelling."""
        found = None if self.folder is None else shapes_of(self.folder)
        return None if found is None else {_today(name): shape for name, shape in found.items()}

    def held(self) -> tuple[str, ...]:
        """The modules besides the base model that the weights hold: ``("classifier",)``; empty where it is unclear."""
        stored, base = self.shapes or {}, self._base_names
        extra = [
            name
            for name in stored
            if not (name.startswith(self._prefixes) or name in base or name.partition(".")[2] in base)
            and not name.endswith(_BUFFERS)
            and (name in self._saved or not self._renamed)  # a part of the base model may be there under an old name
        ]
        return _modules(extra) if base and len(extra) * 2 < len(stored) else ()

    def missing(self, class_name: str) -> tuple[str, ...] | None:
        """The modules of a class that the weights do not hold, by name and shape; ``None`` where that is not known.

        What the class that was saved seems to lack is there under another name, which transformers changes back.
        """
        own = self._own(class_name)
        if not self.shapes or not own or self._renamed is None:
            return None
        absent = {
            self._inner(name)
            for name, shape in own.items()
            if not self._is_stored(name, shape) and self._inner(name) not in self._renamed
        }
        if not self._saved and len(absent) * 2 > len(own):
            return None
        return _modules(sorted(absent))

    def has_other_shapes(self, class_name: str) -> bool:
        """Whether a weight of a class is there in another shape, which transformers refuses to load unless told to."""
        own = self._own(class_name)
        return any(self._is_stored(name, None) and not self._is_stored(name, shape) for name, shape in own.items())

    def refuses(self, class_name: str) -> bool:
        """Whether a class cannot be made of this configuration; a package that it lacks here is another matter."""
        made = self._make(class_name)
        return isinstance(made, Exception) and not isinstance(made, ImportError)

    def _make(self, class_name: str) -> Shapes | Exception:
        if class_name not in self._made:
            try:
                self._made[class_name] = _parameters(class_name, self.config)
            except Exception as error:  # noqa: BLE001 - a class checks its configuration as it likes
                self._made[class_name] = error.with_traceback(None)
        return self._made[class_name]

    def _own(self, class_name: str) -> Shapes:
        """The parameters of a class; empty where it cannot be made here."""
        made = self._make(class_name)
        return {} if isinstance(made, Exception) else made

    @cached_property
    def _saved(self) -> Shapes:
        return next((own for name in self.architectures if (own := self._own(name))), {})

    @cached_property
    def _renamed(self) -> frozenset[str] | None:
        """What the saved class seems to lack, where stored names without a place in it can be it; ``None``: unclear."""
        lacking = frozenset(
            self._inner(name) for name, shape in self._saved.items() if not self._is_stored(name, shape)
        )
        placed = {one for name in (*self._saved, *self._base_names) for one in self._names(name)}
        homeless = [name for name in self.shapes or () if name not in placed and not name.endswith(_BUFFERS)]
        if not homeless:
            return frozenset()
        return lacking if len(homeless) >= len(lacking) else None

    @cached_property
    def _base_names(self) -> Shapes:
        names = compat.mapped_names("AutoModel", type(self.config))
        return self._own(names[0]) if names else {}

    @cached_property
    def _prefixes(self) -> tuple[str, ...]:
        """What a class with a head may call its base model."""
        names = compat.mapped_names("AutoModel", type(self.config))
        own = getattr(compat.model_class(names[0]), "base_model_prefix", "") if names else ""
        return tuple(f"{prefix}." for prefix in dict.fromkeys([own, "model"]) if prefix)

    def _is_stored(self, name: str, shape: tuple[int, ...] | None) -> bool:
        """Whether a weight of a class is there: a base model is kept under one more name in a class with a head."""
        shapes = self.shapes or {}
        return any(
            one in shapes and (None in (shape, shapes[one]) or shapes[one] == shape) for one in self._names(name)
        )

    def _names(self, name: str) -> tuple[str, ...]:
        inner = self._inner(name)
        return name, inner, *(prefix + inner for prefix in self._prefixes)

    def _inner(self, name: str) -> str:
        return next((name.removeprefix(prefix) for prefix in self._prefixes if name.startswith(prefix)), name)


def _modules(names: Iterable[str]) -> tuple[str, ...]:
    """The outermost modules that these weights belong to, two levels at most: ``cls.predictions``."""
    return tuple(dict.fromkeys(".".join(name.split(".")[:-1][:2]) or name for name in names))


def _parameters(class_name: str, config: Any) -> Shapes:
    import torch

    cls: Any = compat.model_class(class_name)
    if cls is None:
        return {}
    with torch.device("meta"):
        model = cls(copy.deepcopy(config))
    tied = compat.tied_names(model)
    named = model.named_parameters(remove_duplicate=False)
    return {name: tuple(weight.shape) for name, weight in named if name not in tied}


def _today(name: str) -> str:
    return next((name.removesuffix(old) + new for old, new in _OLD_ENDS.items() if name.endswith(old)), name)
