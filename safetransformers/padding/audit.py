"""Is this model padding-invariant, and by how much not: padded rows against the same rows alone, measured."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .. import policies
from .attach import attach, detach, is_attached
from .facts import facts_of, token_id
from .layout import Layout, Path, leaves
from .mask import infer_attention_mask, position_ids_from_mask
from .plan import learn_layout, whole
from .scope import untouched

TOLERANCE: Final = 1e-4
_LENGTHS: Final = (12, 9, 7, 5)
_VOCABULARY: Final = 256  # of a model whose config names none (characters, bytes)


@dataclass(frozen=True)
class Finding:
    """One way to run padded rows, compared with the rows alone.

    Attributes:
        side: ``right`` or ``left``.
        run: ``no mask``, ``mask``, ``mask and position_ids``, ``guarded``, or ``exact``.
        error: largest absolute difference over all real tokens and outputs, divided by the largest absolute value of
            that output; NaN where the run failed.
        worst: the output in which it is largest.
        failure: what the model said where it failed, else empty.
    """

    side: str
    run: str
    error: float
    worst: str
    failure: str = ""

    @property
    def is_right(self) -> bool:
        """Whether the numbers are those of the rows alone, within ``TOLERANCE``."""
        return self.error <= TOLERANCE


@dataclass(frozen=True)
class PaddingAudit:
    """What ``audit_padding`` measured; ``print`` shows the table.

    Attributes:
        model: name of the class.
        findings: one for each side and way to run.
    """

    model: str
    findings: tuple[Finding, ...]

    @property
    def is_invariant(self) -> bool:
        """Whether padding never changes the numbers when the model is guarded."""
        return self._is_right("guarded")

    @property
    def mended_by(self) -> str:
        """The least padding policy that makes the numbers right: ``off``, ``infer`` or ``exact``; empty for none."""
        ways = {"no mask": "off", "guarded": "infer", "exact": "exact"}
        return next((policy for run, policy in ways.items() if self._is_right(run)), "")

    def as_dict(self) -> dict[str, Any]:
        """Every part by name, for programs; the error of a run that failed is ``None``."""
        findings = [
            {
                **asdict(finding),
                "error": finding.error if math.isfinite(finding.error) else None,
                "right": finding.is_right,
            }
            for finding in self.findings
        ]
        return {
            "model": self.model,
            "is_invariant": self.is_invariant,
            "mended_by": self.mended_by,
            "findings": findings,
        }

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Side, run, error, verdict and worst output of each finding, as they are shown."""
        return [
            (
                finding.side,
                finding.run,
                "failed" if math.isnan(finding.error) else f"{finding.error:.1e}",
                "right" if finding.is_right else "WRONG",
                finding.failure or finding.worst,
            )
            for finding in self.findings
        ]

    def _is_right(self, run: str) -> bool:
        return all(finding.is_right for finding in self.findings if finding.run == run)

    def _title(self) -> str:
        return f"{self.model}: padded rows against the same rows alone (right up to {TOLERANCE:g} of the scale)"

    def _repr_html_(self) -> str:
        from ..html import table

        return table(self._title(), ("padding", "run", "error", "", "worst output"), self.rows())

    def __str__(self) -> str:
        lines = [self._title(), f"{'padding':8} {'run':22} {'error':>9}  {'':5} worst output"]
        for side, run, error, verdict, worst in self.rows():
            lines.append(f"{side:8} {run:22} {error:>9}  {verdict:5} {worst}".rstrip())
        return "\n".join(lines)


def audit_padding(model: nn.Module, inputs: Tensor | Mapping[str, Tensor] | None = None) -> PaddingAudit:
    """Measure whether a model's numbers on padded rows are those of the rows alone, with and without the guard.

    Args:
        model: a transformers model that takes ``input_ids``; it is left as it was, guarded or not.
        inputs: what a tokenizer gives (``input_ids`` and ``attention_mask``), whose real tokens are the rows; or int64
            (batch, sequence) of rows without padding, of which rows of several lengths are cut; random ids if None.

    Returns:
        One finding for each side of padding and each way to run.

    Raises:
        ValueError: where the model has no pad token or takes no ``input_ids``.

    Cost: about 14 forwards of at most 4 x 12 tokens, or of the size of ``inputs``, in eval mode without gradients.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=99, n_embd=8, n_layer=1, n_head=1, pad_token_id=0, eos_token_id=1)
        >>> audit_padding(GPT2LMHeadModel(config)).is_invariant
        True
    """
    from ..guards import innermost

    model = innermost(model)
    facts = facts_of(model)
    pad = token_id(model, facts, "pad")
    if not isinstance(pad, int) or "input_ids" not in facts.parameters:
        raise ValueError(f"{facts.name} has no pad_token_id or takes no input_ids: there is no padding to audit")
    rows = _rows(model, pad, token_id(model, facts, "eos") if facts.is_encoder_decoder else None, inputs)
    findings: list[Finding] = []
    with torch.no_grad(), _as_in_use(model):
        with_decoder = facts.is_encoder_decoder and not _runs_alone(model, rows[0])
        with untouched(model):
            alone = [_flat(model(**_inputs(row[None], [row], with_decoder))) for row in rows]
        layout = learn_layout(model, whole(facts, _inputs(rows[0][None], rows[:1], with_decoder)))
        for side in ("right", "left"):
            ids = _padded(rows, pad, side)
            mask = infer_attention_mask(ids, pad)
            runs: dict[str, tuple[str, dict[str, Any]]] = {"no mask": ("off", {})}
            if facts.takes("attention_mask"):
                runs["mask"] = ("off", {"attention_mask": mask})
                if facts.takes("position_ids"):
                    positions = position_ids_from_mask(mask)
                    runs["mask and position_ids"] = ("off", {"attention_mask": mask, "position_ids": positions})
            runs |= {"guarded": ("infer", {}), "exact": ("exact", {})}
            for run, (mode, kwargs) in runs.items():
                arguments = {**_inputs(ids, rows, with_decoder), **kwargs}
                findings.append(_compare(model, side, run, mode, arguments, rows, alone, layout))
    return PaddingAudit(facts.name, tuple(findings))


