"""The hooks of a guarded model: one decides before forward, one puts outputs back after it where rows were moved.

Both are module-level, picklable objects that hold no model, so a guarded model can be copied, pickled, compiled and
freed as before. With a mask given the first returns at once.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Hashable, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from .. import compat, policies
from ..counts import count
from ..errors import GuardError, SafeTransformersError
from . import notes
from .call import Call
from .exact import assemble, split
from .facts import Facts, token_id
from .layout import Layout, leaves
from .mask import is_among, is_integer, mask_decoder, mask_edges, position_ids_from_mask
from .plan import Group, Plan, attach, attached, learn_layout
from .roll import roll, roll_back
from .scope import is_untouched, untouched

logger = logging.getLogger(__name__)

_registering = threading.Lock()

_LAST_ONLY = ("logits_to_keep", "num_logits_to_keep")  # ask for the outputs of a row's last tokens alone

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class PaddingHook:
    """The forward pre-hook: infers the mask of a padded call that has none, by the rules of docs/padding.md.

    Args:
        facts: of the model it is registered on.
        layer: policy fields of this model alone.
    """

    def __init__(self, facts: Facts, layer: Mapping[str, Any]) -> None:
        self.facts = facts
        self.layer: Mapping[str, Any] = dict(layer)
        takes_mask = facts.takes("attention_mask")
        self._mask_at = facts.parameters.index("attention_mask") if takes_mask else sys.maxsize
        self.told = False
        self._reads_masks = "exact" in (facts.right, facts.left)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """The arguments that forward gets instead, or None to leave the call alone."""
        mask = kwargs.get("attention_mask")
        if mask is None and len(args) > self._mask_at:
            mask = args[self._mask_at]
        if torch.compiler.is_compiling():
            return self._traced(module, Call(self.facts.parameters, args, kwargs), mask)
        if mask is not None and not self._reads_masks and not policies.may_be_exact():
            return None
        if is_untouched():
            return None
        try:
            return self._decide(module, Call(self.facts.parameters, args, kwargs), mask)
        except SafeTransformersError:
            raise
        except Exception as error:
            if policies.is_strict(self.layer):
                raise GuardError(
                    "ST-GUARD-001",
                    f"the padding guard failed on {self.facts.name}: {type(error).__name__}: {error}",
                    do="pass an attention_mask, and report this as a bug of safetransformers",
                    off='safetransformers.configure(padding="off")',
                ) from error
            logger.exception("the padding guard failed on %s; the call goes on unguarded", self.facts.name)
            count("padding.failed")
            return None

    def _decide(self, module: nn.Module, call: Call, mask: Any) -> Arguments | None:
        mode = policies.resolve("padding", self.layer)
        ids = call.get("input_ids")
        if mode == "off" or not has_rows(ids) or call.is_foreign():
            return None
        if _is_unreadable(ids):
            return self._traced(module, call, mask)
        if mask is not None:
            return self._masked(module, call, mask, mode)
        pad = token_id(module, self.facts, "pad")
        if not isinstance(pad, int):
            return None
        decoder_ids = call.get("decoder_input_ids") if self.facts.is_encoder_decoder else None
        if call.get("encoder_hidden_states") is not None:  # this model is the decoder of another one
            return self._mask_target(module, call, pad, mode, "input_ids", "attention_mask")
        pads = ids == pad
        leading, trailing = edges(pads)
        if not leading and not trailing:
            return self._mask_target(module, call, pad, mode) if decoder_ids is not None else None
        notes.found(self, pads, pad, mode)
        if mode == "warn":
            return None
        mask = self._infer(module, pads, pad, leading, trailing)
        if mode == "exact":
            return self._exact(module, call, mask, self._infer_target(module, call, pad))
        return self._apply(module, call, mask, pad, leading, trailing)

    def _apply(self, module: nn.Module, call: Call, mask: Tensor, pad: int, leading: bool, trailing: bool) -> Arguments:
        """The mask, and what left padding needs beside it."""
        facts = self.facts
        is_wrong = (trailing and facts.right == "exact") or (leading and facts.left == "exact")
        if is_wrong or (facts.wrong_hidden_states and _asks_for_hidden_states(module, call)):
            notes.not_invariant(self, "left" if leading else "right")
        elif not facts.measured:
            notes.unmeasured(self)
        count("padding.inferred")
        changes: dict[str, Any] = {"attention_mask": mask} if facts.takes("attention_mask") else {}
        target = self._infer_target(module, call, pad)
        if target is not None:
            changes["decoder_attention_mask"] = target
        if leading and facts.left == "positions" and facts.takes("position_ids"):
            changes["position_ids"] = position_ids_from_mask(mask)
        if leading and facts.left == "roll":
            if any(call.get(name) for name in _LAST_ONLY):
                return self._exact(module, call, mask, target)  # of rolled rows the last columns are padding
            if call.get("use_cache") is not True:
                ensure_restoring(module)
                return (), roll(facts, {**call.named(), **changes}, mask)
            notes.not_invariant(self, "left")  # rolled rows must never get into a cache
        return call.replaced(**changes)

    def _masked(self, module: nn.Module, call: Call, mask: Any, mode: str) -> Arguments | None:
        """A call with a mask is left alone, except where no mask can make the architecture right."""
        ids = call.get("input_ids")
        is_silent = mode != "exact" and (not self._reads_masks or notes.is_told(self))
        if is_silent or not isinstance(mask, Tensor) or mask.shape != ids.shape:
            return None
        leading, trailing = edges(mask == 0)
        if not leading and not trailing:
            return None
        if mode == "exact":
            if not bool((mask_edges(mask == 0) == (mask != 0)).all()):
                return None  # holes inside a row are no padding
            return self._exact(module, call, mask, None)
        if (trailing and self.facts.right == "exact") or (leading and self.facts.left == "exact"):
            notes.not_invariant(self, "left" if leading else "right")
        return None

    def _exact(self, module: nn.Module, call: Call, mask: Tensor, target_mask: Tensor | None) -> Arguments:
        decoder_ids = call.get("decoder_input_ids") if self.facts.is_encoder_decoder else None
        if target_mask is None and decoder_ids is not None:
            given = call.get("decoder_attention_mask")
            target_mask = torch.ones_like(decoder_ids) if given is None else given
        plan = split(self.facts, call, mask, target_mask)
        count("padding.exact")
        inputs = dict(plan.groups[0].inputs)
        attach(inputs["input_ids"], plan)
        ensure_restoring(module)
        return (), inputs

    def _infer(self, module: nn.Module, pads: Tensor, pad: int, leading: bool, trailing: bool) -> Tensor:
        """The encoder side's mask. A row that does not begin with the bos token shows that no row was given one."""
        eos, bos = token_id(module, self.facts, "eos"), token_id(module, self.facts, "bos")
        keep_eos = trailing and is_among(pad, eos)
        keep_bos = leading and is_among(pad, bos) and bool(pads[:, 0].all())
        if keep_eos or (leading and is_among(pad, bos)):
            notes.ambiguous(self, pad, "eos" if keep_eos else "bos")
        return mask_edges(pads, leading=leading, trailing=trailing, keep_eos=keep_eos, keep_bos=keep_bos)

    def _infer_target(
        self, module: nn.Module, call: Call, pad: int, ids_name: str = "decoder_input_ids"
    ) -> Tensor | None:
        """The decoder side's mask, or None where its ids have no padding or the caller masked them."""
        mask_name = "decoder_attention_mask" if ids_name == "decoder_input_ids" else "attention_mask"
        ids = call.get(ids_name)
        if not self.facts.takes(mask_name) or call.get(mask_name) is not None or not has_rows(ids):
            return None
        mask = mask_decoder(ids, pad, eos_token_id=token_id(module, self.facts, "eos"))
        return None if bool(mask.all()) else mask

    def _mask_target(
        self,
        module: nn.Module,
        call: Call,
        pad: int,
        mode: str,
        ids_name: str = "decoder_input_ids",
        mask_name: str = "decoder_attention_mask",
    ) -> Arguments | None:
        """A call whose decoder ids alone can be padded. Causal attention keeps such padding away from real tokens."""
        target = self._infer_target(module, call, pad, ids_name)
        if target is None:
            return None
        if self.facts.right == "exact":
            if mode == "exact" and ids_name == "decoder_input_ids":
                return self._exact(module, call, torch.ones_like(call.get("input_ids")), target)
            notes.not_invariant(self, "right")
        return call.replaced(**{mask_name: target}) if mode in ("infer", "exact") else None

    def _traced(self, module: nn.Module, call: Call, given: Any) -> Arguments | None:
        """Under compile, export and tracing: tensor ops only, the policy and the pad id fixed when traced."""
        if given is not None:
            needs_values = (self._reads_masks or policies.may_be_exact()) and torch.compiler.is_dynamo_compiling()
            if needs_values and notes.mode_when_traced(tuple(sorted(self.layer.items()))) in ("exact", "raise"):
                return _decide_by_value(self, module, call)
            return None
        ids = call.get("input_ids")
        pad = token_id(module, self.facts, "pad")
        # A cache counts as filled: whether it is would be a value on the device. It also marks the calls of generate().
        if not isinstance(pad, int) or not has_rows(ids) or call.is_foreign(any_cache=True):
            return None
        mode = notes.mode_when_traced(tuple(sorted(self.layer.items())))
        if mode == "off":
            return None
        if mode != "infer" and torch.compiler.is_dynamo_compiling():
            return _decide_by_value(self, module, call)
        if mode in ("raise", "exact"):
            notes.refuse_traced(mode, self.facts.name)
        if mode == "warn" or not self.facts.takes("attention_mask"):
            return None
        pads = ids == pad
        is_decoder = call.get("encoder_hidden_states") is not None
        eos = token_id(module, self.facts, "eos")
        if is_decoder:
            return call.replaced(attention_mask=mask_decoder(ids, pad, eos_token_id=eos))
        keep_eos = is_among(pad, eos)
        mask = mask_edges(pads, keep_eos=keep_eos)
        if is_among(pad, token_id(module, self.facts, "bos")):
            with_bos = mask_edges(pads, keep_eos=keep_eos, keep_bos=True)
            mask = torch.where(pads[:, :1].all(), with_bos, mask)
        changes = {"attention_mask": mask}
        if self.facts.left_when_traced == "positions" and self.facts.takes("position_ids"):
            changes["position_ids"] = position_ids_from_mask(mask)
        return call.replaced(**changes)


