"""Other failures of devices that the machine of the tests does not have, as users posted them in public threads.

Each text is verbatim, cut to the lines of the error; only users' folders and the numbers of processes are changed.
Where torch changed its words there is a text of each. Where there is a CUDA device, tests/gpu runs what fails.
"""

from __future__ import annotations

from explain_making import Recorded

CHECKS = {
    "a label on the GPU": Recorded(
        "ST-ASSERT-503",
        "../aten/src/ATen/native/cuda/Loss.cu:271: nll_loss_forward_reduce_cuda_kernel_2d: block: [0,0,0], "
        "thread: [0,0,0] Assertion `t >= 0 && t < n_classes` failed.",
        "aten/src/ATen/native/cuda/Loss.cu",
        "Jarr0d/ViTAA#11",
        ("num_labels",),
    ),
    "a label on the GPU of Windows": Recorded(
        "ST-ASSERT-503",
        "C:\\actions-runner\\_work\\pytorch\\pytorch\\builder\\windows\\pytorch\\aten\\src\\ATen\\native\\cuda\\"
        "NLLLoss2d.cu:103: block: [0,0,0], thread: [384,0,0] Assertion `t >= 0 && t < n_classes` failed.",
        "aten/src/ATen/native/cuda/NLLLoss2d.cu",
        "lorenmt/mtan#62",
        ("num_labels",),
    ),
    "a label on one rank": Recorded(
        "ST-ASSERT-503",
        "[rank0]:     return tensor.float()\n"
        "[rank0]: RuntimeError: CUDA error: device-side assert triggered\n"
        "[rank0]: CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace "
        "below might be incorrect.\n"
        "[rank0]: For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "[rank0]: Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
        "\n"
        "../aten/src/ATen/native/cuda/Loss.cu:250: nll_loss_forward_reduce_cuda_kernel_2d: block: [0,0,0], "
        "thread: [0,0,0] Assertion `t >= 0 && t < n_classes` failed.",
        "aten/src/ATen/native/cuda/Loss.cu",
        "modelscope/ms-swift#3267",
        ("num_labels",),
    ),
    "an id on the GPU": Recorded(
        "ST-ASSERT-502",
        "../aten/src/ATen/native/cuda/Indexing.cu:1292: indexSelectLargeIndex: block: [654,0,0], thread: "
        "[120,0,0] Assertion `srcIndex < srcSelectDimSize` failed.",
        "aten/src/ATen/native/cuda/Indexing.cu",
        "AkariAsai/self-rag#91",
        ("resize_token_embeddings",),
    ),
    "an id on the GPU, in the log of a server": Recorded(
        "ST-ASSERT-502",
        "2022-11-22T15:40:53,916 [WARN ] W-9000-my_tc_1.0-stderr MODEL_LOG - "
        "../aten/src/ATen/native/cuda/Indexing.cu:975: indexSelectLargeIndex: block: [85,0,0], thread: [1,0,0] "
        "Assertion `srcIndex < srcSelectDimSize` failed.",
        "aten/src/ATen/native/cuda/Indexing.cu",
        "pytorch/serve#1993",
        ("resize_token_embeddings",),
    ),
    "an id on the GPU in the words of torch 2.8": Recorded(
        "ST-ASSERT-502",
        "/pytorch/aten/src/ATen/native/cuda/IndexKernelUtils.cu:16: vectorized_gather_kernel: block: [572,0,0], "
        'thread: [27,0,0] Assertion `ind >=0 && ind < ind_dim_size && "vectorized gather kernel index out of '
        'bounds"` failed.',
        "aten/src/ATen/native/cuda/IndexKernelUtils.cu",
        "cumc-dbmi/cehrbert#126",
        ("resize_token_embeddings",),
    ),
    "an index on the GPU": Recorded(
        "ST-ASSERT-502",
        "/pytorch/aten/src/ATen/native/cuda/IndexKernel.cu:94: operator(): block: [0,0,0], thread: [31,0,0] "
        'Assertion `-sizes[i] <= index && index < sizes[i] && "index out of bounds"` failed.',
        "aten/src/ATen/native/cuda/IndexKernel.cu",
        "kvcache-ai/ktransformers#467",
        ("probably",),
    ),
    "an index on the GPU in older words": Recorded(
        "ST-ASSERT-502",
        "/pytorch/aten/src/ATen/native/cuda/IndexKernel.cu:93: operator(): block: [1,0,0], thread: [121,0,0] "
        'Assertion `index >= -sizes[i] && index < sizes[i] && "index out of bounds"` failed.',
        "aten/src/ATen/native/cuda/IndexKernel.cu",
        "huggingface/accelerate#2539",
        ("probably",),
    ),
    "a probability on the GPU": Recorded(
        "ST-ASSERT-504",
        "../aten/src/ATen/native/cuda/TensorCompare.cu:110: _assert_async_cuda_kernel: block: [0,0,0], thread: "
        "[0,0,0] Assertion `probability tensor contains either `inf`, `nan` or element < 0` failed.",
        "aten/src/ATen/native/cuda/TensorCompare.cu",
        "zai-org/GLM-4#637",
        ("nan",),
    ),
    "a probability on the GPU, behind a progress bar": Recorded(
        "ST-ASSERT-504",
        "  0%|                                                  | 0/33 [00:00<?, "
        "?it/s]/pytorch/aten/src/ATen/native/cuda/TensorCompare.cu:110: _assert_async_cuda_kernel: block: "
        "[0,0,0], thread: [0,0,0] Assertion `probability tensor contains either `inf`, `nan` or element < 0` "
        "failed.",
        "aten/src/ATen/native/cuda/TensorCompare.cu",
        "Tanveer81/ReVisionLLM#6",
        ("nan",),
    ),
    "a probability on the GPU, in the middle of an answer": Recorded(
        "ST-ASSERT-504",
        "Okay, the /pytorch/aten/src/ATen/native/cuda/TensorCompare.cu:110: _assert_async_cuda_kernel: block: "
        "[0,0,0], thread: [0,0,0] Assertion `probability tensor contains either `inf`, `nan` or element < 0` "
        "failed.",
        "aten/src/ATen/native/cuda/TensorCompare.cu",
        "kvcache-ai/ktransformers#242",
        ("nan",),
    ),
    "a probability on the GPU of Windows": Recorded(
        "ST-ASSERT-504",
        "C:\\cb\\pytorch_1000000000000\\work\\aten\\src\\ATen\\native\\cuda\\TensorCompare.cu:110: block: "
        "[0,0,0], thread: [0,0,0] Assertion `input[0] != 0` failed.",
        "aten/src/ATen/native/cuda/TensorCompare.cu",
        "datawhalechina/self-llm#271",
        ("probably", "nan"),
    ),
    "probabilities that are all 0 on the GPU": Recorded(
        "ST-ASSERT-504",
        "../aten/src/ATen/native/cuda/MultinomialKernel.cu:112: binarySearchForMultinomial: block: [158,0,0], "
        "thread: [0,0,0] Assertion `cumdist[size - 1] > static_cast<scalar_t>(0)` failed.",
        "aten/src/ATen/native/cuda/MultinomialKernel.cu",
        "nerfstudio-project/gsplat#796",
        ("all 0",),
    ),
    "another check on the GPU": Recorded(
        "ST-ASSERT-501",
        "RuntimeError: CUDA error: device-side assert triggered\n"
        "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
        "\n"
        "/opt/conda/conda-bld/pytorch_1724789143830/work/aten/src/ATen/native/cuda/Loss.cu:95: operator(): "
        "block: [3663,0,0], thread: [64,0,0] Assertion `target_val >= zero && target_val <= one` failed.",
        "aten/src/ATen/native/cuda/Loss.cu",
        "RuiZhang97/ISNet#31",
        ("target_val >= zero && target_val <= one",),
    ),
    "a check that is not named": Recorded(
        "ST-ASSERT-501",
        "RuntimeError: CUDA error: device-side assert triggered\n"
        "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp",
        "kvcache-ai/ktransformers#1566",
        ("CUDA_LAUNCH_BLOCKING",),
    ),
}

