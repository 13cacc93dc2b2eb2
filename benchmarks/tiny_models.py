"""Tiny random models of every text architecture that the installed transformers knows."""

from __future__ import annotations

import functools
import inspect
from typing import NamedTuple, cast

import torch
import transformers
from padding_cases import CallForm, attempt, call_forms, is_repeatable, random_rows
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from safetransformers.testing.configs import tiny_config

__all__ = ["Triple", "left_out", "text_triples", "tiny_config", "tiny_model"]

_TEXT_MAPPINGS = {
    "AutoModel": "MODEL_MAPPING_NAMES",
    "AutoModelForPreTraining": "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "AutoModelForSeq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForTokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForQuestionAnswering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "AutoModelForNextSentencePrediction": "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES",
    "AutoModelForTextEncoding": "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES",
}
WEIGHT_STD = 0.3
"""Wide enough that a change of one input token moves every output well above the tolerance."""


_OTHER_MODALITIES = (
    "pixel_values",
    "input_features",
    "input_values",
    "visual_feats",
    "pixel_values_videos",
    "action_embeds",
    "audio_codes",
    "image",
)


_ODD_INPUTS = {
    "diffusion_gemma": "draws a random canvas on every call: two runs of one row differ",
    "gemma4_assistant": "a drafter: its inputs are the states of the model that it drafts for",
    "gemma4_unified_assistant": "a drafter: its inputs are the states of the model that it drafts for",
    "kyutai_speech_to_text": "its input_ids are 3-D: text and audio codes",
    "musicgen": "its input_ids are audio codes, and AutoModel builds its decoder from the wrong configuration",
    "musicgen_melody": "its input_ids are audio codes, and AutoModel builds its decoder from the wrong configuration",
    "speech_to_text_2": "fails when built without a checkpoint (transformers 4.57)",
    "transfo-xl": "fails on current torch (transformers 4.57)",
    "phi4_multimodal": "its default configuration has no audio part, which fails (transformers 4.57)",
}


class Triple(NamedTuple):
    """One way to load a text model: the Auto class, the model type and the class that it resolves to."""

    auto: str
    model_type: str
    cls_name: str


def _model_class(name: str) -> type[PreTrainedModel] | None:
    """Find a model class; None where the mapping names one that needs a package or does not exist."""
    try:
        found = getattr(transformers, name)
        inspect.signature(found.forward)
    except (AttributeError, ImportError):
        return None
    return cast(type[PreTrainedModel], found)


@functools.cache
def _takes_input_ids(cls_name: str) -> bool:
    model_class = _model_class(cls_name)
    return model_class is not None and "input_ids" in inspect.signature(model_class.forward).parameters


@functools.cache
def candidate_triples() -> tuple[Triple, ...]:
    """List every (Auto class, model type, class) whose forward has a parameter `input_ids`."""
    triples: list[Triple] = []
    for auto, mapping_name in _TEXT_MAPPINGS.items():
        for model_type, names in getattr(modeling_auto, mapping_name).items():
            listed = [names] if isinstance(names, str) else names
            triples.extend(Triple(auto, model_type, name) for name in listed if _takes_input_ids(name))
    return tuple(sorted(triples))


def _config_for(triple: Triple, model_class: type[PreTrainedModel]) -> PretrainedConfig:
    config = tiny_config(triple.model_type)
    if triple.auto == "AutoModelForCausalLM" and hasattr(config, "is_decoder") and not config.is_encoder_decoder:
        config.is_decoder = True
    if model_class.config_class is config.sub_configs.get("text_config"):
        config = config.get_text_config()
    return config


@torch.no_grad()
def _widen(model: nn.Module, generator: torch.Generator) -> None:
    """Spread the weights so that outputs depend visibly on inputs.

    Rows that the initialiser sets to zero (padding embeddings, biases, gates) become random too: a checkpoint may hold
    anything there, and a zero would hide that a pad token is read.
    """
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim < 2:
            if not parameter.any():
                parameter.copy_(0.1 * noise)
            continue
        std = parameter.std(correction=0)
        if not torch.isfinite(std) or std < 1e-3:
            parameter.copy_(WEIGHT_STD * noise)
        elif std < WEIGHT_STD:
            parameter.mul_(WEIGHT_STD / std)
        empty = ~parameter.flatten(1).any(dim=1)
        parameter[empty] = WEIGHT_STD * noise[empty]


def why_not(triple: Triple, error: Exception) -> str:
    """Say in one line why a model cannot be built, or run on ids alone."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, ImportError):
        return f"needs another package: {lines[0].partition(' but ')[0]}"
    if triple.model_type in _ODD_INPUTS:
        return _ODD_INPUTS[triple.model_type]
    parameters = inspect.signature(getattr(transformers, triple.cls_name).forward).parameters
    other = [name for name in parameters if name in _OTHER_MODALITIES]
    if other:
        return f"needs another modality: {other[0]}"
    return f"{type(error).__name__}: {lines[0][:160]}"


def usable_model(triple: Triple) -> tuple[PreTrainedModel, list[CallForm]]:
    """Build a model and find how it can be called on ids.

    Raises:
        ValueError: Where two runs of one row differ: nothing can be measured then.
        Exception: What the model itself raised, where it cannot be built or no call works.
    """
    model, row = tiny_model(triple), random_rows()[0]
    forms = call_forms(model, row)
    if not is_repeatable(model, forms[0], row):
        raise ValueError("two runs of one row differ")
    return model, forms


@functools.cache
def _probe(triple: Triple) -> str:
    usable = attempt(usable_model, triple)
    return why_not(triple, usable) if isinstance(usable, Exception) else ""


def text_triples() -> list[Triple]:
    """List the triples that run on ids. Cost: builds and runs every candidate once a process, one to two minutes."""
    return [triple for triple in candidate_triples() if not _probe(triple)]


def left_out() -> dict[str, str]:
    """Say of each text model type that has no triple in `text_triples` why. Cost: that of `text_triples`."""
    covered = {triple.model_type for triple in text_triples()}
    return {t.model_type: _probe(t) for t in reversed(candidate_triples()) if t.model_type not in covered}


def tiny_model(triple: Triple, seed: int = 0) -> PreTrainedModel:
    """Build a tiny random model of one triple, in eval mode, in float32 on the CPU."""
    model_class = _model_class(triple.cls_name)
    if model_class is None:
        raise ValueError(f"{triple.cls_name} cannot be imported")
    torch.manual_seed(seed)
    model = cast(nn.Module, model_class(_config_for(triple, model_class))).float().eval()
    _widen(model, torch.Generator().manual_seed(seed))
    return cast(PreTrainedModel, model)
