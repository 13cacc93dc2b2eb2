"""Rules about the files of a checkpoint: missing, damaged, of TensorFlow or Flax, or with code of their own."""

from __future__ import annotations

import os
from typing import Final

from ..explanation import Explanation
from ..notices import relative
from .rule import Facts, Rule

_SHOWN: Final = 5
_TENSORFLOW: Final = (".h5", ".pb", ".ckpt.index", ".data-00000-of-00001")
_CONVERT: Final = "safetransformers convert FOLDER NEW_FOLDER, and load NEW_FOLDER; TensorFlow and Flax are not needed"
_MODELING: Final = "transformers/modeling_utils.py, 4.57.6 and 5.23.0"
_AGAIN: Final = (
    "delete the file and download again: safetransformers prefetch REPO verifies every byte (--check only looks)"
)


def _weights_of(facts: Facts) -> Explanation | None:
    """What the folder holds instead, where it is on this machine: its names are facts, not guesses."""
    folder = facts["path"].strip("'\" ")
    if not os.path.isdir(folder):
        return None
    names = sorted(os.listdir(folder))
    name = relative(folder)
    if found := [file for file in names if file.endswith(_TENSORFLOW)]:
        what, do = f"{name} holds TensorFlow weights only ({found[0]})", _CONVERT
        return Explanation("ST-TF-501", what, "transformers 5 reads no TensorFlow weights any more", do)
    if found := [file for file in names if file.endswith(".msgpack")]:
        what, do = f"{name} holds Flax weights only ({found[0]})", _CONVERT
        return Explanation("ST-TF-502", what, "transformers 5 reads no Flax weights any more", do)
    if found := [file for file in names if file.endswith((".bin", ".safetensors"))]:
        why = f"the folder has {', '.join(found[:_SHOWN])}, and the load asked for {facts['names']}"
        do = "load without use_safetensors, variant and subfolder, or save the weights under the name that is asked for"
        return Explanation("ST-HUB-506", f"{name} has weights under other names", why, do)
    return Explanation(
        "ST-HUB-506",
        f"{name} holds no weights",
        f"the folder has {', '.join(names[:_SHOWN]) or 'nothing'}",
        "copy the whole repository: model.safetensors, or its index and every shard",
    )


