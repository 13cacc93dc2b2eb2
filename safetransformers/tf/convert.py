"""``convert``: a TensorFlow, Keras or Flax save becomes a folder that every Auto class loads."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import __version__, policies
from ..counts import count
from ..errors import ConversionError, ConversionWarning, DestinationError, MismatchedSaveError, message
from ..notices import relative, warn_once
from . import classes, configs, sidecars, verify, write
from .fit import Fit, fit
from .matching import Placed
from .reading import Opened, opened, sha256
from .report import ConversionReport
from .sources import Save, find
from .target import Slot
from .write import Progress

if TYPE_CHECKING:
    import torch

_UNITS: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DTYPES: Final = ("float32", "float16", "bfloat16", "float64")


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
    limit, kind = _bytes(max_shard_size), _dtype(dtype)
    _refuse_nesting(source, destination)
    save = find(source)
    with opened(save) as content, ThreadPoolExecutor(max_workers=1) as pool:
        digests = pool.submit(sha256, content.files)
        done = _done_before(destination, digests, dtype) if _is_ours(destination) and not overwrite else None
        if done is not None:
            return replace(done, destination=str(destination), seconds=time.perf_counter() - start_s)
        write.refuse_existing(destination, overwrite=overwrite)
        fitted = _fitted(save, content, config, model_type, architecture)
        carried = sidecars.names(_home(save))
        with write.beside(destination, overwrite=overwrite) as folder:
            report = _written(folder, relative(source), save, fitted, kind, limit, check, progress or _quiet, digests)
            sidecars.carry(_home(save), carried, folder)
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
        from .infer import infer

        recovered = infer(save, content, model_type, architecture)
    return fit(content.tensors, recovered, content.root, architecture)


def _written(
    folder: Path,
    source: str,
    save: Save,
    fitted: Fit,
    dtype: torch.dtype | None,
    limit: int,
    check: bool,
    progress: Progress,
    digests: Future[dict[str, str]],
) -> ConversionReport:
    found = [fitted.match.placed[slot.key] for slot in fitted.target.written() if slot.key in fitted.match.placed]
    placed = [part for one in found for part in _untied(one)]
    item_bytes = None if dtype is None else dtype.itemsize
    shards = dict(zip(write.shard_names(len(parts := write.plan(placed, item_bytes, limit))), parts, strict=True))
    total = sum(one.tensor.size_bytes for one in placed) * (1 + check)
    added = {slot.key: slot for slot in fitted.match.missing if slot.is_integer and _is_counter(slot)}
    tally = _Tally(progress, total)
    metadata = _provenance(source, save, digests.result())
    with _no_grad():
        for number, (name, part) in enumerate(shards.items()):
            tensors = tally.read(part, dtype)
            if number == len(shards) - 1:
                tensors |= {key: _zero(slot) for key, slot in added.items()}
            write.write_shard(folder / name, tensors, metadata)
            tally.note(tensors)
            tensors.clear()
        if len(shards) > 1:
            last = list(shards)[-1]
            keys = {name: [one.slot.key for one in part] for name, part in shards.items()}
            keys[last] += added
            write.write_index(folder, keys, tally.size_bytes)
        verified = verify.compare(folder, shards, dtype) if check else 0
    if check:
        progress(total, total)
    kind = tally.dtype()
    write.write_json(folder / configs.CONFIG, _config(fitted, kind))
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
        dtype=kind,
        files=(),
        assumed=fitted.recovered.assumed,
        unused=tuple(tensor.name for tensor in fitted.match.unused),
        added=tuple(added),
        not_a_number=tuple(tally.not_a_number),
        passed_over=save.passed_over,
        verified=verified,
        sha256=digests.result(),
    )


class _Tally:
    """What is counted while weights are read: bytes for the progress, types, and values that are no numbers."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._types: Counter[str] = Counter()
        self.parameters = self.size_bytes = 0
        self.not_a_number: list[str] = []

    def read(self, part: Sequence[Placed], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
        import torch

        found: dict[str, torch.Tensor] = {}
        for one in part:
            value = write.values(one.tensor, one.turn, one.slot, dtype)
            if value.is_floating_point() and not torch.isfinite(value.sum(dtype=torch.float64)):
                self._note_numbers(one, value)
            found[one.slot.key] = value
            self._done += one.tensor.size_bytes
            self._progress(self._done, self._total)
        return found

    def _note_numbers(self, one: Placed, value: torch.Tensor) -> None:
        bad = int((~value.isfinite()).sum())
        if bad:
            self.not_a_number.append(f"{one.slot.key} ({bad} of {value.numel()})")

    def note(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for value in tensors.values():
            self.parameters += value.numel()
            self.size_bytes += value.numel() * value.element_size()
            if value.is_floating_point():
                self._types[str(value.dtype).removeprefix("torch.")] += value.numel()

    def dtype(self) -> str:
        return self._types.most_common(1)[0][0] if self._types else "float32"


def _untied(one: Placed) -> list[Placed]:
    """A weight once for each key that it has another value at: torch ties some that a TensorFlow save has apart.

    Costs a read of each copy; most weights have none.

    Raises:
        MismatchedSaveError: where two that differ want the same key.
    """
    if not one.copies:
        return [one]
    own = () if any(copy.tensor is one.tensor for copy in one.copies) else (one,)
    first, *others = sorted((*own, *one.copies), key=lambda copy: copy.slot != one.slot)
    result = [replace(first, slot=one.slot, copies=())]
    values = {one.slot.key: write.values(first.tensor, first.turn, first.slot, None)}
    for copy in others:
        value = write.values(copy.tensor, copy.turn, copy.slot, None)
        if any(verify.same_bits(value, other) for other in values.values()):
            continue
        if copy.slot.key in values:
            raise MismatchedSaveError(
                "ST-TF-006",
                f"{copy.slot.key} is one weight in torch, and two that differ in the save",
                why=f"they are {first.tensor.name} and {copy.tensor.name}",
                do="say which class was saved: safetransformers convert SRC DST --architecture BertModel",
            )
        values[copy.slot.key] = value
        result.append(copy)
    return result


def _is_counter(slot: Slot) -> bool:
    return slot.key.endswith("num_batches_tracked")


def _zero(slot: Slot) -> torch.Tensor:
    import torch

    return torch.zeros(slot.shape, dtype=torch.int64)


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
        "source_sha256": json.dumps(digests, sort_keys=True),
        "safetransformers": __version__,
        "transformers": transformers.__version__,
    }


def _home(save: Save) -> Path:
    """The folder that holds the configuration, and so the tokenizer too."""
    return next((home for home in save.homes if (home / configs.CONFIG).is_file()), save.folder)


def _is_ours(destination: Path) -> bool:
    return (destination / write.WEIGHTS).is_file() or (destination / write.INDEX).is_file()


def _done_before(destination: Path, digests: Future[dict[str, str]], dtype: str | None) -> ConversionReport | None:
    """The report of what lies in the destination, where it was made from the same bytes in the same way."""
    from safetensors import SafetensorError, safe_open

    names = sorted(name for name in os.listdir(destination) if name.endswith(".safetensors"))
    try:
        tensors, parameters, size, kind = 0, 0, 0, "float32"
        for name in names:
            with safe_open(destination / name, framework="pt") as shard:
                metadata = shard.metadata() or {}
                if metadata.get("source_sha256") != json.dumps(digests.result(), sort_keys=True):
                    return None
                for key in shard.keys():  # noqa: SIM118 - not a mapping
                    value = shard.get_tensor(key)
                    tensors, parameters = tensors + 1, parameters + value.numel()
                    size += value.numel() * value.element_size()
                    if value.is_floating_point():
                        kind = str(value.dtype).removeprefix("torch.")
        config = json.loads((destination / configs.CONFIG).read_text(encoding="utf-8"))
        name = config["architectures"][0]
    except (SafetensorError, OSError, ValueError, KeyError, IndexError):
        return None
    if dtype is not None and dtype != kind:
        return None
    return ConversionReport(
        source=metadata.get("source", ""),
        destination="",
        format=metadata.get("converted_from", ""),
        model_class=name,
        auto_classes=classes.auto_classes(name, config["model_type"]),
        config_from=configs.CONFIG,
        tensors=tensors,
        parameters=parameters,
        size_bytes=size,
        dtype=kind,
        files=tuple(sorted(os.listdir(destination))),
        sha256=digests.result(),
        was_done_before=True,
    )


def _refuse_nesting(source: Path, destination: Path) -> None:
    folder = (source if source.is_dir() else source.parent).resolve()
    wanted = destination.resolve()
    if wanted == folder or wanted.is_relative_to(folder) and source.is_dir():
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


def _no_grad() -> Any:
    import torch

    return torch.no_grad() if torch.is_grad_enabled() else nullcontext()


def _quiet(done: int, total: int) -> None:
    return None


def _dtype(name: str | None) -> torch.dtype | None:
    import torch

    if name is None:
        return None
    if name not in _DTYPES:
        raise ConversionError("ST-TF-012", f"dtype={name!r} is not one of {', '.join(_DTYPES)}", do="dtype='float32'")
    found: torch.dtype = getattr(torch, name)
    return found


def _bytes(size: int | str) -> int:
    if isinstance(size, int) and size > 0:
        return size
    text = str(size).strip().upper()
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if text.endswith(unit)), "")
    number = text.removesuffix(unit).strip()
    if unit and number.replace(".", "", 1).isdigit() and float(number) > 0:
        return int(float(number) * _UNITS[unit])
    raise ConversionError("ST-TF-012", f"max_shard_size={size!r} is no size", do="max_shard_size='5GB'")
