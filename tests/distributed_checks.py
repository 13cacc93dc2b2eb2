"""What each rank of a real process group finds; ``test_distributed.py`` starts the ranks and looks at the answers.

``python distributed_checks.py RANKS FOLDER`` imports everything once and forks that many ranks, which speak gloo. Each
check is a function that every rank calls; its answer, or the traceback, is a line of JSON.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from models import PAD, mask_of, numbers, padded_rows, tiny
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

import safetransformers as st
from safetransformers.errors import NotInvariantWarning, PaddingError

CHECKS: dict[str, Callable[..., Any]] = {}


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    CHECKS[function.__name__] = function
    return function


def rows_of(rank: int, *, side: str = "left") -> Tensor:
    """The batch of a rank: the first has no padding at all, the others have more and more lengths."""
    lengths = [[6, 6, 6, 6], [6, 3, 6, 3], [6, 2, 4, 5], [5, 4, 6, 1]][rank % 4]
    generator = torch.Generator().manual_seed(rank)
    rows = [torch.randint(3, 64, (length,), generator=generator).tolist() for length in lengths]
    return padded_rows(side, rows)


def right_inputs(ids: Tensor) -> dict[str, Tensor]:
    mask = mask_of(ids)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": st.position_ids_from_mask(mask)}


def loss_of(model: Any, ids: Tensor, **inputs: Tensor) -> Tensor:
    """A loss over the real tokens, from the outputs."""
    logits = model(input_ids=ids, **inputs).logits
    return (logits.square() * (ids != PAD)[..., None]).sum() / (ids != PAD).sum()


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the largest value."""
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def plain_gradients(world: int, name: str = "gpt2") -> tuple[dict[str, Tensor], list[Tensor]]:
    """The mean over ranks of the gradients of plain transformers with explicit masks, and each rank's logits."""
    plain, logits = tiny(name), []
    for rank in range(world):
        inputs = right_inputs(rows_of(rank))
        (loss_of(plain, inputs.pop("input_ids"), **inputs) / world).backward()
        logits.append(plain(**right_inputs(rows_of(rank))).logits.detach())
    return {name: parameter.grad for name, parameter in plain.named_parameters()}, logits


def trained(model: Any, rank: int, world: int, name: str = "gpt2", whole: Any = lambda grad: grad) -> dict[str, float]:
    """How far a guarded model's outputs and gradients, without masks, are from the plain one's with them."""
    gradients, logits = plain_gradients(world, name)
    ids = rows_of(rank)
    real = ids != PAD
    with torch.no_grad():
        outputs = gap(model(input_ids=ids).logits[real], logits[rank][real])
    loss_of(model, ids).backward()
    found = {_plain_name(key): whole(parameter.grad) for key, parameter in model.named_parameters()}
    return {"outputs": outputs, "gradients": max(gap(found[key], grad) for key, grad in gradients.items())}


def _plain_name(name: str) -> str:
    return name.removeprefix("module.").replace("_fsdp_wrapped_module.", "")


def sharded(model: Any) -> Any:
    for block in model.modules():
        if isinstance(block, nn.ModuleList):
            for layer in block:
                fully_shard(layer)
    return fully_shard(model)


def full(tensor: Any) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


@check
def ddp(rank: int, world: int) -> dict[str, float]:
    return trained(DistributedDataParallel(st.guard(tiny("gpt2"))), rank, world)


@check
def fsdp2(rank: int, world: int) -> dict[str, float]:
    return trained(sharded(st.guard(tiny("gpt2"))), rank, world, whole=full)


@check
def fsdp2_guarded_afterwards(rank: int, world: int) -> dict[str, float]:
    return trained(st.guard(sharded(tiny("gpt2"))), rank, world, whole=full)


@check
def fsdp1(rank: int, world: int) -> dict[str, float]:
    from torch.distributed.fsdp import FullyShardedDataParallel, wrap

    policy = wrap.ModuleWrapPolicy({type(tiny("gpt2").transformer.h[0])})
    device = torch.device("cpu")
    model = FullyShardedDataParallel(
        st.guard(tiny("gpt2")), auto_wrap_policy=policy, use_orig_params=True, device_id=device
    )
    ids = rows_of(rank)
    real = ids != PAD
    _, logits = plain_gradients(world)
    loss_of(model, ids).backward()
    with torch.no_grad():
        outputs = gap(model(input_ids=ids).logits[real], logits[rank][real])
    return {"outputs": outputs}