@compat.not_compiled("safetransformers' padding policy looks at values: pass an attention_mask, or use padding='infer'")
def _decide_by_value(hook: PaddingHook, module: nn.Module, call: Call) -> Arguments | None:
    """A graph break: a policy that needs values decides outside the compiled graph."""
    return hook(module, call.args, call.kwargs)


class RestoreHook:
    """The forward hook that puts the outputs of moved rows back; returns at once where no row was moved."""

    def __init__(self) -> None:
        self._layouts: dict[Hashable, Layout] = {}

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """The output put back, or None to leave it as it is."""
        plan = attached(kwargs.get("input_ids"))
        return None if plan is None else self._restore(module, plan, output)

    @compat.not_compiled("rows that were moved are put back outside the compiled graph")
    def _restore(self, module: nn.Module, plan: Plan, output: Any) -> Any:
        tensors = tuple((path, leaf.dim()) for path, leaf in leaves(output) if isinstance(leaf, Tensor))
        key = (plan.options(), tensors)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = learn_layout(module, plan)
        if plan.back is not None:
            return roll_back(plan, output, layout)

        def run(group: Group) -> Any:
            with untouched():
                return module(**group.inputs)

        return assemble(plan, output, layout, run)


def hook_of(module: nn.Module) -> PaddingHook | None:
    """The padding hook of a guarded model, or None."""
    return next((hook for hook in module._forward_pre_hooks.values() if isinstance(hook, PaddingHook)), None)


