"""``generate()`` of a guarded model: its mask is decided once, before it starts; inside it nothing is touched."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import torch
from torch import Tensor, nn

from .. import failing, policies
from ..counts import count
from ..devices.eager import proving
from ..memory import generation
from . import notes
from .call import Call, is_filled
from .facts import token_id
from .hook import PaddingHook, edges, guarding, has_rows, hook_of
from .mask import mask_special
from .roll import rolled
from .scope import is_untouched, untouched

# References to a GuardedGenerate that nobody keeps: the model's attribute, a local variable, getrefcount's argument.
_HELD_BY_ATTRIBUTE = 3


class GuardedGenerate:
    """The ``generate`` of one guarded model, as an attribute of the instance; the class is not touched.

    It refers to the model weakly, so that ``del model`` still frees the weights at once, and follows it through
    ``deepcopy`` and ``pickle``. Where it alone is left of the model, as in ``load().generate(ids)``, it keeps the
    model's attributes, as a bound method would.
    """

    def __init__(self, model: Any, inner: Callable[..., Any] | None = None) -> None:
        self.inner = inner
        update_wrapper(self, type(model).generate, updated=())
        self._bind(model)

    def _bind(self, model: Any) -> None:
        # The attributes hold this object, which holds them: that cycle is broken as soon as the model is gone.
        self._class: type[Any] = type(model)
        self._attributes: dict[str, Any] = vars(model)
        me = weakref.ref(self)

        def let_go(_: Any) -> None:
            generate = me()
            if generate is not None and sys.getrefcount(generate) <= _HELD_BY_ATTRIBUTE:
                generate._attributes = {}

        self._model: weakref.ref[Any] = weakref.ref(model, let_go)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.plain)

    @property
    def __self__(self) -> Any:
        model = self._model()
        if model is None:
            model = object.__new__(self._class)
            object.__setattr__(model, "__dict__", self._attributes)
            self._bind(model)
        return model

    @property
    def plain(self) -> Callable[..., Any]:
        """The model's generate as it is without the guard."""
        bound: Callable[..., Any] = type(self.__self__).generate.__get__(self.__self__)
        return bound if self.inner is None else self.inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Decide the mask, then generate with nothing touched inside."""
        model = self.__self__
        hook = hook_of(model)
        if hook is None or is_untouched(model):
            return self.plain(*args, **kwargs)
        found = hook.suspects(model, Call(("input_ids",), (), _named_prompt(args, kwargs)))
        mask = guarding(hook, lambda: prompt_mask(model, hook, args, kwargs))
        if mask is not None:
            args, kwargs = masked_prompt(hook, args, kwargs, mask)
        with untouched(model, kwargs.get("assistant_model")), proving(hook.facts.name, found):
            try:
                return self.plain(*args, **kwargs)
            except Exception as error:  # outside forward too: the cache grows, logits are sorted
                failing.tell(model, {**dict(zip(("inputs", "generation_config"), args, strict=False)), **kwargs}, error)
                if not generation.may_split(model, hook.layer, error):
                    raise
                failure = error
            # Outside of except, where what the failed call holds can be freed.
            pad, _, _ = _special_tokens(model, hook, args, kwargs)
            return generation.in_halves(model, hook.facts, self.plain, args, kwargs, pad, failure)

    def __reduce__(self) -> tuple[Any, ...]:
        return GuardedGenerate, (self.__self__, self.inner)


def prompt_mask(model: nn.Module, hook: PaddingHook, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The mask of a call of generate, or None where it is not padded or not ours to mask.

    A prompt with a pad in the middle and none at an edge gets a mask of ones: transformers would mask the middle
    (``_prepare_attention_mask_for_generation``, generation/utils.py, 5.23).

    Raises:
        PaddingError: where the policy says so.
    """
    ids = _named_prompt(args, kwargs)["input_ids"]
    mode = policies.resolve("padding", hook.layer)
    given = ("attention_mask", "inputs_embeds", "encoder_outputs", "position_ids")
    if mode == "off" or not has_rows(ids) or any(kwargs.get(name) is not None for name in given):
        return None
    pad, eos, bos = _special_tokens(model, hook, args, kwargs)
    if pad is None or is_filled(kwargs.get("past_key_values")):
        return None
    pads: Tensor = ids == pad
    leading, trailing = edges(pads)
    if not leading and not trailing:
        is_decoder_only = not hook.facts.is_encoder_decoder and hook.facts.takes("attention_mask")
        return torch.ones_like(ids, dtype=torch.int64) if is_decoder_only and bool(pads.any()) else None
    notes.found(hook, pads, pad, mode)
    if mode == "warn":
        return None
    mask, other = mask_special(pads, pad, eos, bos, leading, trailing)
    if other:
        notes.ambiguous(hook, pad, other)
    if trailing and not hook.facts.is_encoder_decoder and not bool(mask[:, -1].all()):
        notes.right_padded_prompt(hook)
    # An encoder's rows can be rolled, see masked_prompt; a decoder's cannot, for their cache outlives the call.
    left_is_wrong = hook.facts.left == "exact" or (hook.facts.left == "roll" and not hook.facts.is_encoder_decoder)
    if (leading and left_is_wrong) or (trailing and hook.facts.right == "exact"):
        notes.not_invariant(hook, "left" if leading else "right")
    if not hook.facts.takes("attention_mask"):
        return None
    count("padding.inferred_for_generate")
    return mask


def masked_prompt(
    hook: PaddingHook, args: tuple[Any, ...], kwargs: dict[str, Any], mask: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call of generate with its mask; left-padded encoder rows that need it with their padding rolled to the end.

    The decoder reads the encoder's rows through the mask, in any order, so nothing has to be rolled back but the
    encoder states that ``return_dict_in_generate=True`` returns: their padding comes last.
    """
    if not (hook.facts.is_encoder_decoder and hook.facts.left == "roll" and bool((mask[:, 0] == 0).any())):
        return args, {**kwargs, "attention_mask": mask}
    named = {**kwargs, "attention_mask": mask} | ({"inputs": args[0]} if args else {})
    changed = rolled(named, mask, hook.facts)[0]
    return ((changed.pop("inputs"), *args[1:]) if args else args), changed


def _named_prompt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by forward's names: a prompt is passed first, as ``inputs``, or as ``input_ids``."""
    ids = kwargs.get("input_ids")
    return {**kwargs, "input_ids": kwargs.get("inputs", args[0] if args else None) if ids is None else ids}


def _special_tokens(
    model: nn.Module, hook: PaddingHook, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int | None, Any, Any]:
    """Pad, eos and bos of a call; without a pad token its first eos pads (``_prepare_special_tokens``, 5.23)."""
    config = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
    pad, eos, bos = (_token_id(which, model, hook, kwargs, config) for which in ("pad", "eos", "bos"))
    if pad is None:
        pad = eos[0] if isinstance(eos, (list, tuple)) and eos else eos
    return pad if isinstance(pad, int) else None, eos, bos


def _token_id(which: Any, model: nn.Module, hook: PaddingHook, kwargs: dict[str, Any], config: Any) -> Any:
    """A special token's id as generate sees it: its keyword, its generation_config, then the model's own."""
    name = f"{which}_token_id"
    for value in (kwargs.get(name), getattr(config, name, None)):
        if value is not None:
            return value
    return token_id(model, hook.facts, which)
