"""The fast form of a time-invariant state space: its kernel as matrix products, applied by FFT.

Shapes: B batch, L tokens, D channels, N modes, Q * T >= L kernel positions, F frequencies. Plain torch, so the same
code serves CPU and GPU.

The kernel K_l = sum_n C Bbar Abar^l is a Vandermonde product. With l = q T + r the power is a product of Abar^(q T) and
Abar^r, so K is, per channel, one matrix product of (Q, N) by (N, T): with T near sqrt(L), two tables of D N sqrt(L)
numbers stand for one of D N L. The tables are made in double precision by repeated squaring: a mode that lives for
thousands of tokens has no digits to lose.

Channels are worked off a few at a time, `BLOCK` points in all, so that tables and spectra stay small. A transform needs
its points in a row, so tokens in another order are gathered first and scattered last.

There is no Numba twin. At 192 channels and 16,384 tokens, on one core, this takes about 100 ms, of which 25 make the
kernel for 32 complex modes; a recurrence compiled by Numba took 60 ms with 32 modes and 20 ms with 8 in double
precision, which it needs (in single precision slow modes cost a digit). At the published size, 64 states, that is less
than a factor of two for a second pair of kernels, and this one also serves the GPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dehaze_bench.ops.lti.reference import real, scale

BLOCK = {"cpu": 1 << 20, "cuda": 1 << 26}  # points of the transforms held at a time


def scan(
    u_BLD: Tensor, Abar_DN: Tensor, Bbar_DN: Tensor, C_DN: Tensor, D_D: Tensor | None, order_L: Tensor | None
) -> Tensor:
    """Return y (B, L, D) as `reference.scan` does; Abar, Bbar and C in double precision, whatever u is."""
    y_BLD = torch.empty_like(u_BLD, memory_format=torch.contiguous_format)
    tokens = slice(None) if order_L is None else order_L
    for part in _blocks(u_BLD):
        K_DL = kernel(Abar_DN[part], Bbar_DN[part], C_DN[part], u_BLD.shape[1], u_BLD.dtype)
        y_BLD[:, tokens, part] = convolve(_row(u_BLD, order_L, part), K_DL).mT
    return y_BLD if D_D is None else y_BLD.addcmul_(u_BLD, D_D)


def scan_backward(
    dy_BLD: Tensor,
    u_BLD: Tensor,
    Abar_DN: Tensor,
    Bbar_DN: Tensor,
    C_DN: Tensor,
    D_D: Tensor | None,
    order_L: Tensor | None,
) -> dict[str, Tensor]:
    """Return the gradients by name (u, Abar, Bbar, C, D) as `reference.scan_backward` does."""
    du_BLD = torch.empty_like(u_BLD, memory_format=torch.contiguous_format)
    found = {"Abar": torch.empty_like(Abar_DN), "Bbar": torch.empty_like(Abar_DN), "C": torch.empty_like(Abar_DN)}
    tokens = slice(None) if order_L is None else order_L
    for part in _blocks(u_BLD):
        K_DL = kernel(Abar_DN[part], Bbar_DN[part], C_DN[part], u_BLD.shape[1], u_BLD.dtype)
        du_BDL, dK_DL = convolve_backward(_row(dy_BLD, order_L, part), _row(u_BLD, order_L, part), K_DL)
        du_BLD[:, tokens, part] = du_BDL.mT
        gradients = kernel_backward(dK_DL, Abar_DN[part], Bbar_DN[part], C_DN[part])
        for name, gradient_DN in zip(found, gradients, strict=True):
            found[name][part] = gradient_DN
    if D_D is not None:
        du_BLD.addcmul_(dy_BLD, D_D)
    return found | {"u": du_BLD, "D": (dy_BLD * u_BLD).sum((0, 1))}


def kernel(Abar_DN: Tensor, Bbar_DN: Tensor, C_DN: Tensor, num_tokens: int, dtype: torch.dtype) -> Tensor:
    """Return K (D, L) in `dtype`; Abar, Bbar and C in double precision."""
    far_DNQ, near_DNT = _tables(Abar_DN, num_tokens)
    weights_DNQ = (C_DN * Bbar_DN)[..., None] * far_DNQ
    K_DQT = _left(weights_DNQ, dtype).mT @ _right(near_DNT, dtype)
    return scale(Abar_DN) * K_DQT.flatten(1)[:, :num_tokens]


def kernel_backward(dK_DL: Tensor, Abar_DN: Tensor, Bbar_DN: Tensor, C_DN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of Abar, Bbar and C, in double precision."""
    num_channels, num_tokens = dK_DL.shape
    far_DNQ, near_DNT = _tables(Abar_DN, num_tokens)
    num_near = near_DNT.shape[2]
    steps_T = torch.arange(num_near, device=dK_DL.device)
    near_slope_DNT = steps_T * near_DNT.roll(1, 2)  # of Abar^r; what rolls round to r = 0 is multiplied by 0
    steps_Q = torch.arange(far_DNQ.shape[2], device=dK_DL.device)
    jump_slope_DN1 = num_near * near_DNT[..., -1:]  # of Abar^T
    far_slope_DNQ = steps_Q * far_DNQ.roll(1, 2) * jump_slope_DN1
    dK_DTQ = torch.zeros(num_channels, far_DNQ.shape[2] * num_near, dtype=dK_DL.dtype, device=dK_DL.device)
    dK_DTQ[:, :num_tokens] = scale(Abar_DN) * dK_DL
    dK_DTQ = dK_DTQ.view(num_channels, -1, num_near).mT
    sums_DNQ, slopes_DNQ = (_onto(x_DNT, dK_DTQ) for x_DNT in (near_DNT, near_slope_DNT))
    dweights_DN = (far_DNQ.conj() * sums_DNQ).sum(-1)
    dpowers_DN = (far_DNQ.conj() * slopes_DNQ + far_slope_DNQ.conj() * sums_DNQ).sum(-1)
    return dpowers_DN * (C_DN * Bbar_DN).conj(), dweights_DN * C_DN.conj(), dweights_DN * Bbar_DN.conj()


