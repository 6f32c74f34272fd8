"""Linear time-invariant state spaces (S4D): the same recurrence for every token, hence also a convolution.

Shapes: B batch, L tokens, D channels, N modes. Backends: "fft" (the convolution; any device and dtype) and "reference"
(one token at a time).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.ops.lti.convolution import kernel as _kernel
from dehaze_bench.ops.lti.initial import hippo_legs, initial_modes
from dehaze_bench.ops.lti.op import lti_op
from dehaze_bench.ops.lti.reference import discretise
from dehaze_bench.ops.order import check_order_type

__all__ = ["METHODS", "available_backends", "discretise", "hippo_legs", "initial_modes", "kernel", "lti"]

BACKENDS = ("auto", "reference", "fft")
METHODS = ("zoh", "bilinear")


def lti(
    u_BLD: Tensor,
    dt_D: Tensor,
    A_DN: Tensor,
    B_DN: Tensor,
    C_DN: Tensor,
    D_D: Tensor | None = None,
    order_L: Tensor | None = None,
    discretization: str = "zoh",
    backend: str = "auto",
) -> Tensor:
    """Run h' = A h + B u, y = C h + D u over the tokens, from a zero state, each token a time dt after the last.

    A is the diagonal, real or complex; a complex mode stands for a conjugate pair, so that y is 2 Re(C h) + D u, and
    then B and C may be real or complex. `discretization` is "zoh" or "bilinear" (see `discretise`). Step t reads token
    `order_L[t]` (int64, a permutation; None is raster) and writes y at that token; a transform needs its points in a
    row, so the tokens are gathered for it.

    A, B, C and dt are taken to double precision, states and spectra are float32 (float64 for float64 data), y has u's
    dtype; under autocast the op runs in float32. Differentiable once, in all inputs. Raises `UsageError` for shapes
    that do not fit, an order that is no permutation, and an unknown discretisation or backend.
    """
    if discretization not in METHODS:
        raise UsageError(f"no discretisation '{discretization}'. {nearest(discretization, METHODS)}")
    if backend not in BACKENDS:
        raise UsageError(f"no backend '{backend}'. {nearest(backend, BACKENDS)}")
    if u_BLD.ndim != 3 or u_BLD.numel() == 0:
        raise UsageError(f"u must be (batch, tokens, channels) and not empty, not {tuple(u_BLD.shape)}")
    num_channels = u_BLD.shape[2]
    if A_DN.ndim != 2 or A_DN.shape[0] != num_channels or A_DN.shape[1] == 0:
        raise UsageError(f"A must be ({num_channels}, modes) for u {tuple(u_BLD.shape)}, not {tuple(A_DN.shape)}")
    expected: tuple[tuple[str, Tensor | None, tuple[int, ...]], ...] = (
        ("dt", dt_D, (num_channels,)),
        ("A", A_DN, tuple(A_DN.shape)),
        ("B", B_DN, tuple(A_DN.shape)),
        ("C", C_DN, tuple(A_DN.shape)),
        ("D", D_D, (num_channels,)),
    )
    for name, tensor, shape in expected:
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise UsageError(f"{name} must be {shape} for u {tuple(u_BLD.shape)}, not {tuple(tensor.shape)}")
        if tensor.device != u_BLD.device:
            raise UsageError(f"{name} is on {tensor.device} but u on {u_BLD.device}: move one of them")
        if tensor.is_complex() and not (A_DN.is_complex() and name in "ABC"):
            raise UsageError(
                f"{name} is complex but A is real: make A complex, a conjugate pair per mode, or {name} real"
            )
    check_order_type(order_L, u_BLD.shape[1], u_BLD.device)
    backend = "fft" if backend == "auto" else backend
    return lti_op(u_BLD, dt_D, A_DN, B_DN, C_DN, D_D, order_L, discretization, backend)


def kernel(
    dt_D: Tensor, A_DN: Tensor, B_DN: Tensor, C_DN: Tensor, num_tokens: int, discretization: str = "zoh"
) -> Tensor:
    """Return the impulse response K_l = C Abar^l Bbar, (D, L), in double precision: to look at, not to train."""
    wide = [x.to(torch.complex128 if x.is_complex() else torch.float64) for x in (A_DN, B_DN, C_DN)]
    Abar_DN, Bbar_DN = discretise(wide[0], wide[1], dt_D.double(), discretization)
    return _kernel(Abar_DN, Bbar_DN, wide[2], num_tokens, torch.float64)


def available_backends() -> dict[str, str]:
    """Return name -> "ok" or why not."""
    return {"reference": "ok", "fft": "ok"}
