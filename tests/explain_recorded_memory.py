"""Memory that ran out on devices that the machine of the tests does not have, as users posted it in public threads.

Each text is verbatim, cut to the lines of the error; only users' folders and the numbers of processes are changed.
Where torch changed its words there is a text of each. Where there is a CUDA device, tests/gpu runs what fails.
"""

from __future__ import annotations

from explain_making import Recorded

MEMORY = {
    "CUDA memory": Recorded(
        "ST-OOM-501",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.78 GiB. GPU 0 has a total capacity of "
        "31.47 GiB of which 12.73 GiB is free. Including non-PyTorch memory, this process has 18.73 GiB memory "
        "in use. Of the allocated memory 9.08 GiB is allocated by PyTorch, and 9.35 GiB is reserved by PyTorch "
        "but unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory "
        "Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
        "c10/cuda/CUDACachingAllocator.cpp",
        "murong-xu/CADS#4",
        (
            "22.78 GiB",
            "GPU 0 has 31.47 GiB",
            "12.73 GiB free",
            "18.73 GiB held by this",
            "9.35 GiB reserved and unused",
        ),
        ("other processes",),
    ),
    "CUDA memory beside other processes": Recorded(
        "ST-OOM-501",
        "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 572.00 MiB. GPU 0 has a total "
        "capacity of 39.49 GiB of which 321.31 MiB is free. Process 1001 has 414.00 MiB memory in use. Including "
        "non-PyTorch memory, this process has 37.46 GiB memory in use. Process 1002 has 414.00 MiB memory in "
        "use. Process 1003 has 414.00 MiB memory in use. Process 1004 has 414.00 MiB memory in use. Of the "
        "allocated memory 36.04 GiB is allocated by PyTorch, and 321.37 MiB is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory "
        "Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
        "c10/cuda/CUDACachingAllocator.cpp",
        "awslabs/keys_values#92",
        ("572.00 MiB", "other processes", " PYTORCH_ALLOC_CONF="),
    ),
    "CUDA memory in a container": Recorded(
        "ST-OOM-501",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total "
        "capacty of 14.75 GiB of which 235.06 MiB is free. Process 1001 has 14.52 GiB memory in use. Of the "
        "allocated memory 14.06 GiB is allocated by PyTorch, and 330.42 MiB is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting max_split_size_mb to avoid "
        "fragmentation.  See documentation for Memory Management and PYTORCH_CUDA_ALLOC_CONF",
        "c10/cuda/CUDACachingAllocator.cpp",
        "FoundationVision/GenerateU#10",
        ("GPU 0 has 14.75 GiB", "14.52 GiB held by a process that is probably this one"),
        ("other processes",),
    ),
    "CUDA memory in the words of torch 2.0": Recorded(
        "ST-OOM-501",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 10.73 GiB (GPU 0; 8.00 GiB total "
        "capacity; 17.20 GiB already allocated; 0 bytes free; 19.15 GiB reserved in total by PyTorch) If "
        "reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation.  See "
        "documentation for Memory Management and PYTORCH_CUDA_ALLOC_CONF",
        "c10/cuda/CUDACachingAllocator.cpp",
        "YingqianWang/iPASSR#9",
        ("10.73 GiB", "GPU 0 has 8.00 GiB", "0 bytes free", "17.20 GiB of it in tensors", "19.15 GiB reserved in all"),
    ),
    "CUDA memory in the words of torch 1": Recorded(
        "ST-OOM-501",
        "RuntimeError: CUDA out of memory. Tried to allocate 8.13 GiB (GPU 0; 10.76 GiB total capacity; 643.57 "
        "MiB already allocated; 8.20 GiB free; 32.43 MiB cached)",
        "c10/cuda/CUDACachingAllocator.cpp",
        "RenYurui/StructureFlow#35",
        ("8.13 GiB", "GPU 0 has 10.76 GiB", "8.20 GiB free", "32.43 MiB reserved in all"),
    ),
    "ROCm memory": Recorded(
        "ST-OOM-501",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 4.50 GiB. GPU 0 has a total capacity of "
        "15.98 GiB of which 1.40 GiB is free. Of the allocated memory 1.26 GiB is allocated by PyTorch, and "
        "152.50 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try "
        "setting PYTORCH_HIP_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for "
        "Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
        "c10/cuda/CUDACachingAllocator.cpp as hipify turns it",
        "ROCm/legacy-rocm-build#4358",
        ("HIP", "PYTORCH_HIP_ALLOC_CONF"),
        ("PYTORCH_CUDA_ALLOC_CONF",),
    ),
    "XPU memory": Recorded(
        "ST-OOM-501",
        "torch.OutOfMemoryError: XPU out of memory. Tried to allocate 8.00 GiB. GPU 0 has a total capacity of "
        "15.11 GiB. Of the allocated memory 0 bytes is allocated by PyTorch, and 0 bytes is reserved by PyTorch "
        "but unallocated. Please use `empty_cache` to release all unoccupied cached memory.",
        "c10/xpu/XPUCachingAllocator.cpp",
        "intel/intel-extension-for-pytorch#846",
        ("XPU", "8.00 GiB", "15.11 GiB", "torch.xpu.empty_cache()"),
        ("PYTORCH_CUDA_ALLOC_CONF",),
    ),
    "XPU memory in the words of Intel's extension": Recorded(
        "ST-OOM-501",
        "RuntimeError: XPU out of memory. Tried to allocate 1.71 GiB (GPU 0; 15.56 GiB total capacity; 176.00 "
        "MiB already allocated; 176.00 MiB reserved in total by PyTorch)",
        "intel-extension-for-pytorch, csrc/gpu/runtime/CachingDeviceAllocator.cpp",
        "intel/intel-extension-for-pytorch#629",
        ("XPU", "1.71 GiB", "GPU 0 has 15.56 GiB"),
    ),
    "MPS memory": Recorded(
        "ST-OOM-503",
        "MPS backend out of memory (MPS allocated: 15.72 GiB, other allocations: 2.41 MiB, max allowed: 18.13 "
        "GiB). Tried to allocate 5.81 GiB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable "
        "upper limit for memory allocations (may cause system failure).",
        "aten/src/ATen/mps/MPSAllocator.mm",
        "Comfy-Org/ComfyUI#8984",
        ("5.81 GiB", "18.13 GiB"),
    ),
    "MPS memory in older units": Recorded(
        "ST-OOM-503",
        "RuntimeError: MPS backend out of memory (MPS allocated: 7.23 GB, other allocations: 1.54 GB, max "
        "allowed: 9.07 GB). Tried to allocate 896.00 MB on private pool. Use "
        "PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit for memory allocations (may cause system "
        "failure).",
        "aten/src/ATen/mps/MPSAllocator.mm",
        "datalab-to/surya#254",
        ("896.00 MB", "9.07 GB"),
    ),
    "memory of the driver": Recorded(
        "ST-OOM-501",
        "torch.AcceleratorError: CUDA error: out of memory\n"
        "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp",
        "deepbeepmeep/Wan2GP#1083",
        ("nvidia-smi",),
    ),
    "memory of the driver in the words of torch 1": Recorded(
        "ST-OOM-501",
        "RuntimeError: CUDA error: out of memory\n"
        "CUDA kernel errors might be asynchronously reported at some other API call,so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1.",
        "c10/cuda/CUDAException.cpp",
        "taohan10200/IIM#28",
        ("nvidia-smi",),
    ),
    "memory of Intel's driver": Recorded(
        "ST-OOM-501",
        "terminate called after throwing an instance of 'sycl::_V1::exception'\n"
        "  what():  Enqueue process failed.\n"
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)\n"
        "Fatal Python error: Aborted",
        "Unified Runtime, include/ur_api.h",
        "open-edge-platform/physical-ai-studio#440",
        ("UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY", "probably"),
    ),
    "Gaudi's memory": Recorded(
        "ST-OOM-501",
        "RuntimeError: [Rank:0] FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::56836702208 (54203.7)MB",
        "Intel Gaudi's PyTorch bridge",
        "huggingface/optimum-habana#1708",
        ("52.9 GiB", "hl-smi"),
    ),
    "Gaudi's memory on several ranks": Recorded(
        "ST-OOM-501",
        "[rank7]: RuntimeError: [Rank:7] FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::2123366400 "
        "(2025)MB",
        "Intel Gaudi's PyTorch bridge",
        "huggingface/optimum-habana#2214",
        ("2.0 GiB",),
    ),
    "Gaudi's memory in older words": Recorded(
        "ST-OOM-501",
        "RuntimeError: FATAL ERROR :: MODULE:SYNHELPER workspace Allocation of size ::14493510400 failed!",
        "Intel Gaudi's PyTorch bridge",
        "HabanaAI/Model-References#10",
        ("13.5 GiB",),
    ),
    "CPU memory on Windows": Recorded(
        "ST-OOM-502",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you "
        "tried to allocate 31850496000 bytes.",
        "c10/core/impl/alloc_cpu.cpp",
        "Comfy-Org/Nvidia_RTX_Nodes_ComfyUI#13",
        ("29.7 GiB",),
    ),
    "CPU memory on Windows, with the folder of the build": Recorded(
        "ST-OOM-502",
        "RuntimeError: [enforce fail at "
        "C:\\actions-runner\\_work\\pytorch\\pytorch\\builder\\windows\\pytorch\\c10\\core\\impl\\alloc_cpu.cp"
        "p:81] data. DefaultCPUAllocator: not enough memory: you tried to allocate 1073741824 bytes.",
        "c10/core/impl/alloc_cpu.cpp",
        "harishanand95/diffusers#8",
        ("1.0 GiB",),
    ),
    "CPU memory on Windows, with a folder above": Recorded(
        "ST-OOM-502",
        "RuntimeError: [enforce fail at ..\\c10\\core\\impl\\alloc_cpu.cpp:72] data. DefaultCPUAllocator: not "
        "enough memory: you tried to allocate 26214400 bytes.",
        "c10/core/impl/alloc_cpu.cpp",
        "lllyasviel/Fooocus#237",
        ("25.0 MiB",),
    ),
    "CPU memory in the words of torch 1": Recorded(
        "ST-OOM-502",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:73] . DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 116813856768 bytes. Error code 12 (Cannot allocate memory)",
        "c10/core/impl/alloc_cpu.cpp",
        "JingyunLiang/VRT#49",
        ("108.8 GiB",),
    ),
}