DEVICES = {
    "no kernel": Recorded(
        "ST-ASSERT-505",
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device\n"
        "Search for `cudaErrorNoKernelImageForDevice' in "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp",
        "bytedance/Protenix#205",
        ("get_arch_list",),
    ),
    "no kernel on ROCm": Recorded(
        "ST-ASSERT-505",
        "RuntimeError: HIP error: no kernel image is available for execution on the device\n"
        "HIP kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing AMD_SERIALIZE_KERNEL=3\n"
        "Compile with `TORCH_USE_HIP_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp as hipify turns it",
        "huggingface/autotrain-advanced#737",
        ("get_arch_list",),
    ),
    "no function on ROCm": Recorded(
        "ST-ASSERT-505",
        "torch.AcceleratorError: HIP error: invalid device function\n"
        "Search for `hipErrorInvalidDeviceFunction' in "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__HIPRT__TYPES.html for more information.\n"
        "HIP kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing AMD_SERIALIZE_KERNEL=3\n"
        "Compile with `TORCH_USE_HIP_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp as hipify turns it",
        "pytorch/pytorch#164346",
        ("get_arch_list",),
    ),
    "an old driver": Recorded(
        "ST-ASSERT-506",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
        "driver by downloading and installing a new version from the URL: "
        "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install a "
        "PyTorch version that has been compiled with your version of the CUDA driver.",
        "torch/csrc/cuda/Module.cpp and torch/cuda/__init__.py",
        "serend1p1ty/SeqNet#36",
        ("11.4", "11040"),
    ),
    "an old driver, as a warning": Recorded(
        "ST-ASSERT-506",
        "/opt/conda/envs/py_3.10/lib/python3.10/site-packages/torch/cuda/__init__.py:182: UserWarning: CUDA "
        "initialization: The NVIDIA driver on your system is too old (found version 12080). Please update your "
        "GPU driver by downloading and installing a new version from the URL: "
        "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org/ to install a "
        "PyTorch version that has been compiled with your version of the CUDA driver. (Triggered internally at "
        "/var/lib/jenkins/workspace/c10/cuda/CUDAFunctions.cpp:119.)\n"
        "  return torch._C._cuda_getDeviceCount() > 0",
        "c10/cuda/CUDAFunctions.cpp",
        "pytorch/pytorch#162531",
        ("12.8", "12080"),
    ),
    "a kernel that is too new for the driver": Recorded(
        "ST-ASSERT-506",
        "RuntimeError: CUDA error: the provided PTX was compiled with an unsupported toolchain.\n"
        "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1.\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp",
        "yerfor/GeneFacePlusPlus#192",
        ("nvidia-smi",),
    ),
    "a runtime that is too new for the driver": Recorded(
        "ST-ASSERT-506",
        "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version",
        "c10/cuda/CUDAException.cpp",
        "nagadomi/nunif#702",
        ("nvidia-smi",),
    ),
    "no driver": Recorded(
        "ST-ASSERT-506",
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
        "installed a driver from http://www.nvidia.com/Download/index.aspx",
        "torch/csrc/cuda/Module.cpp",
        "facebookresearch/pytorch3d#1259",
        ("docker run --gpus all",),
    ),
    "no driver, as a warning": Recorded(
        "ST-ASSERT-506",
        "/opt/miniconda3/envs/d3rlpy/lib/python3.8/site-packages/torch/autograd/__init__.py:130: UserWarning: CUDA "
        "initialization: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
        "installed a driver from http://www.nvidia.com/Download/index.aspx (Triggered internally at  "
        "/pytorch/c10/cuda/CUDAFunctions.cpp:100.)\n"
        "  Variable._execution_engine.run_backward(",
        "c10/cuda/CUDAFunctions.cpp",
        "takuseno/d3rlpy#42",
        ("looked for a GPU",),
    ),
    "memory of others": Recorded(
        "ST-ASSERT-507",
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n"
        "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp",
        "ModelTC/LightX2V#480",
        ("compute-sanitizer",),
    ),
    "memory of others, as pytest prints it": Recorded(
        "ST-ASSERT-507",
        "E       torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n"
        "E       Search for `cudaErrorIllegalAddress' in "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.\n"
        "E       CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace "
        "below might be incorrect.\n"
        "E       For debugging consider passing CUDA_LAUNCH_BLOCKING=1",
        "c10/cuda/CUDAException.cpp",
        "pytorch/helion#867",
        ("compute-sanitizer",),
    ),
    "memory of others on ROCm": Recorded(
        "ST-ASSERT-507",
        "torch.AcceleratorError: HIP error: an illegal memory access was encountered\n"
        "Search for `hipErrorIllegalAddress' in https://rocm.docs.amd.com/projects/HIP/en/latest/index.html for "
        "more information.\n"
        "HIP kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
        "might be incorrect.\n"
        "For debugging consider passing AMD_SERIALIZE_KERNEL=3\n"
        "Compile with `TORCH_USE_HIP_DSA` to enable device-side assertions.",
        "c10/cuda/CUDAException.cpp as hipify turns it",
        "ROCm/legacy-rocm-build#5742",
        ("AMD_SERIALIZE_KERNEL=3",),
        ("CUDA_LAUNCH_BLOCKING", "compute-sanitizer"),
    ),
    "two devices": Recorded(
        "ST-ASSERT-508",
        "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cpu and "
        "cuda:0! (when checking argument for argument index in method wrapper_CUDA__index_select)",
        "aten/src/ATen/core/op_registration/adaption.h",
        "huggingface/alignment-handbook#209",
        ("cuda:0", "cpu"),
    ),
    "two devices in newer words": Recorded(
        "ST-ASSERT-508",
        "Expected all tensors to be on the same device, but got mat1 is on cpu, different from other tensors on "
        "cuda:0 (when checking argument in method wrapper_CUDA_addmm)",
        "aten/src/ATen/core/op_registration/adaption.h",
        "ClownsharkBatwing/RES4LYF#223",
        ("cuda:0", "cpu"),
    ),
    "two devices, one without data": Recorded(
        "ST-ASSERT-508",
        "RuntimeError: Tensor on device cuda:0 is not on the expected device meta!",
        "torch/_prims_common and aten/src/ATen/native/LinearAlgebra.cpp",
        "meta-pytorch/opacus#737",
        ("cuda:0", "meta"),
    ),
}
