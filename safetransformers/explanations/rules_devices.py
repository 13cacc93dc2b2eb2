"""Rules about memory and devices: what torch raises when it runs out, and when a kernel stops."""

from __future__ import annotations

import re
from typing import Final

from ..explanation import Explanation
from ..memory import texts
from .rule import Facts, Rule

_ATEN: Final = "torch 2.13.0, aten/src/ATen"
_RECORD: Final = 'safetransformers.configure(device_checks="record") names the value the next time'
_CACHING: Final = "torch 2.13.0, c10/cuda/CUDACachingAllocator.cpp (hipified for ROCm), c10/xpu/XPUCachingAllocator.cpp"
_SMALLER: Final = (
    "a smaller batch (gradient_accumulation_steps keeps the effective one), shorter texts, dtype=torch.bfloat16, "
    "model.gradient_checkpointing_enable(), torch.no_grad() for inference"
)
# What the allocator says besides, each where it says it.
_ALLOCATED: Final = {
    r"GPU (\d+) has a total capacity of ([\d.]+ \w+)": "GPU {0} has {1}",
    r"of which ([\d.]+ \w+) is free": "{0} free",
    r"this process has ([\d.]+ \w+) memory in use": "{0} held by this process",
    r"([\d.]+ \w+) is allocated by PyTorch": "{0} of it in tensors",
    r"([\d.]+ \w+) is reserved by PyTorch but unallocated": "{0} reserved and unused",
}


