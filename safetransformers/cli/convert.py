"""``safetransformers convert``: a TensorFlow, Keras or Flax save becomes a folder that every Auto class loads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SafeTransformersError
from .common import parts, tell

if TYPE_CHECKING:
    from ..tf.write.files import Progress


def convert(
    src: Annotated[
        list[Path], typer.Argument(metavar="SRC...", help="Folder, file, or a checkpoint's path without .index.")
    ],
    dst: Annotated[
        Path,
        typer.Argument(metavar="DST", help="Folder to write; of several SRC each gets a folder of its name in it."),
    ],
    config: Annotated[Path | None, typer.Option(help="A config.json, where the save has none or a wrong one.")] = None,
    model_type: Annotated[str | None, typer.Option(help="Such as bert, where the save does not say.")] = None,
    architecture: Annotated[str | None, typer.Option(help="The torch class, such as BertForMaskedLM.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16, bfloat16 or float64; else as saved.")] = None,
    max_shard_size: Annotated[str, typer.Option(help="Such as 2GB; memory holds one shard at a time.")] = "5GB",
    verify: Annotated[bool, typer.Option(help="Read both sides again and compare every bit.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, where there are several SRC.")] = 1,
    forward: Annotated[
        bool | None, typer.Option("--forward/--no-forward", help="Run the result once; else only where it is small.")
    ] = None,
    tensorflow: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="An interpreter with TensorFlow, to compare the outputs with.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the weights of an existing DST.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Convert a TensorFlow, Keras or Flax save into config.json and safetensors, without TensorFlow.

    Exit code: 0 converted, or was before; 1 one cannot be; 2 the command is wrong.

    Example: safetransformers convert my-tf-model my-model

    Example: safetransformers convert --jobs 4 saves/* converted
    """
    from ..tf.arguments import OF_ARGUMENTS
    from ..tf.convert import convert as run

    if len(src) > 1:
        named = {"config": config, "model_type": model_type, "architecture": architecture, "dtype": dtype}
        run_once = {"forward": forward, "tensorflow": tensorflow}
        options = {**named, **run_once, "max_shard_size": max_shard_size, "check": verify, "overwrite": overwrite}
        raise SystemExit(_several(src, dst, jobs, options, as_json=as_json))
    try:
        with _progress(quiet=as_json) as progress:
            report = run(
                src[0],
                dst,
                config=config,
                model_type=model_type,
                architecture=architecture,
                dtype=dtype,
                max_shard_size=max_shard_size,
                check=verify,
                forward=forward,
                tensorflow=tensorflow,
                overwrite=overwrite,
                progress=progress,
            )
    except SafeTransformersError as error:
        tell(error, {"converted": False}, as_json=as_json)
        raise SystemExit(2 if error.code in OF_ARGUMENTS else 1) from None
    if as_json:
        print(json.dumps({"converted": True, **report.to_dict()}, indent=2))
    else:
        print(report)


def _several(src: list[Path], dst: Path, jobs: int, options: dict[str, Any], *, as_json: bool) -> int:
    """Tell how each of several conversions ended, when it has; the exit code is that of the worst."""
    from ..tf.arguments import OF_ARGUMENTS
    from ..tf.many import convert_many

    codes, told = [0], []
    try:
        for done in convert_many(src, dst, jobs=jobs, **options):
            entry: dict[str, Any] = {"source": str(done.source), "converted": done.error is None}
            if done.error is not None:
                codes.append(2 if done.error.code in OF_ARGUMENTS else 1)
                print(f"{done.source}: {done.error}", file=sys.stderr)
                entry["error"] = parts(done.error)
            elif done.report is not None:
                entry |= done.report.to_dict()
                if not as_json:
                    state = "converted before" if done.report.was_done_before else "converted"
                    print(f"{state}: {done.source} -> {done.report.destination} ({done.report.model_class})")
            told.append(entry)
    except SafeTransformersError as error:
        print(error, file=sys.stderr)
        codes.append(2)
    if as_json:
        print(json.dumps(told, indent=2))
    return max(codes)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress | None]:
    """A bar with bytes, on a terminal; the report's own notes are printed, and not warned of a second time."""
    import warnings

    from ..errors import ConversionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        if quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("convert", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
