"""What a conversion did, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Final

LARGEST_DIFFERENCE: Final = 1e-4
"""Of the scale: what the order of additions explains between two libraries in float32."""


@dataclass(frozen=True)
class ConversionReport:
    """The result of ``convert``.

    Attributes:
        source: last part of the path that was converted.
        destination: the folder that was written.
        format: of the save, such as ``"h5"`` or ``"SavedModel"``.
        model_class: the torch class that the weights are for.
        auto_classes: the Auto classes that load it.
        config_from: where the configuration comes from.
        head: the layers on top of a wrapped model that the torch class has too, and under which names.
        assumed: sizes and settings that nothing in the save says, with the values taken.
        tensors: how many were written.
        parameters: how many numbers they have.
        size_bytes: of the written weights.
        dtype: of the written weights.
        files: that were written, by name.
        sidecars: of those, the ones that were carried over byte for byte.
        unused: weights of the save that the model has no place for.
        added: entries that TensorFlow does not keep and torch wants, such as a counter that starts at zero.
        computed: entries that TensorFlow computes when it runs and torch keeps: computed here, as torch's class does.
        untied: entries that torch ties to another one, and whose value in the save is another.
        not_a_number: weights that hold NaN or infinity.
        passed_over: other saves in the source that were not read.
        verified: tensors that were read again from both sides and compared bit for bit.
        forward: what one run of the model on a fixed input gave, or why there was none; empty where none was asked for.
        is_finite: no output of that run is NaN or infinite.
        max_difference: of torch's and TensorFlow's outputs where both were run, divided by the largest of TensorFlow's.
        has_no_match: TensorFlow ran, and none of its outputs could be compared.
        sha256: of each file that was read.
        seconds: that it took.
        was_done_before: the destination already held this conversion, and nothing was written.
    """

    source: str
    destination: str
    format: str
    model_class: str
    auto_classes: tuple[str, ...]
    config_from: str
    tensors: int
    parameters: int
    size_bytes: int
    dtype: str
    files: tuple[str, ...]
    sidecars: tuple[str, ...] = ()
    head: str = ""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    untied: tuple[str, ...] = ()
    not_a_number: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    verified: int = 0
    forward: str = ""
    is_finite: bool = True
    max_difference: float | None = None
    has_no_match: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    was_done_before: bool = False

    def warnings(self) -> tuple[str, ...]:
        """What a reader should know before relying on the result; empty for a plain conversion."""
        found = []
        if self.assumed:
            values = ", ".join(f"{name}={value}" for name, value in self.assumed.items())
            found.append(f"the save does not say, so this was assumed: {values}")
        if self.unused:
            found.append(f"not used, as the model has no place for them, and kept beside it: {_some(self.unused)}")
        if self.untied:
            found.append(
                "torch ties these to another weight, and the save has other values; transformers 5 loads both, 4.57 "
                f"ties them again when it loads, and loses them: {_some(self.untied)}"
            )
        if self.not_a_number:
            found.append(f"nan (not a number) or infinity among the values of: {_some(self.not_a_number)}")
        if not self.is_finite:
            found.append("the outputs of a run in torch hold nan (not a number) or infinity")
        is_narrow = self.dtype in {"float16", "bfloat16"}  # rounding alone explains a difference there
        if self.has_no_match:
            found.append(
                "TensorFlow ran, and none of its outputs has the name and shape of one of torch's: nothing was compared"
            )
        excused = is_narrow and self.max_difference != inf
        if self.max_difference is not None and not (excused or self.max_difference <= LARGEST_DIFFERENCE):
            found.append(f"the outputs of torch and TensorFlow differ by {self.max_difference:.1e} of their scale")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {**asdict(self), "warnings": list(self.warnings())}

    def __str__(self) -> str:
        lines = [
            self._title(),
            f"configuration: {self.config_from}; verified bit for bit: {self.verified} of {self.tensors} tensors",
            *([self.forward] if self.forward else []),
            *([f"head: {self.head}"] if self.head else []),
            *([f"computed, as no save has them: {_some(self.computed)}"] if self.computed else []),
            *(f"note: {text}" for text in self.warnings()),
            f"load it: {self._line()}",
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from ..html import facts

        pairs = (
            ("configuration", self.config_from),
            ("verified bit for bit", f"{self.verified} of {self.tensors} tensors"),
            ("run once", self.forward),
            ("head", self.head),
            ("computed, as no save has them", _some(self.computed)),
            ("load it", self._line()),
        )
        return facts(self._title(), pairs, [f"note: {text}" for text in self.warnings()])

    def _title(self) -> str:
        done = "was converted before" if self.was_done_before else f"converted in {self.seconds:.1f} s"
        size = f"{self.tensors} tensors, {self.size_bytes / 1e6:,.1f} MB, {self.dtype}"
        return f"{self.source} ({self.format}) {done}: {self.model_class}, {size}"

    def _line(self) -> str:
        auto = self.auto_classes[0] if self.auto_classes else self.model_class
        return f"{auto}.from_pretrained({self.destination!r})"


def _some(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + rest
