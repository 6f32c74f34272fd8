"""Which implementation of an operator can run here, and which one runs.

reference  plain torch, any device, any floating dtype
numba      CPU kernels
triton     CUDA kernels; on CPU tensors too where TRITON_INTERPRET=1 was set before Python started, for tests
vendor     CUDA kernels of mamba-ssm
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence

import torch

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.ops import vendor

OK = "ok"
BACKENDS = ("reference", "numba", "triton", "vendor")


@torch.compiler.assume_constant_result
def numba_status() -> str:
    """Return "ok" or why Numba cannot be used; imports it, once."""
    return _import("numba", "install numba>=0.61")


@torch.compiler.assume_constant_result
def triton_status() -> str:
    """Return "ok" or why Triton cannot be used; imports it, once."""
    status = _import("triton", "install the extra dehaze-bench[triton]")
    if status == OK and not (torch.cuda.is_available() or is_interpreted()):
        return "torch sees no CUDA device; on the CPU it only runs under TRITON_INTERPRET=1, slowly, for tests"
    return status


@torch.compiler.assume_constant_result
def is_interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, which is decided when it is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _import(name: str, remedy: str) -> str:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken installation raises more than ImportError
        return f"{name} cannot be imported ({type(error).__name__}: {error}); {remedy}"
    return OK


def available_backends() -> dict[str, str]:
    """Return name -> "ok" or why not, for the selective scan: other operators may have fewer, or others."""
    return {name: backend_status(name) for name in BACKENDS}


def backend_status(name: str) -> str:
    """Return "ok" or why the backend cannot run here; probed once."""
    if name == "numba":
        return numba_status()
    if name == "triton":
        return triton_status()
    return vendor.status("selective_scan") if name == "vendor" else OK


def preferred_backend(device_type: str) -> str:
    """What "auto" takes for up to float32 on a device: Numba on a CPU, Triton on CUDA, where they work.

    Never "vendor": it needs a gathered copy of u and y for every route, and what runs by itself should not depend on
    whether a further package happens to be installed.
    """
    if device_type == "cpu" and numba_status() == OK:
        return "numba"
    if device_type == "cuda" and triton_status() == OK:
        return "triton"
    return "reference"


def choose_backend(backend: str, x: torch.Tensor, offered: Sequence[str] = BACKENDS) -> str:
    """Resolve "auto" for data like x, or check that the named backend can take it.

    `offered` are the backends that the operator has. float64 and devices without kernels go to the reference.
    """
    choices = ("auto", *offered)
    if backend not in choices:
        raise UsageError(f"no backend '{backend}' for this operator. {nearest(backend, choices)}")
    fits = x.dtype != torch.float64
    if backend == "auto":
        chosen = preferred_backend(x.device.type) if fits else "reference"
        return chosen if chosen in offered else "reference"
    if backend == "reference" or x.device.type == "meta":
        return backend
    kind = "cpu" if backend == "numba" else "cuda"
    fits = fits and (x.device.type == kind or (backend == "triton" and x.device.type == "cpu" and is_interpreted()))
    if not fits:
        place = {"cpu": "the CPU", "cuda": "a CUDA device"}[kind]
        raise UsageError(
            f"backend '{backend}' takes float32, bfloat16 or float16 on {place}, not {x.dtype} on {x.device}: "
            "use backend='reference' or 'auto'"
        )
    status = backend_status(backend)
    if status != OK:
        raise UsageError(f"backend '{backend}' is not available: {status}, or use backend='reference'")
    return backend