@check
def accelerate_fsdp2(rank: int, world: int) -> dict[str, float]:
    from accelerate import Accelerator, FullyShardedDataParallelPlugin
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=["GPT2Block"]
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    # On the CPU accelerate leaves the plugin out; what it does with it is the same.
    AcceleratorState._shared_state |= {"distributed_type": DistributedType.FSDP, "fsdp_plugin": plugin}
    try:
        model = st.guard(tiny("gpt2"))
        prepared, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.0))
        is_sharded = isinstance(prepared, FSDPModule) and isinstance(prepared.transformer.h[0], FSDPModule)
        return {**trained(prepared, rank, world, whole=full), "is_sharded": is_sharded}
    finally:
        AcceleratorState._reset_state(True)


@check
def tensor_parallel(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """The same rows on all ranks, whose heads are spread."""
    if rank == 0:
        tiny("llama").save_pretrained(folder / "llama")
    dist.barrier()
    model = st.AutoModelForCausalLM.from_pretrained(folder / "llama", tp_plan="auto")
    ids = rows_of(1)
    expected = tiny("llama")(**right_inputs(ids)).logits[ids != PAD]
    found = full(model(input_ids=ids).logits)[ids != PAD]
    weight = model.model.layers[0].self_attn.q_proj.weight
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return {
        "outputs": gap(found.detach(), expected.detach()),
        "part": local.shape[0] * world / model.config.hidden_size,
    }


@check
def pipeline_stages(rank: int, world: int) -> dict[str, float]:
    """The guarded model is traced and cut into stages, guard and all. GPT-2 of 4.57 cannot be, guarded or not."""
    from torch.distributed.pipelining import ScheduleGPipe, SplitPoint, pipeline

    model = st.guard(tiny("bloom", n_layer=world, use_cache=False))
    plain = tiny("bloom", n_layer=world)
    ids = torch.cat([rows_of(1), rows_of(1)])
    cuts = {f"transformer.h.{number}": SplitPoint.BEGINNING for number in range(1, world)}
    stages = pipeline(model, mb_args=(), mb_kwargs={"input_ids": ids[:4]}, split_spec=cuts)
    schedule = ScheduleGPipe(stages.build_stage(rank, torch.device("cpu")), n_microbatches=2)
    found = schedule.step(input_ids=ids) if rank == 0 else schedule.step()
    if rank < world - 1:
        return {"outputs": 0.0}
    logits = found["logits"] if isinstance(found, dict) else found[0] if isinstance(found, tuple) else found
    expected = plain(ids, attention_mask=mask_of(ids)).logits
    return {"outputs": gap(logits[ids != PAD], expected[ids != PAD])}


@check
def exact_in_step(rank: int, world: int) -> dict[str, Any]:
    """Ranks with one, two and more lengths; then a call that one rank refuses; then one that all make."""
    plain, model = tiny("bert"), sharded(st.guard(tiny("bert"), padding="exact"))

    def worst(ids: Tensor) -> float:
        with torch.no_grad():
            found = numbers(model(input_ids=ids))
            alone = [numbers(plain(input_ids=row[row != PAD][None]))[0] for row in ids]
        return max(gap(one[row != PAD], other) for one, row, other in zip(found, ids, alone, strict=True))

    first = worst(rows_of(rank))
    others = worst(rows_of(rank + 1))
    refused = ""
    with torch.no_grad():
        ids = rows_of(1)
        if rank == world - 1:
            ids[1] = PAD  # a row without a real token
        try:
            model(input_ids=ids)
        except PaddingError as error:
            refused = f"{error.code} {error.details.get('rank', '')}".strip()
    return {"outputs": max(first, others, worst(rows_of(rank + 2))), "refused": refused}


@check
def exact_with_gradients(rank: int, world: int) -> str:
    model = sharded(st.guard(tiny("bert"), padding="exact"))
    try:
        model(input_ids=rows_of(rank))
    except PaddingError as error:
        return error.code
    return ""


@check
def rolled_under_ddp(rank: int, world: int) -> dict[str, Any]:
    """BERT's pooler reads the first column, so left-padded rows are rolled: by those ranks that have any."""
    model, plain = DistributedDataParallel(st.guard(tiny("bert"))), tiny("bert")
    ids = rows_of(rank)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotInvariantWarning)
        found = model(input_ids=ids, use_cache=False).pooler_output
    found.sum().backward()
    alone = torch.cat([plain(input_ids=row[row != PAD][None]).pooler_output for row in ids])
    return {"outputs": gap(found, alone)}


