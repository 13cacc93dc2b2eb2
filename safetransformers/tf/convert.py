"""``convert``: a TensorFlow, Keras or Flax save becomes a folder that every Auto class loads."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import __version__, policies
from ..counts import count
from ..errors import ConversionError, ConversionWarning, DestinationError, MismatchedSaveError, message
from ..notices import relative, warn_once
from .arguments import shard_bytes, torch_dtype
from .config import configs
from .match import classes, lost, wrapped_head
from .match.fit import Fit, fit
from .match.matching import computed
from .read.opening import Opened, opened, sha256
from .read.sources import Save, find
from .report import ConversionReport
from .write import files, previous, shard_file, sidecars, verify
from .write import forward as forwards
from .write.files import Progress
from .write.shard_file import Layout
from .write.shards import Tally, is_counter, kind, plan, untied, write, write_aside
from .write.workers import Workers

if TYPE_CHECKING:
    import torch


_NO_DIGEST: Final = "0" * 64


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    config: Any = None,
    model_type: str | None = None,
    architecture: str | None = None,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    check: bool = True,
    forward: bool | None = None,
    tensorflow: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a save of TensorFlow, Keras or Flax into a folder as ``save_pretrained`` writes it.

    Reads ``tf_model.h5`` and its shards, ``*.weights.h5``, ``.keras``, SavedModels, TensorFlow 1 and 2 checkpoints and
    ``flax_model.msgpack``, without TensorFlow. Nothing of the save is executed, nothing is fetched, and the source is
    never written. The destination appears only when all of it is written and compared.

    Args:
        src: folder of the save, one of its files, or the prefix of a checkpoint.
        dst: folder to write.
        config: a configuration, its dictionary or its file, where the one of the save is missing or wrong.
        model_type: such as ``"bert"``, where the save does not say it.
        architecture: the torch class, such as ``"BertForMaskedLM"``, where the save is not to decide.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"float64"``; the save's own by default.
        max_shard_size: bytes, or a text such as ``"5GB"``; weights are held in memory one shard at a time.
        check: read both sides again and compare each tensor bit for bit.
        forward: load the result and run it once on a fixed input; ``None``, the default, where it is cheap: up to
            32 million parameters, with ``check``. The report says what came of it.
        tensorflow: a Python that has TensorFlow and transformers 4, to run the save with on the same input; this one
            where it has them. The report then has the largest difference.
        overwrite: replace the weights of a destination that exists; its other files stay.
        progress: called with the bytes done and the bytes in all.

    Returns:
        What was done; its text is for people, ``to_dict()`` for programs.

    Raises:
        UnknownSaveError: no save is there, or what model it holds cannot be told.
        BrokenSaveError: a file is cut, damaged or missing.
        UnsafeSaveError: the save holds code or points outside its folder.
        MismatchedSaveError: the weights are not those of the configuration.
        DestinationError: the destination exists.
        MissingExtraError: a package of the ``tf`` extra is not installed.
        ConversionError: of an argument that has no such value, or what was written does not compare.

    Example:
        >>> from safetransformers import convert
        >>> convert("no/such/folder", "converted")
        Traceback (most recent call last):
          ...
        safetransformers.errors.UnknownSaveError: [ST-TF-001] folder does not exist
        Do: give the folder of the save, its file, or the prefix of a checkpoint (the path without .index)
    """
    start_s = time.perf_counter()
    source, destination = Path(src), Path(dst)
    limit, torch_type = shard_bytes(max_shard_size), torch_dtype(dtype)
    _refuse_nesting(source, destination)
    save = find(source)
    with opened(save) as content, ThreadPoolExecutor(max_workers=1) as pool:
        digests = pool.submit(sha256, content.files)
        done = (
            previous.done_before(destination, digests.result(), dtype)
            if previous.is_ours(destination) and not overwrite
            else None
        )
        if done is not None:
            return replace(done, destination=str(destination), seconds=time.perf_counter() - start_s)
        files.refuse_existing(destination, overwrite=overwrite)
        fitted = _fitted(save, content, config, model_type, architecture)
        carried = sidecars.names(_home(save))
        with files.beside(destination, overwrite=overwrite) as folder:
            read = [file.name for file in content.files]
            tell = progress or _quiet
            report = _written(folder, relative(source), save, fitted, torch_type, limit, check, tell, read, digests)
            sidecars.carry(_home(save), carried, folder)
            is_cheap = check and report.parameters <= forwards.CHEAP_PARAMETERS
            if forward or (forward is None and (is_cheap or tensorflow is not None)):
                python = None if tensorflow is None else os.fspath(tensorflow)
                ran = forwards.run(folder, report.model_class, save, python)
                report = replace(
                    report,
                    forward=ran.text,
                    is_finite=ran.is_finite,
                    max_difference=ran.max_difference,
                    has_no_match=ran.has_no_match,
                )
            report = replace(
                report,
                destination=str(destination),
                files=tuple(sorted(os.listdir(folder))),
                sidecars=tuple(carried),
                seconds=time.perf_counter() - start_s,
            )
            _refuse_notes_in_strict_mode(report)
    count("tf.converted")
    for text in report.warnings():
        warn_once(ConversionWarning, f"{report.source} {text}", message("ST-TF-011", f"{report.source}: {text}"))
    return report