RULES: Final = (
    Rule(
        "ST-TF-501",
        r"(?:Error no file named .+? found in directory (?P<path>.+?)|(?P<repo>[\w./\\~:-]+) does not appear to have "
        r"a file "
        r"named .+?)"
        r" but there is a file for TensorFlow weights",
        "{path}{repo} holds TensorFlow weights only",
        "no file of torch weights is beside them",
        _CONVERT,
        source="transformers/modeling_utils.py, 4.57.6",
    ),
    Rule(
        "ST-TF-502",
        r"(?:Error no file named .+? found in directory (?P<path>.+?)|(?P<repo>[\w./\\~:-]+) does not appear to have "
        r"a file "
        r"named .+?)"
        r" but there is a file for Flax weights",
        "{path}{repo} holds Flax weights only",
        "no file of torch weights is beside them",
        _CONVERT,
        source="transformers/modeling_utils.py, 4.57.6",
    ),
    Rule(
        "ST-HUB-506",
        r"Error no file named (?P<names>.+?),? found in directory (?P<path>.+?)\.?(?:\n|$)",
        "{path} holds no weights that the load looks for",
        "it looked for {names}; probably they were not copied, have other names, or are TensorFlow's",
        "copy the whole repository: model.safetensors, or its index and every shard",
        answer=_weights_of,
        source=_MODELING,
    ),
    Rule(
        "ST-TF-503",
        r"No module named '(?P<package>tensorflow|jax|flax|tf_keras)",
        "{package} is not installed, and what ran needs it",
        "from_tf=True, from_flax=True and TF or Flax classes work only where their library is installed",
        "use the torch class without from_tf and from_flax; its weights: safetransformers convert FOLDER NEW_FOLDER",
        types=("ModuleNotFoundError", "ImportError"),
        source="transformers/modeling_tf_pytorch_utils.py and modeling_flax_pytorch_utils.py, 4.57.6",
    ),
    Rule(
        "ST-TF-504",
        r"\s*(?P<name>(?P<kind>TF|Flax)(?P<torch>\w+)) requires the (?:TensorFlow|FLAX) library but it was not found",
        "{name} is a class of {kind}, whose library is not installed",
        "transformers 5 has no TF and Flax classes at all",
        "from transformers import {torch}  # the torch class of the same architecture",
        source="transformers/utils/import_utils.py, 4.57.6",
    ),
    Rule(
        "ST-TF-505",
        r"(?:Unable to convert output to TensorFlow tensors format, TensorFlow is not installed"
        r"|tf is not a valid TensorType)",
        'return_tensors="tf" asks for TensorFlow tensors, which this installation cannot make',
        "TensorFlow is not installed, or transformers 5 is, which has none of it",
        'return_tensors="pt" for torch, or "np", from which tf.constant(...) makes a tensor',
        source="transformers/tokenization_utils_base.py, 4.57.6; transformers/utils/generic.py, 5.23.0",
    ),
    Rule(
        "ST-HUB-506",
        r"(?P<repo>[\w./\\~:-]+) does not appear to have (?:a file|files) named (?P<names>\(?['\w.\-/ ,]+?\)?)(?:\. "
        r"Checkout|\.?\n|\.?$)",
        "{repo} has no file {names}",
        "the repository or folder is there, the file is not: probably another subfolder, variant or kind of model",
        "look at its list of files; for weights in a subfolder pass subfolder=..., for an adapter load it with peft",
        source="transformers/utils/hub.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-HUB-506",
        r"404 Client Error\.\s*(?:\(Request ID: \S+\)\s*)?Entry Not Found for url: "
        r"\S+?//[^/]+/(?P<repo>[\w.-]+/[\w.-]+)"
        r"/resolve/(?P<revision>[^/]+)/(?P<names>\S+?)\.?(?:\n|$)",
        "{repo} has no file {names} at {revision}",
        "the repository and the revision are there, the file is not",
        "https://huggingface.co/{repo}/tree/{revision} lists its files",
        source="huggingface_hub/utils/_http.py, 0.36.2 and 2.4.0",
    ),
    Rule(
        "ST-HUB-506",
        r"Can't load (?:the )?(?P<kind>configuration|model|tokenizer|processor|image processor|feature extractor|video "
        r"processor)\s*(?:of|for) '(?P<repo>[^']+)'\. If you were trying to load it from",
        "the {kind} of {repo} could not be loaded",
        "the message stands for every cause: probably the repository has no such file, a folder of the same name is "
        "in the "
        "way, or the hub was not reached (the exceptions above say which)",
        "ls {repo} in the working directory; else look at the repository's list of files",
        is_generic=True,
        source="transformers/configuration_utils.py and others, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-HUB-506",
        r"\[Errno 2\] No such file or directory: '(?P<path>[^']+-of-\d{5}\.(?:bin|safetensors))'",
        "a shard of the weights is missing: {path}",
        "the index names it, and the folder does not have it: probably a copy or download that was cut",
        _AGAIN,
        source=_MODELING,
    ),
    Rule(
        "ST-HUB-006",
        r"It looks like the config file at '(?P<path>[^']+)' is not a valid JSON file",
        "{path} is not JSON",
        "probably a login page or an error page was saved in its place, or the download was cut",
        _AGAIN,
        source="transformers/configuration_utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-HUB-006",
        r"(?:Error while deserializing header: (?:header too large|invalid header|invalid "
        r"UTF-8)|HeaderTooLarge|InvalidHeader)",
        "a .safetensors file does not begin with a safetensors header",
        "probably a Git LFS pointer (git clone without `git lfs pull`), a login page, or another format under this "
        "name",
        f"head -c 100 FILE shows which; for a pointer: git lfs pull; else {_AGAIN}",
        source="safetensors 0.8.0",
    ),
    Rule(
        "ST-HUB-006",
        r"(?:Error while deserializing header: incomplete metadata, file not fully covered|MetadataIncompleteBuffer"
        r"|InvalidHeaderLength|Error while deserializing header: (?:header too small|invalid header length))",
        "a .safetensors file is cut short",
        "its header speaks of more bytes than the file has",
        _AGAIN,
        source="safetensors 0.8.0",
    ),
    Rule(
        "ST-HUB-006",
        r"PytorchStreamReader failed",
        "a .bin or .pt file is cut short or damaged",
        "its zip archive cannot be read to the end",
        _AGAIN,
        source="torch 2.13.0, caffe2/serialize/inline_container.cc",
    ),
    Rule(
        "ST-LOAD-503",
        r"Weights only load failed\.[\s\S]*?(?:Unsupported global: GLOBAL (?P<name>\S+)|Unsupported operand "
        r"(?P<operand>\d+))",
        "torch.load refused what is in the file: {name}{operand}",
        "weights_only=True, the default since torch 2.6, reads tensors and plain types; a class needs code to be "
        "run, and an "
        "unknown operand means that the file is probably no torch file at all",
        "torch.serialization.add_safe_globals([...]) for a class that you know; never weights_only=False for a file "
        "that you "
        "do not trust; else load safetensors",
        source="torch 2.13.0, torch/serialization.py",
    ),
    Rule(
        "ST-HUB-006",
        r"Unable to load weights from pytorch checkpoint file for '(?P<path>[^']+)'",
        "{path} cannot be read as torch weights",
        "probably it is cut short, a Git LFS pointer, a login page, or of another library",
        _AGAIN,
        is_generic=True,
        source="transformers/modeling_utils.py, 4.57.6",
    ),
    Rule(
        "ST-LOAD-501",
        r"(?:The repository|Loading) (?P<repo>\S+) (?:(?:contains|references) custom code which must be executed to "
        r"correctly load|requires you to execute the configuration file)",
        "{repo} is loaded by Python code of its own, which transformers runs only when told to",
        "its architecture is not in the installed transformers; trust_remote_code=True runs whatever the repository "
        "holds",
        'read the .py files, then from_pretrained("{repo}", trust_remote_code=True, revision="<commit hash>")',
        source="transformers/dynamic_module_utils.py, 4.57.6 and 5.23.0",
    ),
    Rule(
        "ST-LOAD-001",
        r"Error\(s\) in loading state_dict for (?P<model>\w+):\s*(?P<first>[^\n]+)",
        "the weights do not fit {model}",
        "the first difference: {first}",
        "load with the class and the config that the weights were saved from; for a new head of another size "
        "ignore_mismatched_sizes=True",
        source="torch 2.13.0, torch/nn/modules/module.py",
    ),
    Rule(
        "ST-LOAD-001",
        r"You set `ignore_mismatched_sizes` to `False`, thus raising an error",
        "weights of the checkpoint have other shapes than the model's",
        "the report above the error names them",
        "load with the config that the weights were saved with; for a new head of another size "
        "ignore_mismatched_sizes=True",
        source="transformers/utils/loading_report.py, 5.23.0",
    ),
    Rule(
        "ST-LOAD-504",
        r"Cannot copy out of meta tensor; no data!",
        "a weight has a shape and no numbers: it is on the meta device",
        "the model was made without weights (device_map, init_empty_weights, torch.device('meta')), or a checkpoint "
        "did not "
        "hold this weight",
        "load with from_pretrained and leave out .to(...); look at its report of missing weights",
        source="torch 2.13.0, aten/src/ATen/native/TensorConversions.cpp",
    ),
    Rule(
        "ST-LOAD-505",
        r"Cannot use chat template functions because tokenizer\.chat_template is not set",
        "the tokenizer has no chat template",
        "probably a base model, which was not trained to chat; or chat_template.jinja was not copied",
        "use the instruct version of the model; or tokenizer.chat_template = '...'",
        source="transformers/tokenization_utils_base.py, 4.57.6 and 5.23.0",
    ),
)

WARNINGS: Final = (
    Rule(
        "ST-LOAD-001",
        r"Some weights of (?P<model>\w+) were not initialized from the model checkpoint[\s\S]*?and are newly "
        r"initialized"
        r"(?:: (?P<keys>\[[^\]]*\]))?",
        "part of {model} does not come from the checkpoint and holds random values",
        "newly initialised: {keys}",
        "train them, or load the class that the checkpoint was saved from (config.architectures)",
        source="transformers/modeling_utils.py, 4.57.6",
    ),
    Rule(
        "ST-LOAD-001",
        r"(?P<model>\w+) LOAD REPORT\b[\s\S]*?\n(?P<keys>\S+)[ |]+MISSING",
        "part of {model} does not come from the checkpoint and holds random values",
        "missing in the checkpoint: {keys} and perhaps more",
        "train them, or load the class that the checkpoint was saved from (config.architectures)",
        source="transformers/utils/loading_report.py, 5.23.0",
    ),
)