@check
def not_rolled_where_forward_is_a_collective(rank: int, world: int) -> dict[str, Any]:
    model, plain = sharded(st.guard(tiny("bert"))), tiny("bert")
    ids = rows_of(rank)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model(input_ids=ids, use_cache=False).last_hidden_state
    expected = plain(**right_inputs(ids)).last_hidden_state
    told = any(issubclass(warning.category, NotInvariantWarning) for warning in caught)
    return {"outputs": gap(found[ids != PAD], expected[ids != PAD]), "told": told, "has_pads": bool((ids == PAD).any())}


@check
def checkpoint(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Saved from a guarded model by torch.distributed.checkpoint, loaded into a plain one, and the other way round."""
    from torch.distributed import checkpoint as dcp

    def moved(source: Any, target: Any, name: str) -> float:
        dcp.save(get_model_state_dict(source), checkpoint_id=folder / name)
        state = get_model_state_dict(target)
        dcp.load(state, checkpoint_id=folder / name)
        set_model_state_dict(target, state)
        pairs = zip(source.parameters(), target.parameters(), strict=True)
        return max(float((full(one) - full(other)).abs().max().detach()) for one, other in pairs)

    guarded, plain = sharded(st.guard(tiny("gpt2", seed=1))), sharded(tiny("gpt2", seed=2))
    gaps = [moved(guarded, plain, "guarded"), moved(sharded(tiny("gpt2", seed=3)), guarded, "plain")]
    return {"gap": max(gaps), "is_guarded": st.guard(guarded) is guarded and len(guarded._forward_pre_hooks) >= 1}


@check
def packed_rows(rank: int, world: int) -> dict[str, float]:
    """What DataCollatorWithFlattening makes is left alone: one row, whose positions start again for each text."""
    from transformers import DataCollatorWithFlattening

    texts = [{"input_ids": row[row != PAD].tolist()} for row in rows_of(rank)]
    batch = DataCollatorWithFlattening()(texts)
    batch.pop("labels")
    model, plain = DistributedDataParallel(st.guard(tiny("llama"))), tiny("llama")
    return {"outputs": gap(model(**batch).logits, plain(**batch).logits)}


@check
def strict_raises_together(rank: int, world: int) -> dict[str, Any]:
    """One rank has pads without a mask; the others go on until they hear of it."""
    model = st.guard(tiny("gpt2"))
    ids = rows_of(1 if rank == 1 else 0)
    found, start_s = "", time.monotonic()
    with st.strict(), torch.no_grad():
        for _ in range(3):  # all have had calls before: that is when they begin to listen
            model(input_ids=rows_of(0))
        dist.barrier()
        while not found and time.monotonic() - start_s < 20:
            try:
                model(input_ids=ids)
            except PaddingError as error:
                found = f"{error.code} {error.details.get('rank', '')}".strip()
            time.sleep(0.05)
        seconds = time.monotonic() - start_s
        dist.barrier()
        model(input_ids=rows_of(0))  # nobody raises it twice
    return {"found": found, "seconds": seconds}


@contextmanager
def process_group(rank: int, world: int, folder: Path) -> Iterator[None]:
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    try:
        yield
    finally:
        dist.barrier()
        dist.destroy_process_group()


def run(rank: int, world: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)}
    torch.set_num_threads(1)
    with process_group(rank, world, folder):
        for name, function in CHECKS.items():
            start_s = time.monotonic()
            named = {"folder": folder} if "folder" in function.__annotations__ else {}
            try:
                answer = function(rank, world, **named)
            except Exception:  # noqa: BLE001 - the test tells it
                answer = {"failed": traceback.format_exc()}
            line = {"check": name, "rank": rank, "answer": answer, "seconds": round(time.monotonic() - start_s, 2)}
            os.write(1, (json.dumps(line) + "\n").encode())


def main(world: int, folder: Path) -> None:
    children = []
    for rank in range(world):
        if (child := os.fork()) == 0:
            run(rank, world, folder)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    copy.deepcopy(tiny("gpt2")), tiny("bert"), tiny("llama")  # their modules are imported before the fork
    main(int(sys.argv[1]), Path(sys.argv[2]))