def _fitted(save: Save, content: Opened, config: Any, model_type: str | None, architecture: str | None) -> Fit:
    recovered = configs.recover(save, content, config, model_type)
    if recovered is None:
        from .config.infer import infer

        recovered = infer(save, content, model_type, architecture)
    head = wrapped_head.mapped(content.keras, content.tensors, recovered.config)
    if head is not None and architecture in {None, head.architecture}:
        try:
            return replace(fit(head.tensors, recovered, content.root, head.architecture), head=head.text)
        except MismatchedSaveError:
            pass  # of another size than the class's own: the base model, with the head beside it
    try:
        return fit(content.tensors, recovered, content.root, architecture)
    except MismatchedSaveError as error:
        is_positional = any(tensor.is_positional for tensor in content.tensors)
        raise lost.explained(error, recovered.config.model_type, save.format, is_positional=is_positional) from None


def _written(
    folder: Path,
    source: str,
    save: Save,
    fitted: Fit,
    dtype: torch.dtype | None,
    limit: int,
    check: bool,
    progress: Progress,
    read: Sequence[str],
    digests: Future[dict[str, str]],
) -> ConversionReport:
    found = [fitted.match.placed[slot.key] for slot in fitted.target.written() if slot.key in fitted.match.placed]
    buffers = [computed(slot) for slot in fitted.match.missing if slot.computed is not None]
    parted = [untied(one) for one in found]
    placed = [*(part for group in parted for part in group), *buffers]
    name_of_dtype = None if dtype is None else str(dtype).removeprefix("torch.")
    parts = plan(placed, name_of_dtype, limit)
    shards = dict(zip(files.shard_names(len(parts)), parts, strict=True))
    total = sum(one.tensor.size_bytes for one in placed) * (1 + check)
    added = [slot for slot in fitted.match.missing if slot.is_integer and is_counter(slot)]
    tally = Tally(progress, total)
    # The digests are made meanwhile, and put into the headers at the end: waiting for them is a third of the time.
    metadata = _provenance(source, save, dict.fromkeys(read, _NO_DIGEST))
    layouts: dict[str, Layout] = {}
    with Workers() as workers:
        for number, (name, part) in enumerate(shards.items()):
            layout = [(one.slot.key, kind(one, name_of_dtype), one.slot.shape) for one in part]
            zeros = added if number == len(shards) - 1 else []
            layout += [(slot.key, "int64", slot.shape) for slot in zeros]
            tally.note(layout)
            layouts[name] = layout
            write(folder / name, layout, part, dtype, metadata, workers, tally)
        if len(shards) > 1:
            keys = {name: [key for key, _, _ in layout] for name, layout in layouts.items()}
            files.write_index(folder, keys, tally.size_bytes)
        final = _provenance(source, save, digests.result())
        for name in shards:
            shard_file.put_metadata(folder / name, layouts[name], final)
        verified = verify.compare(folder, shards, dtype, workers, tally.passed) if check else 0
    if fitted.match.unused:
        write_aside(folder / files.ASIDE, fitted.match.unused)
    files.write_json(folder / configs.CONFIG, _config(fitted, tally.dtype()))
    return ConversionReport(
        source=source,
        destination="",
        format=save.format,
        model_class=fitted.target.name,
        auto_classes=classes.auto_classes(fitted.target.name, fitted.target.model_type),
        config_from=fitted.recovered.origin,
        tensors=len(placed),
        parameters=tally.parameters,
        size_bytes=tally.size_bytes,
        dtype=tally.dtype(),
        files=(),
        head=fitted.head,
        assumed={**fitted.recovered.assumed, **fitted.match.by_order},
        unused=tuple(tensor.name for tensor in fitted.match.unused),
        added=tuple(slot.key for slot in added),
        computed=tuple(one.slot.key for one in buffers),
        untied=tuple(part.slot.key for _, *others in parted for part in others),
        not_a_number=tuple(tally.not_a_number),
        passed_over=save.passed_over,
        verified=verified,
        sha256=digests.result(),
    )


def _config(fitted: Fit, dtype: str) -> dict[str, Any]:
    raw = {key: value for key, value in fitted.recovered.raw.items() if key not in {"torch_dtype", "num_labels"}}
    raw["architectures"] = [fitted.target.name]
    raw["dtype"] = dtype
    return raw


def _provenance(source: str, save: Save, digests: Mapping[str, str]) -> dict[str, str]:
    import transformers

    return {
        "converted_from": save.format,
        "source": source,
        previous.SOURCE: json.dumps(digests, sort_keys=True),
        "safetransformers": __version__,
        "transformers": transformers.__version__,
    }


def _home(save: Save) -> Path:
    """The folder that holds the configuration, and so the tokenizer too."""
    return next((home for home in save.homes if (home / configs.CONFIG).is_file()), save.folder)


def _refuse_nesting(source: Path, destination: Path) -> None:
    folder = (source if source.is_dir() else source.parent).resolve()
    wanted = destination.resolve()
    if wanted == folder or (source.is_dir() and wanted.is_relative_to(folder)):
        raise DestinationError(
            "ST-TF-007",
            "the destination lies in the source, which is never written",
            do=f"name a folder beside it: safetransformers convert {relative(source)} {relative(source)}-torch",
        )


def _refuse_notes_in_strict_mode(report: ConversionReport) -> None:
    if policies.is_strict() and report.warnings():
        raise ConversionError(
            "ST-TF-011",
            f"{report.source} was not written, as strict mode takes no assumption and drops nothing",
            why="; ".join(report.warnings()),
            do="say what is missing: config=..., architecture=...",
            off="with safetransformers.policy(strict=False): ...",
        )


def _quiet(done: int, total: int) -> None:
    return None
