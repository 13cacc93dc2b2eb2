"""Errors of devices that the machine of the tests does not have: their texts, each with the file that makes it.

Each is a format string with plausible numbers in its places. The fixed words of the CUDA allocator, the driver and
cuBLAS were compared with the strings in the libraries of torch 2.14.1's CUDA build (libc10_cuda.so, libtorch_cuda.so);
those of CUDA kernels, HIP, XPU, MPS and Windows with nothing. Where there is a CUDA device, tests/gpu runs what fails.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recorded:
    """One text.

    Attributes:
        code: of its explanation.
        text: as Python prints it.
        source: the file of torch that makes it, for who wants to look.
        says: words of the explanation.
    """

    code: str
    text: str
    source: str
    says: tuple[str, ...] = ()


_HINT = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect."
    "\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
_KERNEL = "/pytorch/aten/src/ATen/native/cuda/{file}:{line}: {function}: block: [0,0,0], thread: [{thread},0,0] "
_OOM = (
    "{name} out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.25 GiB is "
    "free. "
    "{others}Including non-PyTorch memory, this process has 77.80 GiB memory in use. Of the allocated memory 70.10 "
    "GiB is "
    "allocated by PyTorch, and 6.90 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory "
    "is large "
    "try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)

RECORDED = {
    "CUDA memory": Recorded(
        "ST-OOM-501",
        "torch.OutOfMemoryError: " + _OOM.format(name="CUDA", others="Process 4711 has 3.00 GiB memory in use. "),
        "c10/cuda/CUDACachingAllocator.cpp",
        ("2.00 GiB", "79.10 GiB", "6.90 GiB reserved", "other processes"),
    ),
    "ROCm memory": Recorded(
        "ST-OOM-501",
        "torch.OutOfMemoryError: " + _OOM.format(name="HIP", others=""),
        "c10/cuda/CUDACachingAllocator.cpp as hipify turns it",
        ("HIP",),
    ),
    "XPU memory": Recorded(
        "ST-OOM-501",
        "torch.OutOfMemoryError: XPU out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 15.91 "
        "GiB.",
        "c10/xpu/XPUCachingAllocator.cpp",
        ("XPU", "4.00 GiB", "15.91 GiB"),
    ),
    "MPS memory": Recorded(
        "ST-OOM-503",
        "RuntimeError: MPS backend out of memory (MPS allocated: 17.60 GiB, other allocations: 384.00 KiB, max "
        "allowed: 18.13 "
        "GiB). Tried to allocate 1.00 GiB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper "
        "limit "
        "for memory allocations (may cause system failure).",
        "aten/src/ATen/mps/MPSAllocator.mm",
        ("1.00 GiB", "18.13 GiB"),
    ),
    "memory of the driver": Recorded(
        "ST-OOM-501",
        f"torch.AcceleratorError: CUDA error: out of memory{_HINT}",
        "c10/cuda/CUDAException.cpp",
    ),
    "CPU memory on Windows": Recorded(
        "ST-OOM-502",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried "
        "to allocate "
        "17179869184 bytes.",
        "c10/core/impl/alloc_cpu.cpp",
        ("16.0 GiB",),
    ),
    "cuBLAS": Recorded(
        "ST-OOM-504",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "aten/src/ATen/cuda/CUDABlas.cpp and Exceptions.h",
        ("ALLOC_FAILED",),
    ),
    "cuDNN": Recorded(
        "ST-OOM-504",
        "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "aten/src/ATen/cudnn/Exceptions.h",
        ("NOT_INITIALIZED",),
    ),
    "a label on the GPU": Recorded(
        "ST-ASSERT-503",
        _KERNEL.format(file="Loss.cu", line=250, function="nll_loss_forward_reduce_cuda_kernel_2d", thread=3)
        + "Assertion `t >= 0 && t < n_classes` failed.",
        "aten/src/ATen/native/cuda/Loss.cu",
        ("num_labels",),
    ),
    "an id on the GPU": Recorded(
        "ST-ASSERT-502",
        _KERNEL.format(file="Indexing.cu", line=1553, function="indexSelectLargeIndex", thread=32)
        + "Assertion `srcIndex < srcSelectDimSize` failed.",
        "aten/src/ATen/native/cuda/Indexing.cu",
        ("resize_token_embeddings",),
    ),
    "a probability on the GPU": Recorded(
        "ST-ASSERT-504",
        _KERNEL.format(file="TensorCompare.cu", line=112, function="_assert_async_cuda_kernel", thread=0)
        + "Assertion `probability tensor contains either `inf`, `nan` or element < 0` failed.",
        "aten/src/ATen/native/cuda/TensorCompare.cu",
        ("nan",),
    ),
    "a check of one's own on the GPU": Recorded(
        "ST-ASSERT-501",
        "/home/me/kernel.cu:12: mine: block: [0,0,0], thread: [0,0,0] Assertion `i < limit` failed.",
        "assert() of CUDA C++, Programming Guide 13",
        ("i < limit",),
    ),
    "a check that is not named": Recorded(
        "ST-ASSERT-501",
        f"torch.AcceleratorError: CUDA error: device-side assert triggered{_HINT}",
        "c10/cuda/CUDAException.cpp",
        ("CUDA_LAUNCH_BLOCKING",),
    ),
    "no kernel": Recorded(
        "ST-ASSERT-505",
        f"torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device{_HINT}",
        "c10/cuda/CUDAException.cpp",
        ("get_arch_list",),
    ),
    "an old driver": Recorded(
        "ST-ASSERT-506",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
        "driver by "
        "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx",
        "torch/csrc/cuda/Module.cpp and torch/cuda/__init__.py",
        ("11040",),
    ),
    "no driver": Recorded(
        "ST-ASSERT-506",
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed "
        "a driver "
        "from http://www.nvidia.com/Download/index.aspx",
        "torch/csrc/cuda/Module.cpp",
        ("docker run --gpus all",),
    ),
    "memory of others": Recorded(
        "ST-ASSERT-507",
        f"torch.AcceleratorError: CUDA error: an illegal memory access was encountered{_HINT}",
        "c10/cuda/CUDAException.cpp",
        ("compute-sanitizer",),
    ),
    "two devices": Recorded(
        "ST-ASSERT-508",
        "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
        "aten/src/ATen/TensorIterator.cpp",
        ("cuda:0", "cpu"),
    ),
}
