"""Rules about names and packages: what the installed transformers has, and what it needs beside itself."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from ..explanation import Explanation
from ..names.packages import pip_name
from .rule import Facts, Rule

# Packages of transformers' own extras: only these are told of, because any other missing module may be the user's own.
_OPTIONAL: Final = (
    "accelerate|av|bitsandbytes|bs4|causal_conv1d|cv2|datasets|deepspeed|detectron2|einops|faiss|flash_attn|ftfy|gguf"
    "|google\\.protobuf|hqq|jinja2|kernels|librosa|mamba_ssm|mistral_common|optimum|peft|phonemizer|PIL|pytesseract"
    "|sacremoses|scipy|sentencepiece|sklearn|soundfile|tiktoken|timm|torch|torchaudio|torchvision|triton|vllm|xformers"
)
_CONFLICTS: Final = "huggingface_hub|tokenizers|accelerate|peft|safetensors|datasets|torch|numpy|optimum|diffusers|trl"
_INSTALLED: Final = r"[^\n]*[/\\](?:site|dist)-packages[/\\]"  # elsewhere it is a file of the user's
_IMPORT_UTILS: Final = "transformers/utils/import_utils.py, 4.57.6 and 5.23.0"


def _is_of_no_release(name: str) -> bool:
    """Whether the table of releases says nothing of a name: it has neither Python's own names nor submodules."""
    from ..names import history

    return history.of_name(name) is None and name.islower()


def _imported_name(facts: Facts) -> Explanation | None:
    from ..names import answers

    if facts["module"] == "transformers" and _is_of_no_release(facts["name"]):
        return None
    if facts["remote_file"]:
        return answers.for_remote_import(facts["name"], facts["module"], facts["remote_file"])
    return answers.for_name(facts["name"], facts["module"])


def _missing_module(facts: Facts) -> Explanation:
    from ..names import answers

    if facts["remote_file"]:
        return answers.for_remote_import("", facts["module"], facts["remote_file"])
    return answers.for_name("", facts["module"])


def _attribute(facts: Facts) -> Explanation | None:
    from ..names import answers

    if _is_of_no_release(facts["name"]):
        return None
    return answers.for_name(facts["name"], "transformers")


def _model_type(facts: Facts) -> Explanation:
    from ..names import answers

    return answers.for_model_type(facts["model_type"], None)


def _no_model_type(facts: Facts) -> Explanation:
    from ..names import answers

    return answers.for_no_model_type()


def _tokenizer_class(facts: Facts) -> Explanation:
    from ..names import answers

    return answers.for_tokenizer_class(facts["name"])


def _installed(facts: Facts) -> Explanation | None:
    """A name that another package lacks, with the version of it that is installed here."""
    package = facts["module"].partition(".")[0]
    try:
        found = f"{package} {version(package)} is installed here"
    except PackageNotFoundError:
        return None
    return Explanation(
        "ST-NAME-501",
        f"{package} has no name {facts['name']!r}: two packages are probably not made for each other",
        f"{found}; the package that imports the name was written for another version of it",
        f"pip check; then upgrade what imports it, or pin {package} to the range that it asks for",
    )


def _needed(facts: Facts) -> Explanation:
    """A package that is missing, with every other that the same message asks for."""
    libraries = dict.fromkeys(re.findall(r"requires the ([\w. ]+?) library but it was not found", facts["all"]))
    names = [pip_name(library) for library in libraries]
    return Explanation(
        "ST-NAME-004",
        f"{facts['name']} needs a package that is not installed: {', '.join(libraries)}",
        "the name exists in this transformers; what it stands for is made only where the package can be imported",
        f"pip install {' '.join(names)}",
    )


def _optional(facts: Facts) -> Explanation:
    package = facts["package"]
    return Explanation(
        "ST-NAME-502",
        f"the package {package} is not installed",
        "what was called is made only where the package can be imported",
        f"pip install {pip_name(package)}",
    )


