"""The hooks of a guarded model: one decides before forward, one puts outputs back after it where rows were moved.

Both are module-level, picklable objects that hold no model, so a guarded model can be copied, pickled, compiled and
freed as before. With a mask given the first returns at once.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from .. import compat, policies, ranks
from ..counts import count
from ..devices.check import suspects
from ..devices.eager import start_proof
from ..devices.findings import Finding
from ..errors import GuardError, PaddingError, SafeTransformersError, SafeTransformersWarning
from . import in_step, notes
from .call import Call, is_unreadable
from .exact import LAST_ONLY, assemble, split
from .facts import Facts, token_id
from .layout import Layout, leaves
from .mask import is_among, is_integer, mask_decoder, mask_edges, mask_special, position_ids_from_mask
from .plan import Plan, attach, attached, learn_layout, taken
from .roll import is_rollable, roll, roll_back
from .scope import is_untouched, untouched

logger = logging.getLogger(__name__)

_registering = threading.Lock()

Result = TypeVar("Result")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class PaddingHook:
    """The forward pre-hook: infers the mask of a padded call that has none, by the rules of docs/padding.md.

    Args:
        facts: of the model it is registered on.
        layer: policy fields of this model alone.
    """

    def __init__(self, facts: Facts, layer: Mapping[str, Any]) -> None:
        self.facts = facts
        takes_mask = facts.takes("attention_mask")
        self._mask_at = facts.parameters.index("attention_mask") if takes_mask else sys.maxsize
        self.told = False
        self._reads_masks = "exact" in (facts.right, facts.left)
        self.layer = layer

    @property
    def layer(self) -> Mapping[str, Any]:
        """Policy fields of this model alone."""
        return self._layer

    @layer.setter
    def layer(self, fields: Mapping[str, Any]) -> None:
        self._layer = dict(fields)
        self._asks = policies.asks(fields)
        self._looks = self._asks or self._reads_masks  # also at a call that has a mask

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """The arguments that forward gets instead, or None to leave the call alone."""
        mask = kwargs.get("attention_mask")
        if mask is None and len(args) > self._mask_at:
            mask = args[self._mask_at]
        if mask is not None and not self._looks and not policies.is_asked:
            return None
        if torch.compiler.is_compiling():
            return self._traced(module, Call(self.facts.parameters, args, kwargs), mask)
        if is_untouched(module):
            return None
        call = Call(self.facts.parameters, args, kwargs)
        if found := self.suspects(module, call):
            start_proof(module, self.facts.name, found)
        return guarding(self, lambda: self._decide(module, call, mask))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "told": False}  # another process was told nothing

    def suspects(self, module: nn.Module, call: Call) -> list[Finding]:
        """What the checks of the device suspect in a call, where the policy asks for any; see ``devices/check.py``."""
        if not self._asks and not policies.is_asked:
            return []
        return guarding(self, lambda: suspects(module, call, self.layer), field="device_checks") or []

    def _decide(self, module: nn.Module, call: Call, mask: Any) -> Arguments | None:
        mode = policies.resolve("padding", self.layer)
        if mode == "exact" and has_rows(call.get("input_ids")) and in_step.is_needed(module):
            ensure_restoring(module)
            return in_step.decide(self.facts, module, call, lambda: self._decide_alone(module, call, mask, mode))
        return self._decide_alone(module, call, mask, mode)

    def _decide_alone(self, module: nn.Module, call: Call, mask: Any, mode: str) -> Arguments | None:
        ids = call.get("input_ids")
        if mode == "off" or not has_rows(ids) or call.is_foreign():
            return None
        if is_unreadable(ids):
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
        mask, other = None, ""
        if leading or trailing:
            eos, bos = token_id(module, self.facts, "eos"), token_id(module, self.facts, "bos")
            mask, other = mask_special(pads, pad, eos, bos, leading, trailing)
        if mask is None or (other and bool(mask.all())):  # every pad at an edge is its row's genuine eos or bos
            return self._mask_target(module, call, pad, mode) if decoder_ids is not None else None
        notes.found(self, pads, pad, mode)
        if mode == "warn":
            return None
        if other:
            notes.ambiguous(self, pad, other)
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
            if is_rollable(module, call, mask):
                if _expects_cache(module, call):
                    notes.no_cache(self)
                ensure_restoring(module)
                return call.replaced(**roll(module, facts, {**call.named(), **changes}, mask))
            notes.not_invariant(self, "left")
            if facts.left_when_traced == "positions" and facts.takes("position_ids"):
                changes["position_ids"] = position_ids_from_mask(mask)
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
            if not bool((mask_edges(mask == 0) == (mask != 0)).all()):  # holes inside a row are no padding
                if self._reads_masks:
                    notes.not_invariant(self, "left" if leading else "right")
                return None
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
        taken_out: dict[str, Any] = {"attention_mask": None, "decoder_attention_mask": None} | dict.fromkeys(
            LAST_ONLY, 0
        )
        inputs = {name: value for name, value in taken_out.items() if name in call.named()} | plan.groups[0].inputs
        attach(module, inputs["input_ids"], plan)
        ensure_restoring(module)
        return call.replaced(**inputs)

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
            may_look = (self._looks or policies.is_asked) and torch.compiler.is_dynamo_compiling()
            if may_look and notes.mode_when_traced(tuple(sorted(self.layer.items()))) in ("exact", "raise"):
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
        if mode == "infer" and ("exact" in (self.facts.right, self.facts.left) or self.facts.left == "roll"):
            notes.wrong_when_traced(self.facts.name, self.facts.right == "exact")
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

    def __getstate__(self) -> dict[str, Any]:
        return {"_layouts": {}}  # another version of the model's class may lay its outputs out in another way

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """The output put back, or None to leave it as it is."""
        ids = kwargs.get("input_ids")
        plan = attached(args[0] if ids is None and args else ids)
        if not torch.compiler.is_compiling():
            pending = taken(module)
            plan = pending if plan is None else plan
        # Where forward failed this hook is called too, to forget the plan, and there is no output.
        return None if plan is None or output is None else self._restore(module, plan, output)

    @compat.not_compiled("rows that were moved are put back outside the compiled graph")
    def _restore(self, module: nn.Module, plan: Plan, output: Any) -> Any:
        taken(module)  # still there where the call above is compiled; the runs below must not find it
        if plan.is_in_step:
            return in_step.finish(
                module,
                plan,
                output,
                self._layouts.get(_kind(plan, output)),
                lambda: self._layout(module, plan, output),
                lambda inputs: _run(module, inputs),
            )
        if plan.back is None:
            return assemble(plan, output, self._layout(module, plan, output), lambda group: _run(module, group.inputs))
        try:
            return roll_back(plan, output, self._layout(module, plan, output))
        except PaddingError:  # its outputs cannot be rolled back: the mask alone is the best there is
            hook = hook_of(module)
            if hook is not None:
                notes.not_invariant(hook, "left")
            return _run(module, plan.unrolled())

    def _layout(self, module: nn.Module, plan: Plan, output: Any) -> Layout:
        key = _kind(plan, output)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = learn_layout(module, plan)
        return layout


def _kind(plan: Plan, output: Any) -> Hashable:
    """What calls have in common whose outputs are laid out in the same way."""
    tensors = tuple((path, leaf.dim()) for path, leaf in leaves(output) if isinstance(leaf, Tensor))
    return plan.options(), tensors


def _run(module: nn.Module, inputs: dict[str, Any]) -> Any:
    with untouched(module):
        return module(**inputs)


def guarding(hook: PaddingHook, decide: Callable[[], Result], *, field: str = "padding") -> Result | None:
    """What the guard of a policy field decides; where it fails, None and a log entry, in strict mode an error."""
    try:
        ranks.heed(hook.layer)
        return decide()
    except SafeTransformersWarning:  # a filter may turn our warnings into errors
        raise
    except SafeTransformersError as error:
        ranks.tell(error, hook.layer)
        raise
    except Exception as error:
        if policies.is_strict(hook.layer):
            raise GuardError(
                "ST-GUARD-001",
                f"the guard of {field} failed on {hook.facts.name}: {type(error).__name__}: {error}",
                do="report this as a bug of safetransformers",
                off=f'safetransformers.configure({field}="off")',
            ) from error
        logger.exception("the guard of %s failed on %s; the call goes on unguarded", field, hook.facts.name)
        count(f"{field}.failed")
        return None


def hook_of(module: nn.Module) -> PaddingHook | None:
    """The padding hook of a guarded model, or None."""
    return next((hook for hook in module._forward_pre_hooks.values() if isinstance(hook, PaddingHook)), None)


def ensure_restoring(module: nn.Module) -> None:
    """Register the ``RestoreHook`` when a call first needs it: models that never do are spared its cost.

    It goes first, so that the user's own forward hooks see the outputs where the tokens stood.
    """
    with _registering:
        if not any(isinstance(hook, RestoreHook) for hook in module._forward_hooks.values()):
            module.register_forward_hook(RestoreHook(), prepend=True, with_kwargs=True, always_call=True)


def edges(pads: Tensor) -> tuple[bool, bool]:
    """Whether any row begins, and whether any ends, with padding. Cost: one small kernel and one sync."""
    leading, trailing = pads[:, :: pads.shape[1] - 1].any(0).tolist()
    return leading, trailing


def _expects_cache(module: nn.Module, call: Call) -> bool:
    """Whether a call that does not speak of a cache returns one that its caller may go on from."""
    generates = callable(getattr(module, "generate", None))
    return generates and call.get("use_cache") is None and call.get("labels") is None and not module.training


def _asks_for_hidden_states(module: nn.Module, call: Call) -> bool:
    asked = call.get("output_hidden_states")
    return bool(getattr(module.config, "output_hidden_states", False) if asked is None else asked)


def has_rows(ids: Any) -> TypeGuard[Tensor]:
    """Whether these are 2-D integer ids of more than one column: a single column has no edge to be padding."""
    return isinstance(ids, Tensor) and ids.dim() == 2 and is_integer(ids) and ids.shape[1] > 1 and ids.shape[0] > 0
