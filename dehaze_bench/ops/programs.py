"""Start the programs of a Triton kernel on the device of its tensors; the counterpart of `jobs` on a CPU."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Call `kernel[grid](*arguments, **options)` on the device of the first argument."""
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](*arguments, **options, enable_fp_fusion=True)  # said outright: Triton is about to turn it off


@functools.cache
def count_processors(device: torch.device) -> int:
    """The multiprocessors of a GPU; 1 for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