def convolve(u_BDL: Tensor, K_DL: Tensor) -> Tensor:
    """Return the causal convolution of every channel with its kernel, (B, D, L)."""
    num_points = transform_length(u_BDL.shape[2])
    spectrum_BDF = torch.fft.rfft(u_BDL, num_points).mul_(torch.fft.rfft(K_DL, num_points))
    return torch.fft.irfft(spectrum_BDF, num_points)[..., : u_BDL.shape[2]]


def convolve_backward(dy_BDL: Tensor, u_BDL: Tensor, K_DL: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of u and K: correlations with the gradient of y."""
    num_tokens = u_BDL.shape[2]
    num_points = transform_length(num_tokens)
    dy_BDF = torch.fft.rfft(dy_BDL, num_points)
    dK_DF = (dy_BDF * torch.fft.rfft(u_BDL, num_points).conj()).sum(0)
    dK_DL = torch.fft.irfft(dK_DF, num_points)[..., :num_tokens]
    du_BDF = dy_BDF.mul_(torch.fft.rfft(K_DL, num_points).conj())
    return torch.fft.irfft(du_BDF, num_points)[..., :num_tokens], dK_DL


def transform_length(num_tokens: int) -> int:
    """Return the least 2^a, 3 * 2^a, 5 * 2^a or 9 * 2^a (even) that keeps a causal convolution from wrapping round."""
    needed = 2 * num_tokens
    return min(odd << max(1, math.ceil(math.log2(needed / odd))) for odd in (1, 3, 5, 9))


def _blocks(u_BLD: Tensor) -> list[slice]:
    batch, num_tokens, num_channels = u_BLD.shape
    size = max(1, BLOCK.get(u_BLD.device.type, BLOCK["cpu"]) // (batch * transform_length(num_tokens)))
    return [slice(start, start + size) for start in range(0, num_channels, size)]


def _row(x_BLD: Tensor, order_L: Tensor | None, part: slice) -> Tensor:
    """Return the tokens of some channels in visiting order, (B, D, L)."""
    x_BLD = x_BLD[..., part]
    return (x_BLD if order_L is None else x_BLD[:, order_L]).mT.contiguous()


def _tables(Abar_DN: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Return Abar^(q T), (D, N, Q), and Abar^r, (D, N, T)."""
    num_near = 1 << (math.isqrt(num_tokens - 1)).bit_length()
    near_DNT = _powers(Abar_DN, num_near)
    return _powers(near_DNT[..., -1] * Abar_DN, -(-num_tokens // num_near)), near_DNT


def _powers(base_DN: Tensor, count: int) -> Tensor:
    """Return base^0 ... base^(count - 1), by repeated squaring."""
    powers, square = torch.ones_like(base_DN)[..., None], base_DN[..., None]
    while powers.shape[-1] < count:
        powers = torch.cat([powers, powers * square], dim=-1)
        square = square * square
    return powers[..., :count]


def _left(x_DNQ: Tensor, dtype: torch.dtype) -> Tensor:
    """Return factors so that the product with `_right` is the real part: half the work of a complex product."""
    if not x_DNQ.is_complex():
        return x_DNQ.to(dtype)
    return torch.cat([x_DNQ.real.to(dtype), -x_DNQ.imag.to(dtype)], dim=1)


def _right(x_DNT: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.cat([x_DNT.real.to(dtype), x_DNT.imag.to(dtype)], dim=1) if x_DNT.is_complex() else x_DNT.to(dtype)


def _onto(x_DNT: Tensor, dK_DTQ: Tensor) -> Tensor:
    """Return sum_r conj(x_r) dK_(q, r), (D, N, Q), in x's type."""
    sums = (_right(x_DNT, dK_DTQ.dtype) @ dK_DTQ).to(real(x_DNT).dtype)
    return torch.complex(*sums.chunk(2, dim=1)).conj() if x_DNT.is_complex() else sums
