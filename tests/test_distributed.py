"""Guarded models on real process groups of 2 and 4 ranks give what the plain model gives with explicit masks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from models import PAD, mask_of, numbers, padded_rows, tiny
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

import safetransformers as st

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.xdist_group("distributed"),
]

HERE = Path(__file__).parent
IS_5 = hasattr(TrainingArguments, "train_sampling_strategy")
BY_LENGTH = {"train_sampling_strategy": "group_by_length"} if IS_5 else {"group_by_length": True}
TOLERANCE = 5e-6  # of the largest value: the engines sum in another order

Answers = dict[str, list[Any]]


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank says to each check, by check and rank."""
    world: int = request.param
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join(map(str, [Path(st.__file__).parents[1], HERE, HERE.parent / "benchmarks"]))
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run = subprocess.run(
        [sys.executable, str(HERE / "distributed_checks.py"), str(world), str(tmp_path_factory.mktemp("ranks"))],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for line in run.stdout.splitlines():
        if line.startswith('{"check"'):
            said = json.loads(line)
            found[said["check"]][said["rank"]] = said["answer"]
    assert found, run.stderr[-3000:]
    assert all(len(by_rank) == world for by_rank in found.values()), run.stderr[-3000:]
    return {check: [by_rank[rank] for rank in range(world)] for check, by_rank in found.items()}


def said(answers: Answers, check: str) -> list[Any]:
    failed = [answer["failed"] for answer in answers[check] if isinstance(answer, dict) and "failed" in answer]
    assert not failed, failed[0]
    return answers[check]


@pytest.mark.parametrize(
    "engine", ["ddp", "fsdp1", "fsdp2", "fsdp2_guarded_afterwards", "accelerate_fsdp2", "pipeline_stages"]
)
def test_without_masks_outputs_and_gradients_are_those_of_the_plain_model_with_them(
    engine: str, answers: Answers
) -> None:
    for answer in said(answers, engine):
        assert answer["outputs"] < TOLERANCE and answer.get("gradients", 0.0) < TOLERANCE
        assert answer.get("is_sharded", True)


def test_a_model_spread_by_its_tensor_parallel_plan_gives_the_plain_outputs(answers: Answers) -> None:
    for answer in said(answers, "tensor_parallel"):
        assert answer["outputs"] < TOLERANCE and answer["part"] == 1.0


def test_ranks_whose_rows_have_more_lengths_than_others_run_exactly_and_do_not_hang(answers: Answers) -> None:
    assert all(answer["outputs"] < TOLERANCE for answer in said(answers, "exact_in_step"))


def test_a_call_that_one_rank_refuses_is_refused_by_all(answers: Answers) -> None:
    refused = [answer["refused"] for answer in said(answers, "exact_in_step")]
    assert refused == [f"ST-RANK-001 {len(refused) - 1}"] * (len(refused) - 1) + ["ST-MASK-006"]


def test_gradients_of_exact_runs_of_a_sharded_model_are_refused_on_every_rank(answers: Answers) -> None:
    assert set(said(answers, "exact_with_gradients")) == {"ST-MASK-012"}


def test_rows_are_rolled_under_ddp_on_the_ranks_that_have_left_padding(answers: Answers) -> None:
    assert all(answer["outputs"] < TOLERANCE for answer in said(answers, "rolled_under_ddp"))


def test_rows_are_not_rolled_where_a_forward_waits_for_other_ranks(answers: Answers) -> None:
    for answer in said(answers, "not_rolled_where_forward_is_a_collective"):
        assert answer["outputs"] < TOLERANCE and answer["told"] == answer["has_pads"]


def test_a_sharded_checkpoint_goes_from_a_guarded_model_into_a_plain_one_and_back(answers: Answers) -> None:
    assert all(answer == {"gap": 0.0, "is_guarded": True} for answer in said(answers, "checkpoint"))


def test_packed_rows_are_left_alone(answers: Answers) -> None:
    assert all(answer["outputs"] == 0.0 for answer in said(answers, "packed_rows"))


def test_a_strict_error_of_one_rank_is_raised_by_all_in_seconds_and_once(answers: Answers) -> None:
    found = said(answers, "strict_raises_together")
    assert [answer["found"] for answer in found] == [
        "ST-MASK-001" if rank == 1 else "ST-RANK-001 1" for rank in range(len(found))
    ]
    assert all(answer["seconds"] < 10 for answer in found)


def test_a_model_whose_parts_come_from_the_disk_gives_the_plain_outputs(tmp_path: Path) -> None:
    """``device_map="auto"`` puts hooks of accelerate on the parts; with no room on the CPU they come from the disk."""
    tiny("gpt2").save_pretrained(tmp_path / "model")
    model = st.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model",
        device_map="auto",
        max_memory={"cpu": "60KB"},
        offload_folder=tmp_path / "disk",
    )
    assert "disk" in model.hf_device_map.values()
    ids = padded_rows("left")
    mask = mask_of(ids)
    plain = tiny("gpt2")(ids, attention_mask=mask, position_ids=st.position_ids_from_mask(mask)).logits
    assert torch.equal(model(input_ids=ids).logits[ids != PAD], plain[ids != PAD])


def test_batches_that_trainer_groups_by_length_make_exact_runs_few_and_give_each_row_what_it_gives_alone(
    tmp_path: Path,
) -> None:
    numbers_of = torch.Generator().manual_seed(0)
    lengths = [int(torch.randint(2, 10, (), generator=numbers_of)) for _ in range(256)]
    rows = [{"input_ids": torch.randint(3, 64, (length,), generator=numbers_of).tolist()} for length in lengths]
    plain, model = tiny("bert"), st.guard(tiny("bert"), padding="exact")

    def collate(examples: list[dict[str, Any]]) -> Tensor:
        return padded_rows("right", [example["input_ids"] for example in examples])

    def forwards(**sampling: Any) -> tuple[int, float]:
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=8,
            use_cpu=True,
            report_to=[],
            remove_unused_columns=False,
            **sampling,
        )
        trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows)
        runs: list[nn.Module] = []
        handle = model.embeddings.register_forward_pre_hook(lambda module, _: runs.append(module))
        worst, seen = 0.0, 0
        with torch.no_grad():
            for ids in trainer.get_train_dataloader():
                worst, seen = max(worst, gap(numbers(model(input_ids=ids)), ids, plain)), seen + len(ids)
        handle.remove()
        assert seen == len(rows)
        return len(runs), worst

    model.eval()
    model(input_ids=padded_rows("right", [[5, 6, 7], [8]]))  # finds the axes of the outputs
    in_any_order, _ = forwards()
    grouped, worst = forwards(**BY_LENGTH)
    assert grouped < in_any_order / 2 and worst < 1e-5


def gap(found: Tensor, ids: Tensor, plain: nn.Module) -> float:
    pairs = [(row[i != PAD], numbers(plain(input_ids=i[i != PAD][None]))[0]) for row, i in zip(found, ids, strict=True)]
    return max(float((one - other).abs().max()) for one, other in pairs)