def ensure_restoring(module: nn.Module) -> None:
    """Register the ``RestoreHook`` when a call first needs it: models that never do are spared its cost.

    It goes first, so that the user's own forward hooks see the outputs where the tokens stood.
    """
    with _registering:
        if not any(isinstance(hook, RestoreHook) for hook in module._forward_hooks.values()):
            module.register_forward_hook(RestoreHook(), prepend=True, with_kwargs=True)


def edges(pads: Tensor) -> tuple[bool, bool]:
    """Whether any row begins, and whether any ends, with padding. Cost: one small kernel and one sync."""
    leading, trailing = pads[:, :: pads.shape[1] - 1].any(0).tolist()
    return leading, trailing


def _asks_for_hidden_states(module: nn.Module, call: Call) -> bool:
    asked = call.get("output_hidden_states")
    return bool(getattr(module.config, "output_hidden_states", False) if asked is None else asked)


def has_rows(ids: Any) -> TypeGuard[Tensor]:
    """Whether these are 2-D integer ids of more than one column: a single column has no edge to be padding."""
    return isinstance(ids, Tensor) and ids.dim() == 2 and is_integer(ids) and ids.shape[1] > 1 and ids.shape[0] > 0


def _is_unreadable(ids: Tensor) -> bool:
    """Whether a value cannot be read, or not without breaking a capture: traced, fake and meta tensors, CUDA graphs."""
    return (
        type(ids) is not Tensor
        or ids.is_meta
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_functorch_wrapped_tensor(ids)
        or (ids.is_cuda and torch.cuda.is_current_stream_capturing())
    )
