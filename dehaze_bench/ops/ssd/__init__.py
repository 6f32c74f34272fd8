"""State space duality (Mamba-2): a linear recurrence with one decay per head, along any order of the tokens.

Shapes: B batch, L tokens, H heads, P channels of a head, G groups, N states. Backends: "numba" (the recurrence as CPU
kernels, up to float32), "chunked" (matrix products, any device and dtype), "reference" (one token at a time), "vendor"
(mamba-ssm's Triton kernels on CUDA).

The vendor path lives in `vendor.py`, which is imported only when it is asked for and must be importable without
mamba-ssm. It offers two functions, all arguments positional, shapes and order already checked:

    status() -> str
        "ok", or in one clause why mamba-ssm cannot run here; does not raise.
    scan(x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, D_H or D_HP or None, z_BLHP or None, dt_bias_H or None,
         dt_softplus: bool, dt_limit: tuple[float, float], initial_BHPN or None, chunk: int) -> (y_BLHP, last_BHPN)
        The tokens are in visiting order already and may be strided; autograd works through it; y in x's dtype, the
        last state in float32.
"""

from __future__ import annotations

import importlib
import math

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.ops.backends import numba_status
from dehaze_bench.ops.order import check_order, check_order_type
from dehaze_bench.ops.ssd.op import ssd_op

__all__ = ["available_backends", "ssd"]

# Steps per chunk: of a backend, or else of a device. What the Numba kernels touch in a chunk should fit the first-level
# cache; with matrix products a CPU spends most of its time on the weights inside chunks, a GPU on starting kernels.
CHUNKS = {"numba": 48, "vendor": 256, "cpu": 32}
OTHER_CHUNK = 64
BACKENDS = ("auto", "reference", "numba", "chunked", "vendor")


