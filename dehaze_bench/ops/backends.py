"""Which implementation of an operator can run here, and which one runs."""

from __future__ import annotations

import functools
import importlib

import torch

from dehaze_bench.errors import UsageError, nearest

OK = "ok"


@torch.compiler.assume_constant_result
def numba_status() -> str:
    """Return "ok" or why Numba cannot be used; imports it, once."""
    return _import_numba()


@functools.cache
def _import_numba() -> str:
    try:
        importlib.import_module("numba")
    except Exception as error:  # a broken installation raises more than ImportError
        return f"numba cannot be imported ({type(error).__name__}: {error}); install numba>=0.61"
    return OK


def available_backends() -> dict[str, str]:
    """Return name -> "ok" or why not. Both scans have the same two backends."""
    return {"reference": OK, "numba": numba_status()}


def choose_backend(backend: str, x: torch.Tensor) -> str:
    """Resolve "auto" for data like x, or check that the named backend can take it.

    Numba takes CPU tensors up to float32; everything else (other devices, float64) goes to the reference.
    """
    if backend not in ("auto", "reference", "numba"):
        raise UsageError(f"no backend '{backend}'. {nearest(backend, ('auto', 'reference', 'numba'))}")
    if backend == "reference" or x.device.type == "meta":
        return "reference" if backend == "auto" else backend
    fits = x.device.type == "cpu" and x.dtype != torch.float64
    if backend == "auto":
        return "numba" if fits and numba_status() == OK else "reference"
    if not fits:
        raise UsageError(
            f"backend 'numba' takes float32, bfloat16 or float16 on the CPU, not {x.dtype} on {x.device}: "
            "use backend='reference' or 'auto'"
        )
    if numba_status() != OK:
        raise UsageError(f"backend 'numba' is not available: {numba_status()}, or use backend='reference'")
    return backend
