"""audit_padding tells a model that padding changes from one that it does not."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from models import PAD, mask_of, padded_rows, tiny

from safetransformers import audit_padding, guard
from safetransformers.padding.audit import TOLERANCE, Finding, PaddingAudit


def _find(findings: tuple[Finding, ...], side: str, run: str) -> Finding:
    return next(finding for finding in findings if (finding.side, finding.run) == (side, run))


def test_a_table_shows_each_side_and_run_with_its_error() -> None:
    audit = audit_padding(tiny("gpt2"))
    assert audit.is_invariant
    assert _find(audit.findings, "left", "no mask").error > 100 * TOLERANCE
    assert _find(audit.findings, "left", "mask").error > 100 * TOLERANCE
    for side in ("left", "right"):
        for run in ("mask and position_ids", "guarded", "exact"):
            assert _find(audit.findings, side, run).is_right
    assert str(audit).count("\n") == 1 + len(audit.findings)
    assert "left     no mask" in str(audit) and "WRONG logits" in str(audit)


def test_a_class_that_no_mask_can_mend_is_found_out() -> None:
    config = transformers.FNetConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, intermediate_size=64, pad_token_id=PAD
    )
    audit = audit_padding(transformers.FNetModel(config))
    assert not audit.is_invariant
    assert {finding.run for finding in audit.findings} == {"no mask", "guarded", "exact"}
    assert _find(audit.findings, "right", "exact").is_right


def test_the_users_own_rows_are_taken() -> None:
    rows = torch.randint(5, 60, (2, 30))
    assert audit_padding(tiny("bert"), rows).is_invariant


@pytest.mark.parametrize("with_mask", [True, False])
def test_what_a_tokenizer_gives_is_taken(with_mask: bool) -> None:
    ids = padded_rows("right")
    inputs = {"input_ids": ids} | ({"attention_mask": mask_of(ids)} if with_mask else {})
    audit = audit_padding(tiny("bert"), inputs)
    assert audit.is_invariant and not _find(audit.findings, "right", "no mask").is_right


def test_a_run_that_failed_is_none_in_json_which_has_no_nan() -> None:
    failed = Finding("left", "mask", float("nan"), "", "ValueError: no")
    right = Finding("left", "exact", 0.0, "logits")
    told = PaddingAudit("Model", (failed, right)).as_dict()
    assert [one["error"] for one in told["findings"]] == [None, 0.0] and told["findings"][0]["right"] is False
    assert json.loads(json.dumps(told, allow_nan=False)) == told


@pytest.mark.parametrize("is_guarded", [True, False])
def test_the_model_is_left_as_it_was(is_guarded: bool) -> None:
    model = tiny("t5").train()
    if is_guarded:
        guard(model)
    before = {name: id(value) for name, value in vars(model).items()}
    hooks = list(model._forward_pre_hooks.values())
    assert audit_padding(model).is_invariant
    assert {name: id(value) for name, value in vars(model).items()} == before
    assert list(model._forward_pre_hooks.values()) == hooks
    assert all(module.training for module in model.modules())


def test_a_model_without_a_pad_token_has_nothing_to_audit() -> None:
    with pytest.raises(ValueError, match="pad_token_id"):
        audit_padding(tiny("gpt2", pad_token_id=None))


def test_a_model_that_fails_is_a_finding_that_says_why() -> None:
    class Fussy(transformers.BertModel):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
            if attention_mask is None and input_ids.shape[0] == 4:
                raise RuntimeError("no mask given")
            return super().forward(input_ids=input_ids, attention_mask=attention_mask)

    audit = audit_padding(Fussy(tiny("bert").config))
    finding = _find(audit.findings, "right", "no mask")
    assert finding.failure == "RuntimeError: no mask given" and not finding.is_right
    assert "failed" in str(audit)
