"""What the guard knows of one model before its first call: its signature, its config, and how padding can be undone."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import nn

from .known import Left, Right, hidden_states_are_wrong, measured

ConfigPath = tuple[str, ...]
_FROM_IDS = "create_position_ids_from_input_ids"


@dataclass(frozen=True)
class Facts:
    """Facts of one model's class and forward.

    Attributes:
        name: the model class's name.
        parameters: names of forward's parameters, in order, without ``self``.
        text_config: attribute path from the model to the config that holds the pad token's id.
        is_encoder_decoder: whether forward also takes ``decoder_input_ids``.
        right: how a right-padded batch is made right.
        left: how a left-padded batch is made right.
        left_when_traced: the same where rows cannot be rolled: the token outputs are right, a pooled one may not be.
        wrong_hidden_states: whether no mask makes the intermediate hidden states right, though all else.
        measured: whether ``right`` and ``left`` come from a measurement of this class or of one that it inherits from.
    """

    name: str
    parameters: tuple[str, ...]
    text_config: ConfigPath
    is_encoder_decoder: bool
    right: Right
    left: Left
    left_when_traced: Left
    wrong_hidden_states: bool
    measured: bool

    def takes(self, parameter: str) -> bool:
        """Whether forward has a parameter of this name."""
        return parameter in self.parameters


def facts_of(model: nn.Module) -> Facts:
    """Read the facts off a model. Costs one ``inspect.signature``; nothing is run."""
    parameters = tuple(inspect.signature(model.forward).parameters)
    if "input_ids" not in parameters:  # a wrapper of somebody's hides them
        parameters = tuple(inspect.signature(type(model).forward).parameters)[1:]
    known = measured(type(model))
    right: Right = known.right if known else ("mask" if "attention_mask" in parameters else "exact")
    by_rule = _left_by_rule(model, parameters)
    left: Left = known.left if known else by_rule
    if left == "positions" and _has_own_positions(model):
        left = "mask"  # right for text, as measured; with images the model's own positions are the right ones
    return Facts(
        name=type(model).__name__,
        parameters=parameters,
        text_config=_text_config_path(model),
        is_encoder_decoder="decoder_input_ids" in parameters,
        right=right,
        left=left,
        left_when_traced=by_rule if left in ("roll", "exact") else left,
        wrong_hidden_states=hidden_states_are_wrong(type(model)),
        measured=known is not None,
    )


def token_id(model: nn.Module, facts: Facts, which: Literal["pad", "eos", "bos", "decoder_start"]) -> Any:
    """A special token's id, read now: users set it late. From the text config, else the config, else generation's."""
    name = f"{which}_token_id"
    config: Any = model
    for attribute in facts.text_config:
        config = getattr(config, attribute)
    value = getattr(config, name, None)
    if value is None and len(facts.text_config) > 1:
        value = getattr(model.config, name, None)
    if value is None:
        value = getattr(getattr(model, "generation_config", None), name, None)
    return value


def _left_by_rule(model: nn.Module, parameters: tuple[str, ...]) -> Left:
    """How left padding is undone in a class that nobody measured."""
    if "attention_mask" not in parameters:
        return "exact"
    return "positions" if "position_ids" in parameters and not _has_own_positions(model) else "mask"


def _has_own_positions(model: nn.Module) -> bool:
    """Whether position ids of ours would break the model's own.

    RoBERTa-like classes count positions from the ids themselves, past the pads; multimodal rotary positions are
    computed from images and text.
    """
    return hasattr(sys.modules.get(type(model).__module__), _FROM_IDS) or any(
        hasattr(module, _FROM_IDS) or hasattr(module, "get_rope_index") for module in model.modules()
    )


def _text_config_path(model: nn.Module) -> ConfigPath:
    """Where the config of the text part is, by ``PreTrainedConfig.get_text_config`` (configuration_utils.py, 5.23)."""
    config = cast(Any, model).config
    try:
        text = config.get_text_config(encoder=True) if config.is_encoder_decoder else config.get_text_config()
    except (ValueError, TypeError):  # several text configs and none of them is the one; or an older signature
        text = config
    for name, value in vars(config).items():
        if value is text and text is not config:
            return ("config", name)
    return ("config",)