LIBRARIES = {
    "cuBLAS": Recorded(
        "ST-OOM-504",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "aten/src/ATen/cuda/CUDABlas.cpp and Exceptions.h",
        "QwenLM/Qwen3#873",
        ("ALLOC_FAILED",),
    ),
    "cuBLAS in other words": Recorded(
        "ST-OOM-504",
        "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "aten/src/ATen/cuda/CUDABlas.cpp and Exceptions.h",
        "Vision-CAIR/MiniGPT-4#89",
        ("NOT_INITIALIZED",),
    ),
    "cuBLAS after an id beyond the embedding": Recorded(
        "ST-ASSERT-502",
        "../aten/src/ATen/native/cuda/Indexing.cu:1146: indexSelectLargeIndex: block: [84,0,0], thread: "
        "[101,0,0] Assertion `srcIndex < srcSelectDimSize` failed.\n"
        "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "aten/src/ATen/native/cuda/Indexing.cu, then aten/src/ATen/cuda/CUDABlas.cpp",
        "OptimalScale/LMFlow#114",
        ("resize_token_embeddings",),
    ),
    "cuDNN": Recorded(
        "ST-OOM-504",
        "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "aten/src/ATen/cudnn/Exceptions.h",
        "deepseek-ai/DeepSeek-VL#30",
        ("NOT_INITIALIZED",),
    ),
    "cuDNN in other words": Recorded(
        "ST-OOM-504",
        "RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR\n"
        "You can try to repro this exception using the following code snippet. If that doesn't trigger the "
        "error, please include your original repro script when reporting this issue.\n"
        "\n"
        "import torch\n"
        "torch.backends.cuda.matmul.allow_tf32 = True",
        "aten/src/ATen/cudnn/Exceptions.h and native/cudnn/ConvShared.cpp",
        "SuhyeonHa/CDTNet-PyTorch#6",
        ("INTERNAL_ERROR",),
    ),
    "cuDNN that could not allocate": Recorded(
        "ST-OOM-504",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "aten/src/ATen/cudnn/Exceptions.h",
        "KupynOrest/DeblurGAN#128",
        ("ALLOC_FAILED",),
    ),
    "cuDNN without a workspace": Recorded(
        "ST-OOM-504",
        "RuntimeError: GET was unable to find an engine to execute this computation",
        "aten/src/ATen/native/cudnn/Conv_v8.cpp",
        "RVC-Project/Retrieval-based-Voice-Conversion-WebUI#1840",
        ("probably", "workspace"),
    ),
    "cuDNN without a workspace, with benchmark=True": Recorded(
        "ST-OOM-504",
        "RuntimeError: FIND was unable to find an engine to execute this computation",
        "aten/src/ATen/native/cudnn/Conv_v8.cpp",
        "facebookresearch/vggt#183",
        ("probably", "workspace"),
    ),
    "cuDNN without a workspace in older words": Recorded(
        "ST-OOM-504",
        "RuntimeError: Unable to find a valid cuDNN algorithm to run convolution (try_all at "
        "/opt/conda/conda-bld/pytorch_1591914868920/work/aten/src/ATen/native/cudnn/Conv.cpp:693)",
        "aten/src/ATen/native/cudnn/Conv_v7.cpp",
        "deepakn97/relationPrediction#37",
        ("probably", "workspace"),
    ),
    "oneDNN where the memory did not suffice": Recorded(
        "ST-OOM-504",
        "Traceback (most recent call last):\n"
        '  File "demo.py", line 7, in <module>\n'
        "    f1_r_shift = f.conv2d(f1, r_shift_kernel, padding=1, groups=64)\n"
        "RuntimeError: could not create a primitive",
        "oneDNN, include/oneapi/dnnl/dnnl.hpp",
        "pytorch/pytorch#55884",
        ("probably",),
    ),
}
