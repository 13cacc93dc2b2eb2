"""Convert every save of the sample and of `make tf-saves`, and write what came out to `docs/convert-table.md`.

Run as `python tests/convert/make_table.py` after `make tf-saves`. A cell counts the classes whose save turned into
exactly the torch weights that it was made from, of those that have one in this format.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import sample
from safetensors.torch import load_file
from test_generated import FORMATS
from test_generated import ROOT as GENERATED

from safetransformers import convert
from safetransformers.errors import SafeTransformersError
from safetransformers.tf.write.verify import same_bits

PAGE = Path(__file__).parents[2] / "docs" / "convert-table.md"


def saves(unpacked: Path) -> Iterator[tuple[str, str, str, Path, Path]]:
    """Model type, class, format, save and torch weights of every case."""
    for name, form in sample.cases():
        save = sample.unpack(sample.folder(name) / f"f.{form}.tar.xz", unpacked / name / form)
        yield sample.metas()[name]["config"]["model_type"], name, form, save, sample.folder(name) / "oracle"
    for config in sorted(GENERATED.glob("*/oracle/config.json")):
        folder = config.parents[1]
        model_type = json.loads(config.read_text())["model_type"]
        for form in FORMATS:
            if (folder / form).exists():
                yield model_type, folder.name, form, folder / form, folder / "oracle"


def is_same(save: Path, oracle: Path) -> str:
    """Empty where a save converts to its torch weights; else why not."""
    with tempfile.TemporaryDirectory() as out:
        try:
            convert(save, Path(out) / "out", check=False)
        except SafeTransformersError as error:
            return f"{error.code}: {error.why or error.what}"
        written = load_file(Path(out) / "out" / "model.safetensors")
        expected = load_file(oracle / "model.safetensors")
        common = written.keys() & expected.keys()
        return "" if common and all(same_bits(written[key], expected[key]) for key in common) else "differs"


def main() -> None:
    """Convert all, and write the page."""
    warnings.simplefilter("ignore")
    done: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    missed: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as unpacked:
        for model_type, name, form, save, oracle in saves(Path(unpacked)):
            why = is_same(save, oracle)
            done[model_type]["old_h5" if form.startswith("old_h5") else form].append(why)
            if why:
                missed[why].append(f"`{name}` (`{form}`)")
    about = f"transformers {version('transformers')}, Python {sys.version_info.major}.{sys.version_info.minor}"
    forms = sorted({form for row in done.values() for form in row})
    total = [why for row in done.values() for cell in row.values() for why in cell]
    lines = [
        "# What converts",
        "",
        f"Written by `tests/convert/make_table.py` on {about}.",
        "A cell counts the classes whose save turned into exactly the torch weights that it was made from, of those",
        "that have a save in this format.",
        "",
        f"{total.count('')} of {len(total)} saves, {len(done)} model types.",
        "",
        f"| model type | {' | '.join(f'`{form}`' for form in forms)} |",
        f"|---|{'---|' * len(forms)}",
    ]
    for model_type, row in sorted(done.items()):
        cells = [f"{row[form].count('')}/{len(row[form])}" if form in row else "" for form in forms]
        lines.append(f"| {model_type} | {' | '.join(cells)} |")
    if missed:
        lines += ["", "What does not convert, and what the error says:", ""]
        lines += [f"- {why}: {', '.join(names)}" for why, names in missed.items()]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{total.count('')} of {len(total)}; wrote {PAGE.name}")


if __name__ == "__main__":
    main()