def _inputs(ids: Tensor, rows: list[Tensor], with_decoder: bool) -> dict[str, Tensor]:
    """Ids, and for an encoder-decoder that asks for them the first token of each row for its decoder."""
    return (
        {"input_ids": ids, "decoder_input_ids": torch.stack([row[:1] for row in rows])}
        if with_decoder
        else {"input_ids": ids}
    )


def _runs_alone(model: nn.Module, row: Tensor) -> bool:
    """Whether an encoder-decoder makes its own decoder ids."""
    try:
        with untouched(model):
            model(input_ids=row[None])
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _compare(
    model: nn.Module,
    side: str,
    run: str,
    mode: str,
    kwargs: dict[str, Any],
    rows: list[Tensor],
    alone: list[dict[Path, Tensor]],
    layout: Layout,
) -> Finding:
    try:
        with policies.policy(padding=mode, strict=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the finding says it
            output = _flat(model(**kwargs))
    except Exception as failure:  # noqa: BLE001 - whatever the model under audit says is the finding
        return Finding(side, run, math.nan, "", f"{type(failure).__name__}: {failure}".splitlines()[0])
    worst, name = 0.0, ""
    for path in layout:
        if path not in output or any(path not in row for row in alone):
            continue
        if "ragged" in layout[path] or "batch" not in layout[path]:
            continue
        error = _error(output[path], [row[path] for row in alone], rows, side, layout[path])
        if not error <= worst:
            worst, name = error, ".".join(map(str, path))
    return Finding(side, run, worst, name)


def _error(padded: Tensor, alone: list[Tensor], rows: list[Tensor], side: str, axes: tuple[str, ...]) -> float:
    """The largest difference over the rows' real places, in units of the largest value alone."""
    scale = max(float(tensor.abs().max()) for tensor in alone) or 1.0
    worst = 0.0
    for index, (single, row) in enumerate(zip(alone, rows, strict=True)):
        part = padded.select(axes.index("batch"), index)
        reference = single.select(axes.index("batch"), 0)
        for axis, kind in enumerate(kind for kind in axes if kind != "batch"):
            if kind == "sequence":
                start = part.shape[axis] - len(row) if side == "left" else 0
                part = part.narrow(axis, start, len(row))
        difference = float((part.float() - reference.float()).abs().max())
        worst = difference if math.isnan(difference) else max(worst, difference)
    return worst / scale


def _flat(output: Any) -> dict[Path, Tensor]:
    return {path: leaf for path, leaf in leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()}


def _rows(model: Any, pad: int, eos: Any, inputs: Tensor | Mapping[str, Tensor] | None) -> list[Tensor]:
    """Rows of several lengths without a pad in them; random ones end with eos where it is given."""
    if isinstance(inputs, Mapping):
        ids = inputs["input_ids"]
        mask = inputs["attention_mask"] if "attention_mask" in inputs else infer_attention_mask(ids, pad)
        rows = [row[real.bool()].to(model.device) for row, real in zip(ids, mask, strict=True)]
        if len(set(map(len, rows))) > 1:
            return rows
        inputs = ids
    if inputs is not None:
        width = inputs.shape[1]
        lengths = [max(1, width * (len(inputs) - row) // len(inputs)) for row in range(len(inputs))]
        return [row[:length] for row, length in zip(inputs.to(model.device), lengths, strict=True)]
    limit = getattr(model.config.get_text_config(), "vocab_size", _VOCABULARY)
    ids = torch.randint(0, limit, (len(_LENGTHS), _LENGTHS[0]), generator=torch.Generator().manual_seed(0))
    for special in (pad, eos):
        if isinstance(special, int):
            ids = torch.where(ids == special, (max(pad, eos or 0) + 1) % limit, ids)
    rows = [row[:length].clone() for row, length in zip(ids.to(model.device), _LENGTHS, strict=True)]
    if isinstance(eos, int) and eos != pad:
        for row in rows:
            row[-1] = eos
    return rows


def _padded(rows: list[Tensor], pad: int, side: str) -> Tensor:
    width = max(map(len, rows))
    ids = rows[0].new_full((len(rows), width), pad)
    for index, row in enumerate(rows):
        start = width - len(row) if side == "left" else 0
        ids[index, start : start + len(row)] = row
    return ids


@contextmanager
def _as_in_use(model: nn.Module) -> Iterator[None]:
    """Guarded and in eval mode inside the block, and as before after it."""
    was_guarded, training = is_attached(model), [module for module in model.modules() if module.training]
    attach(model, {})
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
        if not was_guarded:
            detach(model)
