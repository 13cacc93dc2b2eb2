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
# What the allocator says besides, each where it says it; the second words of each are those of torch before 2.1.
_ALLOCATED: Final = {
    # "capacty" is how torch wrote it once.
    r"GPU\s+(\d+)(?: has a total capaci?ty of|;) ([\d.]+ \w+)": "GPU {0} has {1}",
    r"(?:of which ([\d.]+ \w+) is|; ([\d.]+ \w+)) free": "{0} free",
    r"this process has ([\d.]+ \w+) memory in use": "{0} held by this process",
    r"([\d.]+ \w+) (?:is allocated by PyTorch|already allocated)": "{0} of it in tensors",
    r"([\d.]+ \w+) is reserved by PyTorch but unallocated": "{0} reserved and unused",
    r"([\d.]+ \w+) (?:reserved in total by PyTorch|cached)": "{0} reserved in all",
}
# The setting against memory in pieces; newer versions of torch name it themselves.
_PIECES: Final = re.compile(r"PYTORCH_(?:\w+_)?ALLOC_CONF=[\w:]+")
_OLD_PIECES: Final = {
    "CUDA": "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    "HIP": "PYTORCH_HIP_ALLOC_CONF=expandable_segments:True",
    "XPU": "torch.xpu.empty_cache()",
}


def _of_accelerator(facts: Facts) -> Explanation:
    """The allocator's own numbers, and what is in the way: other processes, or memory that is in pieces."""
    text = facts["all"]
    told = [
        words.format(*filter(None, found.groups()))
        for pattern, words in _ALLOCATED.items()
        if (found := re.search(pattern, text))
    ]
    others = re.findall(r"Process \d+ has ([\d.]+ \w+) memory in use", text)
    if others and "this process has" in text:
        told.append("other processes hold memory there too (nvidia-smi)")
    elif others:
        told.append(f"{others[0]} held by a process that is probably this one, if it runs in a container; else another")
    named = _PIECES.search(text)
    return Explanation(
        "ST-OOM-501",
        f"{facts['device']} is out of memory: {facts['asked']} more were asked for",
        ", ".join(told),
        f"{_SMALLER}; where much is reserved and unused: {named[0] if named else _OLD_PIECES[facts['device']]}",
    )


def _of_gaudi(facts: Facts) -> Explanation:
    return Explanation(
        "ST-OOM-501",
        f"Gaudi is out of memory: {texts.size(int(facts['asked']))} more were asked for",
        "weights and batch do not fit together, or another process holds memory there (hl-smi)",
        _SMALLER,
    )


_OLD_DRIVER: Final = r"The NVIDIA driver on your system is too old \(found version (?P<found>\d{4,6})\)"
_NO_DRIVER: Final = r"Found no NVIDIA driver on your system"
_NO_DRIVER_TOLD: Final = (
    "no NVIDIA driver was found, and a tensor was sent to a GPU",
    "there is no GPU, or (in a container) it was not passed in: docker run --gpus all",
    'nvidia-smi; device = "cuda" if torch.cuda.is_available() else "cpu"',
)


def _of_old_driver(facts: Facts) -> Explanation:
    major, rest = divmod(int(facts["found"]), 1000)
    return Explanation(
        "ST-ASSERT-506",
        "the NVIDIA driver is older than the CUDA that torch was built with needs",
        f"the driver knows CUDA up to {major}.{rest // 10} (found version {facts['found']})",
        "update the driver (nvidia-smi shows it), or install a torch built for an older CUDA",
    )


