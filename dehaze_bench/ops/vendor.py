"""What of mamba-ssm can be used here, and how to load it: its CUDA extension and its Triton kernels stand apart.

The package's `__init__` asks for everything at once (the extension, transformers), and is commonly installed without
the extension. So the extension is imported by its own name, and the Triton kernels, if need be, beside the `__init__`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from types import ModuleType

import torch

from dehaze_bench.errors import UsageError, nearest

OK = "ok"
REMEDY = "pip install --no-build-isolation 'mamba-ssm==2.3.0' beside a CUDA toolkit"
_BROKEN = (ImportError, OSError, AttributeError)  # absent, a library that does not load, a version that does not fit


@torch.compiler.assume_constant_result
def status(kernels: str) -> str:
    """Return "ok" or in one clause why mamba-ssm's kernels, "selective_scan" or "ssd", cannot run here."""
    loaders = {"selective_scan": load_selective_scan, "ssd": load_ssd}
    if kernels not in loaders:
        raise UsageError(f"mamba-ssm has no kernels '{kernels}' here. {nearest(kernels, loaders)}")
    return _probe(kernels)


@functools.cache
def _probe(kernels: str) -> str:
    if importlib.util.find_spec("mamba_ssm") is None:
        return f"mamba-ssm is not installed ({REMEDY})"
    if not torch.cuda.is_available():
        return "mamba-ssm needs a CUDA device, and torch finds none"
    try:
        load_selective_scan() if kernels == "selective_scan" else load_ssd()
    except _BROKEN as error:
        what = "CUDA kernels of the selective scan" if kernels == "selective_scan" else "Triton kernels of the SSD"
        return f"mamba-ssm's {what} cannot be imported ({type(error).__name__}: {error}); {REMEDY}"
    return OK


def load_selective_scan() -> ModuleType:
    """Return the extension with `fwd` and `bwd`, or raise what its import raises."""
    return importlib.import_module("selective_scan_cuda")


def load_ssd() -> ModuleType:
    """Return the module with `mamba_chunk_scan_combined`, or raise what its import raises."""
    name = "mamba_ssm.ops.triton.ssd_combined"
    try:
        return importlib.import_module(name)
    except _BROKEN:
        spec = importlib.util.find_spec("mamba_ssm")
        if spec is None:
            raise
        sys.modules["mamba_ssm"] = importlib.util.module_from_spec(spec)  # knows its folder, has run nothing
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules["mamba_ssm"]  # who imports the package itself still meets its own error
