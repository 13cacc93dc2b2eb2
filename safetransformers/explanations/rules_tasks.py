"""Rules about tasks: an Auto class, a kind of preprocessor or a pipeline's task that the checkpoint does not have."""

from __future__ import annotations

from typing import Final

from .rule import Rule

_SUGGEST: Final = "safetransformers suggest PATH  # names the classes that do load it, best first"
_AUTO: Final = "transformers/models/auto"

RULES: Final = (
    Rule(
        "ST-TASK-002",
        r"Unrecognized configuration class <class '[^']*?(?P<config>\w+)'> to build an (?P<auto>AutoTokenizer)",
        "{auto} does not load it: transformers has no tokenizer for a {config}",
        "the list in the message is of the configurations that have one",
        _SUGGEST,
        source=f"{_AUTO}/tokenization_auto.py, 4.57.6",
    ),
    Rule(
        "ST-TASK-002",
        r"<class 'transformers\.models\.[\w.]+?\.(?P<config>\w+Config)'>$",
        "AutoTokenizer does not load it: transformers has no tokenizer for a {config}",
        "probably a model of images, sound or numbers, whose inputs no tokenizer makes",
        "AutoProcessor, AutoImageProcessor or AutoFeatureExtractor; " + _SUGGEST,
        types=("KeyError",),
        source=f"{_AUTO}/tokenization_auto.py, 4.57.6",
    ),
    Rule(
        "ST-TASK-001",
        r"Unrecognized configuration class <class '[^']*?(?P<config>\w+)'> for this kind of AutoModel: (?P<auto>\w+)",
        "{auto} does not load a checkpoint whose configuration is a {config}",
        "no class of this task is registered for it; the list in the message is of the configurations that have one",
        f"{_SUGGEST}; or from safetransformers import {{auto}}, whose error names them",
        source=f"{_AUTO}/auto_factory.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-TASK-002",
        r"Unrecognized (?P<kind>processing class|image processor|feature extractor|video processor) in "
        r"(?P<repo>.+?)\. (?:Should"
        r"|Can't)",
        "{repo} has no {kind} that the Auto class could choose",
        "its files name none, and none is registered for its model_type",
        f"AutoTokenizer for a model of text; {_SUGGEST}",
        source=f"{_AUTO}/processing_auto.py, image_processing_auto.py and feature_extraction_auto.py, 4.57.6 and "
        f"5.23.0",
    ),
    Rule(
        "ST-TASK-002",
        r"Can't load feature extractor for '(?P<repo>[^']+)'\. If you were trying to load it from .*"
        r"preprocessor_config\.json",
        "{repo} has no feature extractor: no preprocessor_config.json was found",
        "probably it is a model of text, which has a tokenizer instead; or the file was not copied",
        f"AutoTokenizer for a model of text; {_SUGGEST}",
        source="transformers/feature_extraction_utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-TASK-003",
        r"Could not load model (?P<repo>\S+) with any of the following classes: \((?P<classes>[^)]*?)\)",
        "the pipeline could not load {repo} with any class of its task",
        "the errors of each try stand below the message, and are the cause where they are known",
        f"{_SUGGEST}; then pipeline(task, ...) with the task of that class",
        is_generic=True,
        source="transformers/pipelines/base.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-TASK-003",
        r"[\"']?Unknown task (?P<task>[\w-]+), available tasks are",
        "transformers has no pipeline for the task {task!r}",
        "the name is misspelt, or the task was removed (transformers 5 has fewer)",
        "use one of those that the message lists; safetransformers suggest PATH names the model's own",
        source="transformers/pipelines/base.py, 4.57.6 and 5.23.0",
    ),
)

WARNINGS: Final = (
    Rule(
        "ST-TASK-003",
        r"The model '(?P<model>\w+)' is not supported for (?P<task>[\w-]*)\. Supported models are",
        "{model} has no head for the pipeline's task {task!r}",
        "the pipeline goes on all the same, and ends in another error or in numbers of another kind",
        _SUGGEST,
        source="transformers/pipelines/base.py, 4.57.6 and 5.23.0",
    ),
)