def ssd(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D: Tensor | None = None,
    z_BLHP: Tensor | None = None,
    dt_bias_H: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    order_L: Tensor | None = None,
    initial_BHPN: Tensor | None = None,
    return_last_state: bool = False,
    chunk: int | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan the tokens: h = exp(dt A) h + dt x B^T, y = h C + D x, then y * silu(z).

    arXiv 2405.21060, equation 1 with one decay per head. `B_BLGN` and `C_BLGN` may lack the group axis; head h uses
    group h // (H / G). D is (H) or (H, P). dt = softplus(dt + bias), linear above 20, if `dt_softplus`, then clamped to
    `dt_limit`. Step t reads token `order_L[t]` (int64, a permutation; None is raster) and writes y at that token; only
    matrix products, which bound those backends more than memory does, need the tokens gathered for it. Any length; the
    result does not depend on `chunk`, the number of steps between states that are kept for the backward pass, and that
    one matrix product covers (None: 48 for "numba", 256 for "vendor", for "chunked" 32 on a CPU and else 64).

    States are float32 (float64 for float64 data), y has x's dtype; under autocast the op runs in float32. All inputs,
    the initial state and the last state (B, H, P, N) are differentiable, once. Raises `UsageError` for shapes that do
    not fit, an order that is no permutation, and a backend that is unknown or cannot run here.
    """
    if B_BLGN.ndim == 3:
        B_BLGN = B_BLGN.unsqueeze(2)
    if C_BLGN.ndim == 3:
        C_BLGN = C_BLGN.unsqueeze(2)
    tensors = (x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, D, z_BLHP, dt_bias_H, order_L, initial_BHPN)
    _check(*tensors)
    low, high = (float(bound) for bound in dt_limit)
    backend = _choose_backend(backend, x_BLHP)
    if chunk is None:
        chunk = CHUNKS.get(backend, CHUNKS.get(x_BLHP.device.type, OTHER_CHUNK))
    if not low <= high or chunk < 1:
        raise UsageError(f"dt_limit must be (low, high) with low <= high and chunk >= 1, not {dt_limit} and {chunk}")
    if backend == "vendor":
        y_BLHP, last_BHPN = _vendor(tensors, dt_softplus, (low, high), chunk)
    else:
        save_states = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in tensors)
        y_BLHP, last_BHPN, _ = ssd_op(*tensors, dt_softplus, low, high, chunk, backend, save_states)
    return (y_BLHP, last_BHPN) if return_last_state else y_BLHP


def available_backends() -> dict[str, str]:
    """Return name -> "ok" or why not."""
    return {"reference": "ok", "numba": numba_status(), "chunked": "ok", "vendor": _vendor_status()}


def _status(backend: str) -> str:
    return numba_status() if backend == "numba" else _vendor_status()


@torch.compiler.assume_constant_result
def _vendor_status() -> str:
    try:
        vendor = importlib.import_module("dehaze_bench.ops.ssd.vendor")
    except ImportError as error:
        return f"the vendor path cannot be imported ({error})"
    return str(vendor.status())


def _choose_backend(backend: str, x: Tensor) -> str:
    """Resolve "auto" for data like x, or check that the named backend can take it."""
    if backend not in BACKENDS:
        raise UsageError(f"no backend '{backend}'. {nearest(backend, BACKENDS)}")
    if backend in ("reference", "chunked"):
        return backend
    on_cpu = x.device.type == "cpu"
    fits = x.dtype != torch.float64 and (on_cpu or x.device.type == "cuda")
    if backend == "auto":
        preferred = "numba" if on_cpu else "vendor"
        return preferred if fits and _status(preferred) == "ok" else "chunked"
    if not fits or on_cpu != (backend == "numba"):
        place = "the CPU" if backend == "numba" else "CUDA"
        raise UsageError(
            f"backend '{backend}' takes float32, bfloat16 or float16 on {place}, not {x.dtype} on {x.device}: "
            "use backend='chunked' or 'auto'"
        )
    if _status(backend) != "ok":
        raise UsageError(f"backend '{backend}' is not available: {_status(backend)}, or use backend='chunked'")
    return backend


def _vendor(
    tensors: tuple[Tensor | None, ...], dt_softplus: bool, dt_limit: tuple[float, float], chunk: int
) -> tuple[Tensor, Tensor]:
    """Gather, run mamba-ssm, scatter; autograd records all three."""
    x, dt, A, B, C, D, z, dt_bias, order_L, initial = tensors
    assert x is not None
    check_order(order_L, x.shape[1])
    if order_L is not None:
        x, dt, B, C, z = (None if v is None else v[:, order_L] for v in (x, dt, B, C, z))
    vendor = importlib.import_module("dehaze_bench.ops.ssd.vendor")
    y_BLHP, last_BHPN = vendor.scan(x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit, initial, chunk)
    if order_L is not None:
        y_BLHP = torch.empty_like(y_BLHP).index_copy(1, order_L, y_BLHP)
    return y_BLHP, last_BHPN


def _check(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D: Tensor | None,
    z_BLHP: Tensor | None,
    dt_bias_H: Tensor | None,
    order_L: Tensor | None,
    initial_BHPN: Tensor | None,
) -> None:
    if x_BLHP.ndim != 4 or x_BLHP.numel() == 0:
        raise UsageError(f"x must be (batch, tokens, heads, channels) and not empty, not {tuple(x_BLHP.shape)}")
    if B_BLGN.ndim != 4:
        raise UsageError(f"B must be (batch, tokens[, groups], states), not {tuple(B_BLGN.shape)}")
    batch, num_tokens, num_heads, num_channels = x_BLHP.shape
    num_groups, num_states = B_BLGN.shape[2:]
    if num_states == 0 or num_groups == 0 or num_heads % num_groups:
        raise UsageError(f"{num_heads} heads cannot be split into {num_groups} equal groups of B and C")
    expected: tuple[tuple[str, Tensor | None, tuple[int, ...]], ...] = (
        ("dt", dt_BLH, (batch, num_tokens, num_heads)),
        ("A", A_H, (num_heads,)),
        ("B", B_BLGN, (batch, num_tokens, num_groups, num_states)),
        ("C", C_BLGN, (batch, num_tokens, num_groups, num_states)),
        ("D", D, (num_heads,) if D is not None and D.ndim == 1 else (num_heads, num_channels)),
        ("z", z_BLHP, tuple(x_BLHP.shape)),
        ("dt_bias", dt_bias_H, (num_heads,)),
        ("initial", initial_BHPN, (batch, num_heads, num_channels, num_states)),
    )
    for name, tensor, shape in expected:
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise UsageError(
                f"{name} must be {shape} for x {tuple(x_BLHP.shape)}, not {tuple(tensor.shape)}: layouts are "
                "channels-last, (batch, tokens, heads, channels)"
            )
        if tensor.device != x_BLHP.device:
            raise UsageError(f"{name} is on {tensor.device} but x on {x_BLHP.device}: move one of them")
    check_order_type(order_L, num_tokens, x_BLHP.device)
