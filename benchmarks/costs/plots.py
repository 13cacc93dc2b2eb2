"""The plots of the page, as SVG that is legible on light and on dark: no background, and colours between the two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from .rows import Row

_INK: Final = "#7d7d7d"
# Okabe and Ito's colours that stand out from white and from black (https://jfly.uni-koeln.de/color/).
_COLOURS: Final = {1: "#0072b2", 8: "#d55e00", 32: "#009e73"}
_MARKERS: Final = {1: "o", 8: "s", 32: "^"}
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "safetransformers",  # the same rows give the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(path: Path, panels: Sequence[tuple[str, Sequence[Row]]], column: str, label: str, reference: float) -> None:
    """Draw one panel for each way to call: a column of the guarded rows by sequence, a line for each batch.

    Args:
        path: of the SVG.
        panels: titles and rows.
        column: ``added`` or ``ratio``; its quartiles are the error bars.
        label: of the vertical axis, with its unit.
        reference: where plain transformers is.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.6 * len(panels) + 0.6, 2.9), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, rows) in zip(axes, panels, strict=True):
            _panel(axis, title, rows, column, reference)
        axes[0].set_ylabel(label)
        if all(getattr(row, f"{column}_q1") > 0 for _, rows in panels for row in rows) and reference == 0:
            axes[0].set_yscale("log")  # a microsecond and a millisecond are both to be seen
        figure.legend(*axes[0].get_legend_handles_labels(), title="batch", frameon=False, loc="outside right upper")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axis: Any, title: str, rows: Sequence[Row], column: str, reference: float) -> None:
    axis.set_title(title, fontsize=9.5, color=_INK)
    axis.set_xscale("log", base=2)
    axis.patch.set_alpha(0)
    if reference:
        axis.axhline(reference, color=_INK, linewidth=0.8, linestyle="--")
    axis.grid(axis="y", color=_INK, alpha=0.25, linewidth=0.6)
    for batch in sorted({row.case.batch for row in rows}):
        own = sorted((row for row in rows if row.case.batch == batch), key=lambda row: row.case.sequence)
        middle = [getattr(row, column) for row in own]
        below = [mid - getattr(row, f"{column}_q1") for mid, row in zip(middle, own, strict=True)]
        above = [getattr(row, f"{column}_q3") - mid for mid, row in zip(middle, own, strict=True)]
        axis.errorbar(
            [row.case.sequence for row in own],
            middle,
            yerr=[below, above],
            label=str(batch),
            color=_COLOURS.get(batch, _INK),
            marker=_MARKERS.get(batch, "o"),
            markersize=4,
            linewidth=1.3,
            capsize=2.5,
        )
    sequences = sorted({row.case.sequence for row in rows})
    axis.set_xticks(sequences, [str(sequence) for sequence in sequences])
    axis.minorticks_off()
    axis.set_xlabel("sequence (tokens)")
