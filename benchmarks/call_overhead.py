"""What does the guard add to a call, in host time, over the same call of a plain model?

Each pair runs in turns (A B A B ...) in one process and gets a line and a row of the CSV: medians, quartiles, the
difference in microseconds and the ratio. The empty module shows the hook alone; the BERT has MiniLM's size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measuring import add_row, quartiles, verdict
from torch import Tensor, nn
from transformers import BertConfig, BertModel

import safetransformers

EMPTY = "empty module"
MASK_ON_EMPTY = f"{EMPTY}, a mask passed"
TARGET_EMPTY_US = 2.0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TARGET_MODEL = 1.02


class Empty(BertModel):  # type: ignore[no-untyped-call]  # transformers annotates no __init_subclass__
    """A model whose forward does nothing: what is left is the cost of calling it."""

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None) -> Tensor | None:
        """Return the ids."""
        return input_ids


def small() -> BertConfig:
    """A BERT of the size of MiniLM, with random weights."""
    return BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)


def pair(model: Callable[[], nn.Module], **fields: Any) -> tuple[nn.Module, nn.Module]:
    """The same model plain and guarded."""
    torch.manual_seed(0)
    plain = model().to(DEVICE).eval()
    torch.manual_seed(0)
    return plain, safetransformers.guard(model().to(DEVICE).eval(), **fields)


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Mean seconds of one call over some repeats."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def compare(name: str, plain: Callable[[], Any], guarded: Callable[[], Any], rounds: int, repeats: int) -> None:
    """Time both in turns, print the line, add the row."""
    for call in (plain, guarded):
        seconds(call, repeats)
    if DEVICE == "cuda":
        name += f", on {torch.cuda.get_device_name()}"
    times = [(seconds(plain, repeats), seconds(guarded, repeats)) for _ in range(rounds)]
    (first_a, a, third_a), (first_b, b, third_b) = (quartiles(list(column)) for column in zip(*times, strict=True))
    added_us, ratio = (b - a) * 1e6, b / a
    told = f"adds {added_us:.2f} us"
    if name.startswith(MASK_ON_EMPTY) and "device_checks" not in name:
        told += f", target at most {TARGET_EMPTY_US}: {'met' if added_us <= TARGET_EMPTY_US else 'MISSED'}"
    elif not name.startswith(EMPTY):
        told += f", {verdict(ratio, TARGET_MODEL)}"
    print(f"{name:54} plain {a * 1e6:9.2f} us, guarded {b * 1e6:9.2f} us: {told}")
    add_row(
        "call_overhead",
        {
            "call": name,
            "rounds": str(rounds),
            "plain_median_us": f"{a * 1e6:.3f}",
            "plain_iqr_us": f"{(third_a - first_a) * 1e6:.3f}",
            "guarded_median_us": f"{b * 1e6:.3f}",
            "guarded_iqr_us": f"{(third_b - first_b) * 1e6:.3f}",
            "added_us": f"{added_us:.3f}",
            "ratio": f"{ratio:.4f}",
        },
    )


def main() -> None:
    """Measure, print, and add rows to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=31, help="pairs of timings (default 31)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    full = torch.randint(1000, 2000, (8, 128), generator=generator).to(DEVICE)
    ones, padded = torch.ones_like(full), full.clone()
    padded[1:, 100:] = 0
    mask = (padded != 0).long()
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    with torch.no_grad():
        plain, guarded = pair(lambda: Empty(config))
        cases: dict[str, dict[str, Tensor]] = {"a mask passed": {"attention_mask": ones}, "no mask, no padding": {}}
        for name, kwargs in cases.items():
            a, b = (partial(model, input_ids=full, **kwargs) for model in (plain, guarded))
            compare(f"{EMPTY}, {name}", a, b, rounds, 2000)
        plain, guarded = pair(lambda: BertModel(small()))
        runs: tuple[tuple[str, Tensor, dict[str, Tensor], dict[str, Tensor]], ...] = (
            ("a mask passed", padded, {"attention_mask": mask}, {"attention_mask": mask}),
            ("no mask, no padding", full, {}, {}),
            ("mask inferred, plain gets the same mask", padded, {"attention_mask": mask}, {}),
        )
        for name, ids, theirs, ours in runs:
            a, b = partial(plain, input_ids=ids, **theirs), partial(guarded, input_ids=ids, **ours)
            compare(f"BERT 8 x 128, {name}", a, b, max(rounds // 3, 4), 3)
        for checks in ("record", "eager"):
            name = f'a mask passed, device_checks="{checks}"'
            plain, guarded = pair(lambda: Empty(config), device_checks=checks)
            a, b = (partial(model, input_ids=full, attention_mask=ones) for model in (plain, guarded))
            compare(f"{EMPTY}, {name}", a, b, rounds, 2000)
            plain, guarded = pair(lambda: BertModel(small()), device_checks=checks)
            a, b = (partial(model, input_ids=padded, attention_mask=mask) for model in (plain, guarded))
            compare(f"BERT 8 x 128, {name}", a, b, max(rounds // 3, 4), 3)


if __name__ == "__main__":
    main()
