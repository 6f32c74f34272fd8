"""Number formats of a run: fp32, tf32 (matrix products and convolutions of NVIDIA GPUs), bf16 and fp16 by autocast.

Weights, optimiser, losses and the states of recurrences are float32 in all of them.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from dehaze_bench.errors import UsageError

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the mixed-precision context of `precision`; of "fp32" and "tf32" it is none."""
    return torch.autocast(device.type, HALF[precision]) if precision in HALF else nullcontext()


def settle(device: torch.device, precision: str, deterministic: bool) -> None:
    """Set what torch keeps per process: the format of float32 products, and whether operations must repeat to the bit.

    torch's own default computes float32 convolutions on GPUs in TF32; here that is "tf32" alone. Raises `UsageError`
    for "tf32" off a GPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(f"runtime.precision=tf32 is a format of NVIDIA GPUs and this runs on {device}: use fp32.")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when the GPU is first used
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Return the loss scaler, which does nothing but for "fp16"."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