def _of_accelerator(facts: Facts) -> Explanation:
    """The allocator's own numbers, and what is in the way: other processes, or memory that is in pieces."""
    text = facts["all"]
    told = [
        words.format(*found.groups()) for pattern, words in _ALLOCATED.items() if (found := re.search(pattern, text))
    ]
    others = re.search(r"Process \d+ has [\d.]+ \w+ memory in use", text)
    if others:
        told.append("other processes hold memory there too (nvidia-smi)")
    return Explanation(
        "ST-OOM-501",
        f"{facts['device']} is out of memory: {facts['asked']} more were asked for",
        ", ".join(told),
        f"{_SMALLER}; where much is reserved and unused: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    )


def _of_cpu(facts: Facts) -> Explanation:
    return Explanation(
        "ST-OOM-502",
        f"the machine's own memory does not suffice: torch asked for {texts.size(int(facts['asked']))} in one piece",
        "a size far beyond the machine is probably a wrong shape; else weights are loaded in float32, or several "
        "copies are held",
        "print the shapes; dtype=torch.bfloat16; a smaller batch; look for a limit: ulimit -v, docker --memory",
    )


RULES: Final = (
    Rule(
        "ST-OOM-501",
        rf"(?P<all>{texts.ACCELERATOR}[\s\S]*)",
        answer=_of_accelerator,
        source=_CACHING,
    ),
    Rule(
        "ST-OOM-503",
        texts.MPS,
        "Apple's GPU is out of memory: {asked} more were asked for",
        "{held} in tensors, {others} held by others, {limit} is the most that torch takes",
        f"{_SMALLER}; PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 lifts the limit, and the whole machine may then swap",
        source=f"{_ATEN}/mps/MPSAllocator.mm",
    ),
    Rule(
        "ST-OOM-501",
        texts.DRIVER,
        "the GPU is out of memory, outside torch's own allocator",
        "the driver itself could not allocate: probably another process fills the GPU (nvidia-smi)",
        f"end the other process, or choose another GPU: CUDA_VISIBLE_DEVICES=1; {_SMALLER}",
        source="torch 2.13.0, c10/cuda/CUDAException.cpp",
    ),
    Rule(
        "ST-OOM-502",
        texts.CPU,
        answer=_of_cpu,
        source="torch 2.13.0, c10/core/impl/alloc_cpu.cpp",
    ),
    Rule(
        "ST-OOM-502",
        texts.NUMPY,
        "the machine's own memory does not suffice for {asked}",
        "numpy asked for an array of shape {shape}, {dtype}",
        "a size far beyond the machine is probably a wrong shape; else work in pieces, or with np.memmap",
        source="numpy/_core/_exceptions.py, 2.4.6",
    ),
    Rule(
        "ST-OOM-502",
        r"$",
        "the machine's own memory does not suffice",
        "Python could not allocate; a container or a batch system may allow less than the machine has",
        "look for a limit: ulimit -v, docker --memory, Slurm's --mem; load in parts",
        types=("MemoryError",),
        source="Python 3.10 to 3.13",
    ),
    Rule(
        "ST-OOM-504",
        r"CUDA error: CUBLAS_STATUS_(?P<status>ALLOC_FAILED|NOT_INITIALIZED)",
        "cuBLAS could not start (CUBLAS_STATUS_{status})",
        "probably the GPU's memory is full; else an index out of range in an earlier kernel, which shows itself here",
        "a smaller batch; if that does not help, run one batch on the CPU: an index out of range is named there",
        is_generic=True,
        source=f"{_ATEN}/cuda/Exceptions.h",
    ),
    Rule(
        "ST-OOM-504",
        r"cuDNN error: CUDNN_STATUS_(?P<status>NOT_INITIALIZED|ALLOC_FAILED|INTERNAL_ERROR)",
        "cuDNN could not start (CUDNN_STATUS_{status})",
        "probably the GPU's memory is full; else the driver and the CUDA that torch was built with do not fit",
        "a smaller batch; nvidia-smi for other processes; python -m torch.utils.collect_env for the versions",
        source=f"{_ATEN}/cudnn/Exceptions.h",
    ),
    Rule(
        "ST-ASSERT-503",
        r"Assertion `t >= 0 && t < n_classes` failed",
        "a label is not one of the classes: negative, or as large as their number",
        "the loss on the GPU checks each label (-100 is ignored); the CUDA context is lost, so start Python anew",
        f"labels.min(), labels.max() against model.config.num_labels, before the batch goes to the GPU; {_RECORD}",
        source=f"{_ATEN}/native/cuda/NLLLoss2d.cu and Loss.cu",
    ),
    Rule(
        "ST-ASSERT-502",
        r"Assertion `(?:srcIndex < srcSelectDimSize|ind >= 0 && ind < ind_dim_size && \"index out of bounds\""
        r"|-sizes\[i\] <= index && index < sizes\[i\] && \"index out of bounds\"|vectorized_gather[^`]*)` failed",
        "an id is not in the table that it looks up: probably a token id or a position beyond the embedding",
        "the CUDA context is lost, so start Python anew",
        "input_ids.max() against model.get_input_embeddings().num_embeddings; the length against "
        f"config.max_position_embeddings; after new tokens model.resize_token_embeddings(len(tokenizer)); {_RECORD}",
        source=f"{_ATEN}/native/cuda/Indexing.cu and IndexKernel.cu",
    ),
    Rule(
        "ST-ASSERT-504",
        r"(?:Assertion `probability tensor contains either `?inf`?, `?nan`? or element < 0|probability tensor "
        r"contains either "
        r"`inf`, `nan` or element < 0)",
        "sampling got probabilities that are nan, infinite or negative",
        "the logits were nan before: probably float16 overflowed, or the weights are not sound",
        "dtype=torch.bfloat16 or float32; torch.isnan(logits).any() at the first step; a temperature above 0",
        source=f"{_ATEN}/native/Distributions.cpp and cuda/TensorCompare.cu",
    ),
    Rule(
        "ST-ASSERT-501",
        r"Assertion `(?P<condition>[^`]+)` failed",
        "a check inside a GPU kernel failed: {condition}",
        "kernels run later than the line that starts them; the CUDA context is lost, so start Python anew",
        "run the same batch on the CPU, where the error names its line; or CUDA_LAUNCH_BLOCKING=1",
        types=("Assertion",),
        source=f"{_ATEN}/native/cuda",
    ),
    Rule(
        "ST-ASSERT-501",
        r"CUDA error: device-side assert triggered",
        "a check inside a GPU kernel failed, and the message does not say which",
        "the line that the traceback shows is probably a later one, because kernels run on their own; lines with "
        "'Assertion' "
        "above it name the check. Most often a label or a token id is out of range",
        f"start Python anew; run the same batch on the CPU, where the error names its line; or "
        f"CUDA_LAUNCH_BLOCKING=1; {_RECORD}",
        is_generic=True,
        source="torch 2.13.0, c10/cuda/CUDAException.cpp",
    ),
    Rule(
        "ST-ASSERT-502",
        r"index out of range in self$",
        "an id is not in the table that it looks up: a token id or a position beyond the embedding",
        "the text is probably longer than config.max_position_embeddings, or tokens were added and the model not "
        "resized, or "
        "tokenizer and model are of two checkpoints",
        "input_ids.max() against model.get_input_embeddings().num_embeddings; truncation=True; "
        "model.resize_token_embeddings(len(tokenizer))",
        types=("IndexError",),
        source=f"{_ATEN}/native/EmbeddingBag.cpp and TensorAdvancedIndexing.cpp",
    ),
    Rule(
        "ST-ASSERT-503",
        r"Target (?P<label>-?\d+) is out of bounds",
        "the label {label} is not one of the classes of the model",
        "labels go from 0 to num_labels - 1; -100 is ignored",
        "from_pretrained(..., num_labels=<number of classes>), and labels that start at 0",
        types=("IndexError",),
        source=f"{_ATEN}/native/LossNLL.cpp",
    ),
    Rule(
        "ST-ASSERT-505",
        r"CUDA error: no kernel image is available for execution on the device",
        "this torch was not built for this GPU",
        "its kernels are for other compute capabilities: the GPU is newer or older than the build",
        "torch.cuda.get_arch_list() against torch.cuda.get_device_capability(); then another build from pytorch.org",
        source="torch 2.13.0, c10/cuda/CUDAException.cpp",
    ),
    Rule(
        "ST-ASSERT-506",
        r"Torch not compiled with CUDA enabled",
        "this torch was built without CUDA, and a tensor was sent to a GPU",
        "a build for the CPU (or for a Mac) is installed",
        'device = "cuda" if torch.cuda.is_available() else "cpu"; for a GPU, the build from pytorch.org',
        types=("AssertionError",),
        source="torch/cuda/__init__.py, 2.13.0",
    ),
    Rule(
        "ST-ASSERT-506",
        r"(?:The NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)"
        r"|CUDA error: (?:the provided PTX was compiled with an unsupported toolchain|CUDA driver version is "
        r"insufficient))",
        "the NVIDIA driver is older than the CUDA that torch was built with needs",
        "{found}",
        "update the driver (nvidia-smi shows it), or install a torch built for an older CUDA",
        source="torch/cuda/__init__.py and torch/csrc/cuda/Module.cpp, 2.13.0",
    ),
    Rule(
        "ST-ASSERT-506",
        r"Found no NVIDIA driver on your system",
        "no NVIDIA driver was found, and a tensor was sent to a GPU",
        "there is no GPU, or (in a container) it was not passed in: docker run --gpus all",
        'nvidia-smi; device = "cuda" if torch.cuda.is_available() else "cpu"',
        source="torch/csrc/cuda/Module.cpp, 2.13.0",
    ),
    Rule(
        "ST-ASSERT-506",
        r"Attempting to deserialize object on a (?P<device>\w+) device but torch\.\w+\.is_available\(\) is False",
        "the file holds tensors of a {device} device, and there is none here",
        "torch.load puts tensors back where they were saved from",
        'torch.load(path, map_location="cpu")',
        source="torch/serialization.py, 2.13.0",
    ),
    Rule(
        "ST-ASSERT-507",
        r"CUDA error: an illegal memory access was encountered",
        "a GPU kernel read or wrote outside its memory",
        "the line that the traceback shows is probably a later one; most often a custom kernel, or indices out of "
        "range",
        "start Python anew with CUDA_LAUNCH_BLOCKING=1, or compute-sanitizer python script.py; the CPU names an index",
        source="torch 2.13.0, c10/cuda/CUDAException.cpp",
    ),
    Rule(
        "ST-ASSERT-508",
        r"Expected all tensors to be on the same device, but (?:found at least two devices, (?P<one>\S+) and "
        r"(?P<other>[^\s!,]+)"
        r"|got (?P<name>\w+) is on (?P<here>\S+?), different from other tensors on (?P<there>\S+))"
        r"|Tensor on device (?P<found>\S+) is not on the expected device (?P<expected>[^\s!]+)",
        "tensors of one operation are on two devices: {one}{here}{found} and {other}{there}{expected}",
        "probably the inputs were not moved to the model's device, or a part of the model was not",
        "inputs = inputs.to(model.device); with device_map, to that of the embedding",
        source=f"{_ATEN}/TensorIterator.cpp and core/op_registration/adaption.h",
    ),
)