def _of_illegal_access(facts: Facts) -> Explanation:
    ways = {
        "CUDA": "CUDA_LAUNCH_BLOCKING=1, or compute-sanitizer python script.py",
        "HIP": "AMD_SERIALIZE_KERNEL=3",
    }
    return Explanation(
        "ST-ASSERT-507",
        "a GPU kernel read or wrote outside its memory",
        "the line that the traceback shows is probably a later one; mostly a custom kernel, or an index out of range",
        f"start Python anew with {ways[facts['maker']]}; the CPU names an index",
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
        "ST-OOM-501",
        texts.LEVEL_ZERO,
        "an Intel GPU is out of memory, outside torch's own allocator ({status})",
        "the driver itself could not allocate: probably another process fills the GPU, or weights and batch do not fit "
        "together",
        f"end the other process; {_SMALLER}",
        source="Unified Runtime, include/ur_api.h, whose codes SYCL passes on",
    ),
    Rule(
        "ST-OOM-501",
        texts.GAUDI,
        answer=_of_gaudi,
        source="Intel Gaudi's PyTorch bridge, whose sources are not public",
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
        "ST-OOM-504",
        texts.CUDNN_WORKSPACE,
        "cuDNN found no way to run a convolution",
        "probably the GPU's memory is full: each algorithm was tried, and none got its workspace; else cuDNN has none "
        "for this shape, type or GPU",
        "a smaller batch; nvidia-smi for other processes; if that does not help, torch.backends.cudnn.enabled = False",
        source=f"{_ATEN}/native/cudnn/Conv_v7.cpp and Conv_v8.cpp",
    ),
    Rule(
        "ST-OOM-504",
        texts.ONEDNN,
        "oneDNN could not create a primitive, and gives no reason",
        "probably the memory is full: the machine's own, or that of an Intel GPU; else oneDNN has none for this shape, "
        "type or processor",
        "a smaller batch; look for a limit: ulimit -v, docker --memory; ONEDNN_VERBOSE=all says what oneDNN tried",
        source="oneDNN 3.12.0, include/oneapi/dnnl/dnnl.hpp",
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
        r"Assertion `(?:srcIndex < srcSelectDimSize|[^`]*\"(?:vectorized gather kernel )?index out of bounds\")` "
        r"failed",
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
        "ST-ASSERT-504",
        r"Assertion `cumdist\[size - 1\] > static_cast<scalar_t>\(0\)` failed",
        "sampling got probabilities that are all 0, or nan",
        "the sum of a row is not above 0; the CUDA context is lost, so start Python anew",
        "torch.isnan(logits).any() and probs.sum(-1).min() before torch.multinomial; dtype=torch.bfloat16 or float32",
        source=f"{_ATEN}/native/cuda/MultinomialKernel.cu",
    ),
    Rule(
        "ST-ASSERT-504",
        r"Assertion `input\[0\] != 0` failed",
        "a check of values on the GPU failed: probably sampling got probabilities that are nan, infinite or negative",
        "torch on Windows does not print what torch._assert_async was told to say; the CUDA context is lost, so start "
        "Python anew",
        "torch.isnan(logits).any() at the first step; dtype=torch.bfloat16 or float32; the same batch on the CPU",
        source=f"{_ATEN}/native/cuda/TensorCompare.cu",
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
        r"(?:CUDA|HIP) error: (?:no kernel image is available for execution on the device|invalid device function)",
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
        _OLD_DRIVER,
        answer=_of_old_driver,
        source="torch/cuda/__init__.py and torch/csrc/cuda/Module.cpp, 2.13.0",
    ),
    Rule(
        "ST-ASSERT-506",
        r"CUDA error: (?:the provided PTX was compiled with an unsupported toolchain|CUDA driver version is "
        r"insufficient)",
        "the NVIDIA driver is older than the CUDA that torch, or a kernel that it runs, was built with",
        "a driver runs what was built for its own CUDA or an older one",
        "update the driver (nvidia-smi shows it), or install what was built for an older CUDA",
        source="torch 2.13.0, c10/cuda/CUDAException.cpp",
    ),
    Rule(
        "ST-ASSERT-506",
        _NO_DRIVER,
        *_NO_DRIVER_TOLD,
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
        r"(?P<maker>CUDA|HIP) error: an illegal memory access was encountered",
        answer=_of_illegal_access,
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
# What torch warns of when it is asked whether there is a GPU.
WARNINGS: Final = (
    Rule(
        "ST-ASSERT-506",
        rf"CUDA initialization: {_OLD_DRIVER}",
        types=("UserWarning",),
        answer=_of_old_driver,
        source="c10/cuda/CUDAFunctions.cpp, 2.13.0",
    ),
    Rule(
        "ST-ASSERT-506",
        rf"CUDA initialization: {_NO_DRIVER}",
        "torch looked for a GPU, and there is no NVIDIA driver",
        *_NO_DRIVER_TOLD[1:],
        types=("UserWarning",),
        source="c10/cuda/CUDAFunctions.cpp, 2.13.0",
    ),
)
