"""Real shortages of memory, each under a limit of the operating system; run as a script, it prints them as JSON.

A limit on the address space (``ulimit -v``) makes torch's own CPU allocator fail, as a full GPU makes the CUDA one.
"""

from __future__ import annotations

import copy
import gc
import json
import pickle
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from models import tiny
from transformers import Trainer, TrainerCallback, TrainingArguments

import safetransformers as st

_MIB = 2**20
_ROOM = 40 * _MIB  # a third of what a batch needs, and much more than a row does
_NONE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Nothing fits inside the block but what is there already, and this much."""
    gc.collect()  # what an earlier failure holds in its frames would be room, once it goes
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + n_bytes, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, _NONE)


def failed(call: Callable[[], Any], n_bytes: int = _ROOM) -> dict[str, Any]:
    """What a call raised that has this much room, and what it left on the error."""
    try:
        with room_for(n_bytes):
            call()
    except (RuntimeError, MemoryError) as error:
        return {"type": type(error).__name__, "args": error.args, "notes": getattr(error, "__notes__", [])}
    return {"type": "", "args": (), "notes": []}


def difference(one: Any, other: Any) -> float:
    """The largest difference of two outputs, their caches included."""
    tensors = zip(_tensors(one), _tensors(other), strict=True)
    return max((a - b).abs().max().item() if a.shape == b.shape else float("inf") for a, b in tensors)


def _tensors(output: Any) -> Iterator[Any]:
    for value in output.values():
        if isinstance(value, torch.Tensor):
            yield value
        else:
            for layer in value.layers:
                yield from (layer.keys, layer.values)


def _take_more_than_there_is(module: Any, args: Any, output: Any) -> None:
    """One row alone may fit in what malloc keeps from before."""
    torch.empty(4 * _ROOM, dtype=torch.uint8)


def inference() -> dict[str, Any]:
    """Calls of BERT and GPT-2 that need some hundred MiB, where there are forty."""
    ids = torch.randint(3, 60, (32, 512))
    mask = torch.ones_like(ids)
    mask[3, 400:] = 0
    found: dict[str, Any] = {}
    sizes = {
        "bert": {"intermediate_size": 1024, "max_position_embeddings": 512},
        "gpt2": {"n_positions": 512, "n_inner": 1024},
    }
    for name, config in sizes.items():
        plain = tiny(name, **config)
        model = st.guard(copy.deepcopy(plain))
        copied = copy.deepcopy(model)

        def call(which: Any = model, **more: Any) -> Any:
            return which(input_ids=ids, attention_mask=mask, **more)

        with torch.no_grad():
            expected = call(plain)
            found[f"{name} plain"] = failed(lambda plain=plain: call(plain))
            found[f"{name} explain"] = failed(call)
            with st.policy(on_oom="off"):
                found[f"{name} off"] = failed(call)
            with st.policy(errors="off"):
                found[f"{name} errors off"] = failed(call)
            for label, which in ((name, model), (f"{name} copied", copied)):
                with st.policy(on_oom="split"), warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    st.notices.forget()
                    with room_for(_ROOM):
                        output = call(which)
                    found[f"{label} split"] = difference(output, expected)
                    found[f"{label} told"] = [str(warning.message) for warning in told]
                    del output
            with st.policy(on_oom="split"):
                again = pickle.loads(pickle.dumps(model))
                found[f"{name} pickled"] = vars(again)["forward"].__self__ is again
                greedy = model.get_input_embeddings().register_forward_hook(_take_more_than_there_is)
                found[f"{name} one row"] = failed(lambda model=model: model(input_ids=ids[:1], attention_mask=mask[:1]))
                greedy.remove()
                with torch.enable_grad():
                    found[f"{name} with gradients"] = failed(call)
                model.train()
                found[f"{name} in training"] = failed(call)
                model.eval()
                if name == "gpt2":
                    found["gpt2 with labels"] = failed(lambda: call(labels=ids))
    with torch.enable_grad():
        found["training"] = failed(call)
    found["generate"] = failed(lambda: model.generate(ids, attention_mask=mask, max_new_tokens=2, pad_token_id=0))
    return found


def generation() -> dict[str, Any]:
    """Searches of a GPT-2 and a T5 whose prompts need some hundred MiB, where there are forty."""
    prompts = torch.randint(3, 60, (32, 400))
    found: dict[str, Any] = {}
    sizes = {"gpt2": {"n_positions": 512, "n_inner": 1024}, "t5": {"d_ff": 1024}}
    for name, config in sizes.items():
        torch.manual_seed(3)
        plain = tiny(name, **config)
        model = st.guard(copy.deepcopy(plain))
        start = prompts.shape[1] if name == "gpt2" else 1
        mask = torch.ones_like(prompts)
        mask[3, :100] = 0
        free = plain.generate(prompts, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None)
        # A token that some rows come to before others: their halves are of other lengths.
        eos = int(free[0, start + 1])
        given = {"attention_mask": mask, "max_new_tokens": 6, "eos_token_id": eos, "pad_token_id": 0}
        expected = plain.generate(prompts, **given)
        with st.policy(on_oom="split"), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            st.notices.forget()
            with room_for(_ROOM):
                output = model.generate(prompts, **given)
        found[f"{name} greedy"] = torch.equal(output, expected)
        found[f"{name} greedy told"] = [str(one.message) for one in told if "ST-OOM" in str(one.message)]
        found[f"{name} explain"] = failed(lambda model=model, given=given: model.generate(prompts, **given))
        others = {
            "sampled": {"do_sample": True},
            "by beams": {"num_beams": 2},
            "with states": {"return_dict_in_generate": True},
            "by the clock": {"max_time": 60.0},
        }
        with st.policy(on_oom="split"):
            for label, more in others.items():
                found[f"{name} {label}"] = failed(
                    lambda model=model, given=given, more=more: model.generate(prompts, **given, **more)
                )
            model.generation_config.do_sample = True
            found[f"{name} sampled by its config"] = failed(
                lambda model=model, given=given: model.generate(prompts, **given)
            )
            found[f"{name} one row"] = failed(
                lambda model=model: model.generate(prompts[:1], do_sample=False, max_new_tokens=2), 0
            )
    return found


_ROWS = 80


class _Tightening(TrainerCallback):
    """From the end of a step on there is this much room and no more."""

    def __init__(self, stack: ExitStack, after: int, n_bytes: int) -> None:
        self.stack, self.after, self.n_bytes = stack, after, n_bytes

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.after:
            self.after = 0
            self.stack.enter_context(room_for(self.n_bytes))


def _trained(model: Any, batch: int, *, room: int | None = None, after: int = 0, **more: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    data = [
        {"input_ids": torch.randint(3, 60, (256,), generator=generator), "labels": torch.tensor(i % 2)}
        for i in range(_ROWS)
    ]
    if model.config.model_type == "gpt2":
        data = [{**row, "labels": row["input_ids"]} for row in data]
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            logging_steps=1,
            learning_rate=1e-3,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **{"max_steps": 4, "save_strategy": "no", **more},
        )
        trainer = Trainer(model=copy.deepcopy(model), args=args, train_dataset=data)
        with ExitStack() as stack:
            if room is not None and after:
                trainer.add_callback(_Tightening(stack, after, room))
            elif room is not None:
                stack.enter_context(room_for(room))
            trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "losses": [float(loss) for loss in losses],
        "batch": args.per_device_train_batch_size,
        "accumulation": args.gradient_accumulation_steps,
        "weights": sum(parameter.double().sum().item() for parameter in trainer.model.parameters()),
    }


def training() -> dict[str, Any]:
    """Runs of the Trainer whose backward does not fit, beside the same runs undisturbed."""
    st.patch()
    found: dict[str, Any] = {}
    bert = tiny("bert-classifier", intermediate_size=2048, max_position_embeddings=256)
    gpt2 = tiny("gpt2", n_positions=256, n_inner=2048)
    for name, model in {"bert": bert, "gpt2": gpt2}.items():
        found[f"{name} undisturbed"] = _trained(model, 16)
        found[f"{name} fails"] = failed(lambda model=model: _trained(model, 16), 90 * _MIB)
        with st.policy(on_oom="accumulate"), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            st.notices.forget()
            found[name] = _trained(model, 16, room=90 * _MIB)
            found[f"{name} told"] = [str(warning.message) for warning in told if "ST-OOM" in str(warning.message)]
    for name, saving in {"late": {}, "late, saved": {"save_strategy": "steps", "save_steps": 1}}.items():
        with st.policy(on_oom="accumulate"), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            st.notices.forget()
            found[name] = _trained(bert, 16, room=50 * _MIB, after=2, **saving)
            found[f"{name} told"] = [str(warning.message) for warning in told if "ST-OOM" in str(warning.message)]
    with st.policy(on_oom="accumulate"):
        found["one row"] = failed(lambda: _trained(bert, 1), 1)
    return found


_CASES = {"inference": inference, "generation": generation, "training": training}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(f"\n{json.dumps(_CASES[sys.argv[1]]())}")
