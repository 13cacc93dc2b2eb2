"""What each Auto class of models is for, and how near two of them are. Pure: nothing of transformers is asked.

The traits are those of the task pages of transformers' documentation. A class that is not in the table, of a newer
transformers or of the user's own, is compared by the words of its name.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Task(NamedTuple):
    """What a head reads, what it gives for it, and the kind of that, by which two tasks are compared."""

    reads: str
    gives: str
    kind: str


_MODEL: Final = "AutoModel"
_HEAD: Final = "AutoModelFor"

TASKS: Final[dict[str, Task]] = {
    "AutoModel": Task("any", "hidden states, without a head", "states"),
    "AutoBackbone": Task("image", "feature maps", "states"),
    "AutoModelForPreTraining": Task("any", "what it was pretrained to predict", "pretraining"),
    # text
    "AutoModelForCausalLM": Task("text", "the next token", "generated text"),
    "AutoModelForSeq2SeqLM": Task("text", "a text for a text", "generated text"),
    "AutoModelForMaskedLM": Task("text", "the masked tokens", "filled text"),
    "AutoModelForSequenceClassification": Task("text", "one label for a text", "label"),
    "AutoModelForTokenClassification": Task("text", "a label for each token", "labels"),
    "AutoModelForQuestionAnswering": Task("text", "the first and the last token of an answer", "labels"),
    "AutoModelForMultipleChoice": Task("text", "one of several texts", "label"),
    "AutoModelForNextSentencePrediction": Task("text", "whether two texts follow each other", "label"),
    "AutoModelForTableQuestionAnswering": Task("text", "cells of a table", "labels"),
    "AutoModelForTextEncoding": Task("text", "hidden states of the encoder", "states"),
    # text and images
    "AutoModelForImageTextToText": Task("image and text", "a text", "generated text"),
    "AutoModelForVision2Seq": Task("image and text", "a text", "generated text"),
    "AutoModelForMultimodalLM": Task("image, audio and text", "a text", "generated text"),
    "AutoModelForVisualQuestionAnswering": Task("image and text", "an answer", "label"),
    "AutoModelForDocumentQuestionAnswering": Task("image and text", "tokens of an answer", "labels"),
    "AutoModelForZeroShotImageClassification": Task("image and text", "how well each text fits an image", "label"),
    "AutoModelForZeroShotObjectDetection": Task("image and text", "boxes of what a text names", "boxes"),
    "AutoModelForDecision": Task("image and text", "a decision", "label"),
    # images
    "AutoModelForImageClassification": Task("image", "one label for an image", "label"),
    "AutoModelForVideoClassification": Task("video", "one label for a video", "label"),
    "AutoModelForImageSegmentation": Task("image", "a mask for each thing", "masks"),
    "AutoModelForInstanceSegmentation": Task("image", "a mask for each thing", "masks"),
    "AutoModelForSemanticSegmentation": Task("image", "a label for each pixel", "masks"),
    "AutoModelForUniversalSegmentation": Task("image", "a mask for each thing", "masks"),
    "AutoModelForMaskGeneration": Task("image", "masks for points or boxes", "masks"),
    "AutoModelForImageMatting": Task("image", "an alpha mask", "masks"),
    "AutoModelForObjectDetection": Task("image", "boxes with labels", "boxes"),
    "AutoModelForTableRecognition": Task("image", "the structure of a table", "boxes"),
    "AutoModelForTextRecognition": Task("image", "the text in an image", "generated text"),
    "AutoModelForDepthEstimation": Task("image", "a depth for each pixel", "maps"),
    "AutoModelForNormalEstimation": Task("image", "a direction for each pixel", "maps"),
    "AutoModelForPointmapEstimation": Task("image", "a point for each pixel", "maps"),
    "AutoModelForImageToImage": Task("image", "an image", "image"),
    "AutoModelForMaskedImageModeling": Task("image", "the masked patches", "image"),
    "AutoModelForKeypointDetection": Task("image", "keypoints", "points"),
    "AutoModelForKeypointMatching": Task("image", "keypoints that match in two images", "points"),
    "AutoModelForPoseEstimation": Task("image", "keypoints of a body", "points"),
    # audio
    "AutoModelForAudioClassification": Task("audio", "one label for a sound", "label"),
    "AutoModelForAudioFrameClassification": Task("audio", "a label for each frame", "labels"),
    "AutoModelForAudioXVector": Task("audio", "one vector for a speaker", "states"),
    "AutoModelForAudioTokenization": Task("audio", "audio tokens", "labels"),
    "AutoModelForCTC": Task("audio", "the text that is spoken", "generated text"),
    "AutoModelForRNNT": Task("audio", "the text that is spoken", "generated text"),
    "AutoModelForTDT": Task("audio", "the text that is spoken", "generated text"),
    "AutoModelForSpeechSeq2Seq": Task("audio", "the text that is spoken", "generated text"),
    "AutoModelForTextToSpectrogram": Task("text", "a spectrogram", "sound"),
    "AutoModelForTextToWaveform": Task("text", "a waveform", "sound"),
    "AutoModelWithLMHead": Task("text", "tokens", "pretraining"),  # deprecated in 4.x
    # numbers
    "AutoModelForTimeSeriesPrediction": Task("numbers", "the next values", "values"),
}

# Kinds that one head can be trained into the other by a new last layer on the same states: the smaller, the nearer.
_NEAR_KINDS: Final = {
    frozenset({"label", "labels"}): 1,
    frozenset({"generated text", "filled text"}): 1,
    frozenset({"masks", "maps"}): 1,
    frozenset({"boxes", "masks"}): 1,
    frozenset({"boxes", "points"}): 1,
    frozenset({"image", "maps"}): 1,
}
_FAR: Final = 3
_GENERAL: Final = ("states", "pretraining")


def distance(asked: str, other: str) -> tuple[int, int, int]:
    """How far another Auto class is from the one that was asked for; 0 of it the class itself.

    What both read counts most, then what they give, then the order of the table, in which the common tasks come first.

    Example:
        >>> distance("AutoModelForQuestionAnswering", "AutoModelForTokenClassification") < distance(
        ...     "AutoModelForQuestionAnswering", "AutoModelForSequenceClassification")
        True
    """
    if asked == other:
        return 0, 0, 0
    order = list(TASKS).index(other) if other in TASKS else len(TASKS)
    if asked in TASKS and other in TASKS:
        one, two = TASKS[asked], TASKS[other]
        kinds = 0 if one.kind == two.kind else _NEAR_KINDS.get(frozenset({one.kind, two.kind}), _FAR)
        if two.kind in _GENERAL:
            return 2, _FAR, order
        return _inputs(one.reads, two.reads), kinds, order
    shared = len(_words(asked) & _words(other))
    return (1 if shared else 2), _FAR - min(shared, _FAR), order


def closeness(asked: str, other: str) -> str:
    """In words how near another class is to the one that was asked for; empty where there is nothing to say.

    Example:
        >>> closeness("AutoModelForQuestionAnswering", "AutoModelForTokenClassification")
        'it reads text too, and gives a label for each token, not the first and the last token of an answer'
    """
    one, two = TASKS.get(asked), TASKS.get(other)
    if one is None or two is None or "any" in (one.reads, two.reads):
        return ""
    reads = f"it reads {two.reads} too" if one.reads == two.reads else f"it reads {two.reads}, not {one.reads}"
    if one.gives == two.gives:
        return reads
    return f"{reads}, and gives {two.gives}, not {one.gives}"


def is_near(asked: str, other: str) -> bool:
    """Whether a head of the one could stand in for the other: both read the same, and give much the same."""
    inputs, kinds, _ = distance(asked, other)
    return inputs == 0 and kinds <= 1


def is_other(saved: str, other: str) -> bool:
    """Whether weights that were trained for the one task mean something else in the other."""
    one, two = TASKS.get(saved), TASKS.get(other)
    return (
        one is None or two is None or (one.kind not in _GENERAL and two.kind not in _GENERAL and one.kind != two.kind)
    )


def preference(name: str) -> tuple[int, int]:
    """The order of Auto classes that one and the same model class is in: what it is for, before how it was trained."""
    task = TASKS.get(name)
    order = list(TASKS).index(name) if task else len(TASKS)
    return (1 if task is not None and task.kind in _GENERAL else 0), order


def _inputs(asked: str, other: str) -> int:
    one, two = (set(re.split(r", | and ", reads)) for reads in (asked, other))
    if one == two:
        return 0
    return 1 if one & two else 2


def _words(name: str) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+|[A-Z]+(?![a-z])|\d+", name.removeprefix(_HEAD).removeprefix(_MODEL)))