RULES: Final = (
    Rule(
        "ST-NAME-508",
        r"(?:cannot import name '\w+' from (?:partially initialized module )?'transformers' "
        r"\([^\n]*[/\\]transformers\.py\b"
        r"|(?:partially initialized )?module 'transformers' has no attribute '\w+' \((?:most likely due to|consider "
        r"renaming)"
        r"|No module named 'transformers\.[\w.]+'; 'transformers' is not a package)",
        "import transformers found something else than the package",
        "it is probably a file of your own that is named transformers.py: Python looks beside the script first",
        'python -c "import transformers; print(transformers.__file__)" in that folder; then rename the file',
        source="Python 3.10 to 3.13, importlib",
    ),
    Rule(
        "ST-NAME-005",
        # A partially initialized module is a circular import, of which no release tells.
        r"cannot import name '(?P<name>\w+)' from '(?P<module>transformers(?:\.[\w.]+)?)'",
        answer=_imported_name,
        source="Python 3.10 to 3.13, importlib",
    ),
    Rule(
        "ST-NAME-005",
        r"No module named '(?P<module>transformers\.[\w.]+)'",
        answer=_missing_module,
        source="Python 3.10 to 3.13, importlib",
    ),
    Rule(
        "ST-NAME-005",
        r"module '?transformers'? has no attribute '?(?P<name>\w+)",
        answer=_attribute,
        source=_IMPORT_UTILS,
    ),
    Rule(
        "ST-NAME-013",
        r"The checkpoint you are trying to load has model type `(?P<model_type>[^`]+)` but Transformers does not "
        r"recognize",
        answer=_model_type,
        source="transformers/models/auto/configuration_auto.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-NAME-014",
        r"Unrecognized model in (?P<repo>.+?)\. Should have a `model_type` key in its config\.json",
        answer=_no_model_type,
        source="transformers/models/auto/configuration_auto.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-NAME-021",
        r"Tokenizer class (?P<name>\w+) does not exist or is not currently imported",
        answer=_tokenizer_class,
        source="transformers/models/auto/tokenization_auto.py, 4.57.6",
    ),
    Rule(
        "ST-NAME-501",
        r"(?P<package>[\w.-]+)(?P<wanted>[<>=!]=?\S+) is required for a normal functioning of this module, but found "
        r"(?P<found>[\w.=-]+)",
        "{found} is installed, and transformers needs {package}{wanted}",
        "another package, or an earlier install, probably chose this version; transformers looks when it is imported",
        'pip install "{package}{wanted}"; pip check says whether another package minds',
        source="transformers/utils/versions.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-NAME-501",
        rf"cannot import name '(?P<name>\w+)' from (?:partially initialized module "
        rf")?'(?P<module>(?:{_CONFLICTS})(?:\.[\w.]+)?)'(?! \((?!{_INSTALLED}))",
        "{module} has no name {name}: two packages are probably not made for each other",
        "the package that imports the name was written for another version",
        "pip check; then upgrade what imports it, or pin the package that the name is imported from",
        answer=_installed,
        source="Python 3.10 to 3.13, importlib",
    ),
    Rule(
        "ST-NAME-504",
        r"operator torchvision::(?P<name>\w+) does not exist",
        "torchvision does not fit the installed torch: its operator {name} was not registered",
        "its compiled part could not be loaded; each torchvision is built for one torch version and one CUDA version",
        "pip install --force-reinstall torch torchvision  # both in one command, from one index",
        source="torch 2.13.0, torch/library.py; torchvision/_meta_registrations.py",
    ),
    Rule(
        "ST-NAME-502",
        r"This modeling file requires the following packages that were not found in your environment: "
        r"(?P<names>[^.]+)\.",
        "the checkpoint's own code imports packages that are not installed: {names}",
        "transformers looks at the imports of remote code before it runs it",
        "pip install the packages after you have read the code; a name there need not be the name on PyPI",
        source="transformers/dynamic_module_utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-NAME-503",
        r"\s+requires the protobuf library but it was not found",
        "the tokenizer's files could not be read, and without protobuf transformers cannot say why",
        "it asks for protobuf only to name the error of a tokenizer that failed before; the exception above this "
        "one, where "
        "there is one, is the cause: probably a damaged or incomplete tokenizer file",
        "look at that exception; pip install protobuf sentencepiece; download the tokenizer's files again",
        source="transformers/tokenization_utils_base.py, 4.57.6",
    ),
    Rule(
        "ST-NAME-004",
        r"(?P<all>\s*(?P<name>\w+) requires the [\w. ]+? library but it was not found[\s\S]*)",
        answer=_needed,
        source=_IMPORT_UTILS,
    ),
    Rule(
        "ST-NAME-505",
        r"\s*(?P<name>\w+) requires PyTorch (?P<wanted>>= ?[\d.]+), but PyTorch was not found or an older version is "
        r"installed",
        "{name} needs torch {wanted}, and this Python has none or an older one",
        "it is probably another environment than the one that torch was installed into",
        'python -c "import torch; print(torch.__version__, torch.__file__)"; pip install --upgrade torch',
        source="transformers/utils/import_utils.py, 5.23.0",
    ),
    Rule(
        "ST-NAME-502",
        r"(?P<what>Using (?:a |the |`?[\w-]+`? )[^\n]{0,200}?) requires (?:the latest version of "
        r")?`?(?P<package>accelerate"
        r"|bitsandbytes)\b",
        "the package {package} is not installed, or too old, and the call needs it",
        "{what} is what asks for it",
        "pip install --upgrade {package}, then start Python anew",
        source="transformers/modeling_utils.py, training_args.py and quantizers/, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-NAME-502",
        r"(?P<name>FlashAttention\S*) has been toggled on, but it cannot be used due to the following error: "
        r"(?P<reason>[^.\n]+)",
        "{name} was asked for, and cannot be used: {reason}",
        "it is a package of its own, compiled for one torch, one CUDA and NVIDIA GPUs from Ampere on",
        'attn_implementation="sdpa", which torch brings along; or pip install flash-attn --no-build-isolation',
        source="transformers/modeling_flash_attention_utils.py and modeling_utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-NAME-506",
        r"(?:Couldn't instantiate the backend tokenizer from one of|`tiktoken` is required to read a `tiktoken` file"
        r"|Converting from (?:SentencePiece and )?Tiktoken failed)",
        "no fast tokenizer could be made from the files that are there",
        "there is no tokenizer.json, and the other files could not be converted: probably the vocabulary is missing "
        "or damaged, "
        "the tokenizer class is not known, or sentencepiece or tiktoken is not installed",
        "look for tokenizer.json, tokenizer.model, vocab.* in the folder; pip install sentencepiece tiktoken protobuf",
        source="transformers/tokenization_utils_tokenizers.py and convert_slow_tokenizer.py, 5.23.0; "
        "tokenization_utils_fast.py, 4.57.6",
    ),
    Rule(
        "ST-NAME-502",
        rf"No module named '(?P<package>{_OPTIONAL})'",  # a submodule's name would mean that the package is there
        answer=_optional,
        types=("ModuleNotFoundError", "ImportError"),
        source="Python 3.10 to 3.13, importlib",
    ),
    Rule(
        "ST-NAME-507",
        r"Could not import module '(?P<name>\w+)'\. Are this object's requirements defined correctly\?",
        "{name} is in this transformers, but the module that defines it cannot be imported",
        "the exception above this one is the cause: probably a missing package, or one of a version that does not fit",
        'python -c "import transformers; transformers.{name}" shows the whole chain; pip check',
        is_generic=True,
        source=_IMPORT_UTILS,
    ),
)
