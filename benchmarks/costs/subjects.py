"""The models that are called, the ways to call them, and their variants: plain, guarded, strict and so on."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

import safetransformers

from .rows import PLAIN

BATCHES: Final = (1, 8, 32)
SEQUENCES: Final = (32, 128, 512, 2048)
CONTROL: Final = "plain again"
"""The same as plain: how far its ratio is from 1 is how far any ratio may be by chance."""
EMPTY, TINY_BERT, TINY_LLAMA, BERT_BASE, LLAMA_1B = "empty module", "tiny BERT", "tiny Llama", "BERT-base", "Llama 1B"
MASKED, RIGHT, LEFT, FULL = "mask passed", "right padding, no mask", "left padding, no mask", "no padding, no mask"
CALLS: Final = (MASKED, RIGHT, LEFT, FULL)
PAD: Final = 0
_VOCABULARY: Final = 1000
_VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "guarded": {},
    "strict": {"strict": True},
    "device_checks=record": {"device_checks": "record"},
}


class Empty(BertModel):  # type: ignore[no-untyped-call]  # transformers annotates no __init_subclass__
    """A model whose forward does nothing: what is left is the cost of calling it."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor | None:
        """Return the ids."""
        return input_ids


class Subject(NamedTuple):
    """A model to call.

    Attributes:
        make: builds it with random weights.
        longest: tokens of a row that it takes.
        cpu_shapes: batches and sequences that a CPU is asked for; the others are left to a GPU.
        gpu_dtype: of its weights on a GPU.
    """

    make: Callable[[], nn.Module]
    longest: int = 2048
    cpu_shapes: tuple[tuple[int, int], ...] = ()
    gpu_dtype: torch.dtype = torch.float32


def _bert(**sizes: Any) -> BertConfig:
    return BertConfig(vocab_size=_VOCABULARY, pad_token_id=PAD, **sizes)


def _llama(**sizes: Any) -> LlamaConfig:
    return LlamaConfig(vocab_size=_VOCABULARY, pad_token_id=PAD, bos_token_id=1, eos_token_id=2, **sizes)


def _tiny_bert() -> nn.Module:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return BertModel(_bert(**sizes, max_position_embeddings=2048))


def tiny_llama_config() -> LlamaConfig:
    """Two layers of 64."""
    return _llama(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)


def _llama_1b() -> nn.Module:
    """The sizes of Llama 3.2 1B without its vocabulary, whose logits would fill the memory."""
    sizes = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
    return LlamaModel(_llama(**sizes, intermediate_size=8192))


def _up_to(tokens: int) -> tuple[tuple[int, int], ...]:
    return tuple((batch, sequence) for batch in BATCHES for sequence in SEQUENCES if batch * sequence <= tokens)


SUBJECTS: Final = {
    EMPTY: Subject(
        lambda: Empty(_bert(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)), cpu_shapes=_up_to(32 * 2048)
    ),
    TINY_BERT: Subject(_tiny_bert, cpu_shapes=_up_to(4096)),
    TINY_LLAMA: Subject(lambda: LlamaModel(tiny_llama_config()), cpu_shapes=_up_to(4096)),
    BERT_BASE: Subject(lambda: BertModel(_bert()), longest=512, cpu_shapes=((1, 32), (1, 128), (8, 32), (8, 128))),
    LLAMA_1B: Subject(_llama_1b, gpu_dtype=torch.bfloat16),
}


def shapes(name: str, place: str) -> list[tuple[int, int]]:
    """The batches and sequences that a model is run on there; on meta, where nothing is computed, one says all."""
    subject = SUBJECTS[name]
    if place == "meta":
        return [(8, 128)]
    if place == "cpu":
        return list(subject.cpu_shapes)
    return [(batch, sequence) for batch in BATCHES for sequence in SEQUENCES if sequence <= subject.longest]


@functools.lru_cache(maxsize=1)
def variants(name: str, place: str) -> dict[str, nn.Module]:
    """The model plain and guarded in several ways, on the same weights. The last one asked for is kept."""
    subject = SUBJECTS[name]
    torch.manual_seed(0)
    dtype = subject.gpu_dtype if place == "cuda" else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(place):
            plain = subject.make().eval()
    finally:
        torch.set_default_dtype(before)
    return sharing(plain)


def sharing(plain: nn.Module) -> dict[str, nn.Module]:
    """The model, and copies with guards that share its weights."""
    weights = {id(tensor): tensor for tensor in (*plain.parameters(), *plain.buffers())}
    found = {PLAIN: plain, CONTROL: copy.deepcopy(plain, dict(weights))}
    for variant, fields in _VARIANTS.items():
        found[variant] = safetransformers.guard(copy.deepcopy(plain, dict(weights)), **fields)
    return found


def ids_of(call: str, batch: int, sequence: int, place: str) -> Tensor:
    """Random ids; of a padded call each row but the first, and an only row, is padded by a quarter."""
    ids = torch.randint(3, _VOCABULARY, (batch, sequence), generator=torch.Generator().manual_seed(0))
    rows = slice(1 if batch > 1 else 0, None)
    if call in (MASKED, RIGHT):
        ids[rows, -(sequence // 4) :] = PAD
    elif call == LEFT:
        ids[rows, : sequence // 4] = PAD
    return ids.to(place)


def calls(models: dict[str, nn.Module], call: str, batch: int, sequence: int, place: str) -> dict[str, partial[Any]]:
    """The call of each variant that answers it: where a mask is to be inferred, the plain ones are given that mask.

    A strict model refuses padding without a mask, and so has no such call. On meta the mask is one of every pair of
    tokens, which models take as it is: into one of tokens they look, and nothing is there to be seen.
    """
    ids = ids_of(call, batch, sequence, place)
    mask = (ids != PAD).long()
    if place == "meta":
        mask = (mask != 0)[:, None, None, :].expand(batch, 1, sequence, sequence)
    given: dict[str, Tensor] = {} if call == FULL else {"attention_mask": mask}
    if call == LEFT:
        given["position_ids"] = safetransformers.position_ids_from_mask(mask)
    found: dict[str, partial[Any]] = {}
    for variant, model in models.items():
        if variant == "strict" and call in (RIGHT, LEFT):
            continue
        infers = variant not in (PLAIN, CONTROL) and call in (RIGHT, LEFT)
        found[variant] = partial(model, input_ids=ids, **({} if infers else given))
    return found
