"""A tiny checkpoint of each of thirty model types, of text, images, sound and several of these, each with a head."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from checkpoints import tokenizer

from safetransformers.testing.configs import tiny_config


class Family(NamedTuple):
    """The class that a checkpoint is saved from, and the Auto class that is for it."""

    architecture: str
    auto_class: str


FAMILIES = {
    "albert": Family("AlbertForSequenceClassification", "AutoModelForSequenceClassification"),
    "bart": Family("BartForConditionalGeneration", "AutoModelForSeq2SeqLM"),
    "beit": Family("BeitForImageClassification", "AutoModelForImageClassification"),
    "bert": Family("BertForTokenClassification", "AutoModelForTokenClassification"),
    "clip": Family("CLIPModel", "AutoModel"),
    "ctrl": Family("CTRLLMHeadModel", "AutoModelForCausalLM"),
    "distilbert": Family("DistilBertForQuestionAnswering", "AutoModelForQuestionAnswering"),
    "deit": Family("DeiTForMaskedImageModeling", "AutoModelForMaskedImageModeling"),
    "dpt": Family("DPTForDepthEstimation", "AutoModelForDepthEstimation"),
    "electra": Family("ElectraForPreTraining", "AutoModelForPreTraining"),
    "gpt2": Family("GPT2LMHeadModel", "AutoModelForCausalLM"),
    "gpt_neox": Family("GPTNeoXForCausalLM", "AutoModelForCausalLM"),
    "hubert": Family("HubertForSequenceClassification", "AutoModelForAudioClassification"),
    "layoutlm": Family("LayoutLMForQuestionAnswering", "AutoModelForDocumentQuestionAnswering"),
    "llama": Family("LlamaForCausalLM", "AutoModelForCausalLM"),
    "llava": Family("LlavaForConditionalGeneration", "AutoModelForImageTextToText"),
    "mistral": Family("MistralForCausalLM", "AutoModelForCausalLM"),
    "mpnet": Family("MPNetForMultipleChoice", "AutoModelForMultipleChoice"),
    "opt": Family("OPTForCausalLM", "AutoModelForCausalLM"),
    "owlvit": Family("OwlViTForObjectDetection", "AutoModelForZeroShotObjectDetection"),
    "qwen2": Family("Qwen2ForCausalLM", "AutoModelForCausalLM"),
    "roberta": Family("RobertaForMaskedLM", "AutoModelForMaskedLM"),
    "segformer": Family("SegformerForImageClassification", "AutoModelForImageClassification"),
    "t5": Family("T5ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
    "timesformer": Family("TimesformerForVideoClassification", "AutoModelForVideoClassification"),
    "vilt": Family("ViltForQuestionAnswering", "AutoModelForVisualQuestionAnswering"),
    "vit": Family("ViTForImageClassification", "AutoModelForImageClassification"),
    "wav2vec2": Family("Wav2Vec2ForCTC", "AutoModelForCTC"),
    "whisper": Family("WhisperForConditionalGeneration", "AutoModelForSpeechSeq2Seq"),
    "xlnet": Family("XLNetForTokenClassification", "AutoModelForTokenClassification"),
}


def saved(name: str, folder: Path) -> Path:
    """The checkpoint as ``save_pretrained`` writes it."""
    config = tiny_config(name)
    torch.manual_seed(0)
    model = getattr(transformers, FAMILIES[name].architecture)(config)
    model.save_pretrained(folder)
    return folder


def tokenizer_beside(folder: Path) -> Path:
    """A tokenizer of a few words in the same folder."""
    tokenizer().save_pretrained(folder)
    return folder
