"""The linear time-invariant state space in plain torch: discretisation, and the recurrence one token at a time.

Shapes: B batch, L tokens, D channels, N modes (entries of a diagonal state matrix). The equations common to surveys of
Mamba: h' = A h + B u, y = C h + D u (1), its discretisation (2), and the convolution with the kernel
K_l = C Abar^l Bbar (3); for diagonal matrices Gu et al. 2022, S4D (arXiv 2206.11893), equations 2 to 4. Where A is
complex, a mode stands for a conjugate pair and y is 2 Re(C h). Any floating dtype; autograd works.
"""

from __future__ import annotations

import torch
from torch import Tensor


def discretise(A_DN: Tensor, B_DN: Tensor, dt_D: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Return (Abar, Bbar) of h_t = Abar h_{t-1} + Bbar u_t, for "zoh" or "bilinear".

    Zero-order hold: Abar = exp(dt A), Bbar = (exp(dt A) - 1) / A * B, with its limit dt B at A = 0.
    Bilinear: Abar = (1 + dt A / 2) / (1 - dt A / 2), Bbar = dt B / (1 - dt A / 2).
    """
    dt_D1 = dt_D[:, None]
    if method == "bilinear":
        half_DN = dt_D1 * A_DN / 2
        return (1 + half_DN) / (1 - half_DN), dt_D1 * B_DN / (1 - half_DN)
    g_DN = dt_D1 * A_DN
    return torch.exp(g_DN), dt_D1 * _phi(g_DN) * B_DN


def discretise_backward(
    dAbar_DN: Tensor, dBbar_DN: Tensor, A_DN: Tensor, B_DN: Tensor, dt_D: Tensor, method: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of A, B and dt. Complex gradients are torch's: d/dRe + i d/dIm of a real loss."""
    dt_D1 = dt_D[:, None]
    if method == "bilinear":
        inverse_DN = 1 / (1 - dt_D1 * A_DN / 2)
        rate_DN, slope_DN = inverse_DN, inverse_DN**2
        dg_DN = (dAbar_DN + dBbar_DN * (dt_D1 * B_DN / 2).conj()) * slope_DN.conj()
    else:
        g_DN = dt_D1 * A_DN
        rate_DN = _phi(g_DN)
        dg_DN = dAbar_DN * torch.exp(g_DN).conj() + dBbar_DN * (dt_D1 * B_DN * _phi_slope(g_DN)).conj()
    ddt_DN = dg_DN * A_DN.conj() + dBbar_DN * (B_DN * rate_DN).conj()
    return dt_D1 * dg_DN, dt_D1 * dBbar_DN * rate_DN.conj(), real(ddt_DN).sum(1)


def scan(
    u_BLD: Tensor,
    Abar_DN: Tensor,
    Bbar_DN: Tensor,
    C_DN: Tensor,
    D_D: Tensor | None = None,
    order_L: Tensor | None = None,
) -> Tensor:
    """h = Abar h + Bbar u, y = C h + D u; 2 Re(C h) where Abar is complex. From a zero state."""
    h_BDN = torch.zeros_like(u_BLD[:, 0, :, None] * Abar_DN)
    outputs: list[Tensor] = [u_BLD] * u_BLD.shape[1]
    for token in _tokens(order_L, u_BLD.shape[1]):
        h_BDN = Abar_DN * h_BDN + Bbar_DN * u_BLD[:, token, :, None]
        outputs[token] = scale(Abar_DN) * real((C_DN * h_BDN).sum(-1))
    y_BLD = torch.stack(outputs, 1)
    return y_BLD if D_D is None else y_BLD + D_D * u_BLD


def scan_backward(
    dy_BLD: Tensor,
    u_BLD: Tensor,
    Abar_DN: Tensor,
    Bbar_DN: Tensor,
    C_DN: Tensor,
    D_D: Tensor | None,
    order_L: Tensor | None,
) -> dict[str, Tensor]:
    """Return the gradients by name (u, Abar, Bbar, C, D) in closed form; keeps every state, B * L * D * N numbers."""
    tokens = _tokens(order_L, u_BLD.shape[1])
    h_BDN = torch.zeros_like(u_BLD[:, 0, :, None] * Abar_DN)
    states: list[Tensor] = []
    for token in tokens:
        states.append(h_BDN)
        h_BDN = Abar_DN * h_BDN + Bbar_DN * u_BLD[:, token, :, None]
    dC_DN, dAbar_DN, dBbar_DN = (torch.zeros_like(h_BDN[0]) for _ in range(3))
    du_BLD = torch.zeros_like(dy_BLD) if D_D is None else D_D * dy_BLD
    g_BDN = torch.zeros_like(h_BDN)
    for step in range(len(tokens) - 1, -1, -1):
        token, before_BDN = tokens[step], states[step]
        dy_BD1 = scale(Abar_DN) * dy_BLD[:, token, :, None]
        dC_DN += (dy_BD1 * h_BDN.conj()).sum(0)
        g_BDN = g_BDN * Abar_DN.conj() + dy_BD1 * C_DN.conj()
        dAbar_DN += (g_BDN * before_BDN.conj()).sum(0)
        dBbar_DN += (g_BDN * u_BLD[:, token, :, None]).sum(0)
        du_BLD[:, token] += real((g_BDN * Bbar_DN.conj()).sum(-1))
        h_BDN = before_BDN
    return {"u": du_BLD, "Abar": dAbar_DN, "Bbar": dBbar_DN, "C": dC_DN, "D": (dy_BLD * u_BLD).sum((0, 1))}


def scale(Abar_DN: Tensor) -> float:
    """A complex mode stands for two."""
    return 2.0 if Abar_DN.is_complex() else 1.0


def real(x: Tensor) -> Tensor:
    """Return the real part of what may be real already."""
    return x.real if x.is_complex() else x


def _phi(g: Tensor) -> Tensor:
    """Return (exp(g) - 1) / g, 1 at g = 0."""
    small = g.abs() < 1e-2
    safe = torch.where(small, torch.ones_like(g), g)
    series = 1 + g / 2 * (1 + g / 3 * (1 + g / 4 * (1 + g / 5 * (1 + g / 6 * (1 + g / 7)))))
    return torch.where(small, series, torch.expm1(safe) / safe)


def _phi_slope(g: Tensor) -> Tensor:
    """Return the derivative of `_phi`, 1/2 at g = 0."""
    small = g.abs() < 1e-2
    safe = torch.where(small, torch.ones_like(g), g)
    series = 1 / 2 + g * (1 / 3 + g * (1 / 8 + g * (1 / 30 + g * (1 / 144 + g * (1 / 840 + g / 5760)))))
    return torch.where(small, series, (torch.exp(safe) - torch.expm1(safe) / safe) / safe)


def _tokens(order_L: Tensor | None, num_tokens: int) -> list[int]:
    return list(range(num_tokens)) if order_L is None else order_L.tolist()
