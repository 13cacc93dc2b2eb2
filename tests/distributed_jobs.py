"""Scripts that ``torchrun`` starts for ``test_distributed_jobs.py``: a training that loses a rank, and a strict error.

``torchrun ... distributed_jobs.py train FOLDER`` trains a tiny model twice over, plain with masks and guarded without.
``torchrun ... distributed_jobs.py strict FOLDER`` runs a loop in which the batch of one rank has unmasked pads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from models import PAD, mask_of, padded_rows, tiny
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

import safetransformers as st

STEPS, SAVED_EVERY, KILLED_AT = 200, 50, 120


def rows() -> list[dict[str, Any]]:
    """Texts of many lengths, so that nearly every batch is padded."""
    numbers = random.Random(0)
    return [{"input_ids": [numbers.randrange(3, 64) for _ in range(numbers.randrange(2, 12))]} for _ in range(256)]


def with_mask(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    batch = without_mask(examples)
    mask = mask_of(batch["input_ids"])
    return {**batch, "attention_mask": mask, "position_ids": st.position_ids_from_mask(mask)}


def without_mask(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids = padded_rows("left", [example["input_ids"] for example in examples])
    return {"input_ids": ids, "labels": torch.where(ids == PAD, -100, ids)}


class LosesARank(TrainerCallback):
    """The second rank is killed, as by a machine that fails, the first time that the job is there."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and state.global_step == KILLED_AT and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)


def trained(folder: Path, model: Any, collate: Any, *, loses_a_rank: bool) -> tuple[list[float], int]:
    """The losses that the run logged, and the step from which it went on."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=SAVED_EVERY,
        use_cpu=True,
        ddp_backend="gloo",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=7,
    )
    vars(arguments)["_setup_devices"] = torch.device("cpu")  # 4.57 says cpu:0, from which it cannot load an optimizer
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows())
    if loses_a_rank:
        trainer.add_callback(LosesARank())
    saved = sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=bool(saved))
    history = trainer.state.log_history
    return [entry["loss"] for entry in history if "loss" in entry], saved[-1] if saved else 0


def start_process_group() -> None:
    """Under a name for each attempt: torchrun lends them all one store (torch 2.13), where gloo would find the dead."""
    store, rank, world = next(dist.rendezvous("env://"))
    attempt = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("gloo", store=attempt, rank=rank, world_size=world)


def train(folder: Path) -> None:
    start_process_group()
    told = folder / "told.json"
    set_seed(7)
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        losses, _ = trained(folder / "plain", tiny("gpt2"), with_mask, loses_a_rank=False)
        if os.environ["RANK"] == "0":
            told.write_text(json.dumps({"plain": losses}))
    set_seed(7)
    model = st.guard(tiny("gpt2"))
    losses, resumed_at = trained(folder / "guarded", model, without_mask, loses_a_rank=True)
    if os.environ["RANK"] == "0":
        inferred = st.report().get("padding.inferred", 0)
        answer = {**json.loads(told.read_text()), "guarded": losses, "resumed_at": resumed_at, "inferred": inferred}
        told.write_text(json.dumps(answer))


def strict(folder: Path) -> None:
    start_process_group()
    rank = dist.get_rank()
    model = st.guard(tiny("gpt2"))
    batches = [padded_rows("right", [[5, 6, 7], [8, 9, 10]])] * 3 + [padded_rows("right", [[5, 6, 7], [8, 9][:1]])]
    with st.strict(), torch.no_grad():
        for number in range(100):
            ids = batches[-1] if rank == 1 and number == 20 else batches[0]
            if rank == 1 and number == 20:
                (folder / "raised").write_text(str(time.time()))
            total = model(input_ids=ids).logits.sum()
            dist.all_reduce(total)
            time.sleep(0.1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"train": train, "strict": strict}[sys.argv[1]](Path(sys.argv[2]))
