"""Selective scan in plain torch, one token at a time: what the fast twins are compared with.

Shapes: B batch, L tokens, D channels, G groups, N states. Gu and Dao 2023 (arXiv 2312.00752), equation 2a with the
exponential for A and the first-order step for B, as in the published code. Any floating dtype; autograd works.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scan(
    u_BLD: Tensor,
    delta_BLD: Tensor,
    A_DN: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D_D: Tensor | None = None,
    z_BLD: Tensor | None = None,
    delta_bias_D: Tensor | None = None,
    delta_softplus: bool = False,
    order_L: Tensor | None = None,
    initial_BDN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = exp(delta A) h_{t-1} + delta B u, y = C h + D u, then y * silu(z); return y and the last h (B, D, N)."""
    batch, num_steps, num_channels = u_BLD.shape
    delta_BLD = _step_sizes(delta_BLD, delta_bias_D, delta_softplus)
    B_BLDN, C_BLDN = _per_channel(B_BLGN, num_channels), _per_channel(C_BLGN, num_channels)
    h_BDN = u_BLD.new_zeros(batch, num_channels, A_DN.shape[1]) if initial_BDN is None else initial_BDN
    order = range(num_steps) if order_L is None else order_L.tolist()
    outputs: list[Tensor] = [u_BLD] * num_steps
    for token in order:
        delta_BD1 = delta_BLD[:, token, :, None]
        drive_BD1 = delta_BD1 * u_BLD[:, token, :, None]
        h_BDN = torch.exp(delta_BD1 * A_DN) * h_BDN + drive_BD1 * B_BLDN[:, token]
        outputs[token] = (h_BDN * C_BLDN[:, token]).sum(-1)
    y_BLD = torch.stack(outputs, 1)
    if D_D is not None:
        y_BLD = y_BLD + D_D * u_BLD
    if z_BLD is not None:
        y_BLD = y_BLD * F.silu(z_BLD)
    return y_BLD, h_BDN


def scan_backward(
    dy_BLD: Tensor,
    dlast_BDN: Tensor,
    u_BLD: Tensor,
    delta_BLD: Tensor,
    A_DN: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D_D: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_D: Tensor | None,
    delta_softplus: bool,
    order_L: Tensor | None,
    initial_BDN: Tensor | None,
) -> dict[str, Tensor]:
    """Return the gradients by name (u, delta, A, B, C, D, z, delta_bias, initial) in closed form.

    Written out because autograd does not reach into a custom op. It keeps every state: B * L * D * N numbers.
    """
    num_steps, num_channels = u_BLD.shape[1:]
    num_groups = B_BLGN.shape[2]
    raw_BLD, delta_BLD = delta_BLD, _step_sizes(delta_BLD, delta_bias_D, delta_softplus)
    B_BLDN, C_BLDN = _per_channel(B_BLGN, num_channels), _per_channel(C_BLGN, num_channels)
    order = list(range(num_steps)) if order_L is None else order_L.tolist()
    a_BLDN = torch.exp(delta_BLD[..., None] * A_DN)
    before_BLDN, after_BLDN = torch.empty_like(a_BLDN), torch.empty_like(a_BLDN)
    h_BDN = torch.zeros_like(dlast_BDN) if initial_BDN is None else initial_BDN
    for token in order:
        before_BLDN[:, token] = h_BDN
        drive_BD1 = (delta_BLD[:, token] * u_BLD[:, token])[..., None]
        h_BDN = a_BLDN[:, token] * h_BDN + drive_BD1 * B_BLDN[:, token]
        after_BLDN[:, token] = h_BDN
    gradients: dict[str, Tensor] = {}
    if z_BLD is not None:
        gate_BLD = torch.sigmoid(z_BLD)
        y_BLD = (after_BLDN * C_BLDN).sum(-1) + (0 if D_D is None else D_D * u_BLD)
        gradients["z"] = dy_BLD * y_BLD * gate_BLD * (1 + z_BLD * (1 - gate_BLD))
        dy_BLD = dy_BLD * z_BLD * gate_BLD
    g_BLDN = torch.empty_like(a_BLDN)  # gradient that reaches the state after each token
    g_BDN = dlast_BDN
    for token in reversed(order):
        g_BLDN[:, token] = g_BDN + dy_BLD[:, token, :, None] * C_BLDN[:, token]
        g_BDN = g_BLDN[:, token] * a_BLDN[:, token]
    r_BLDN = g_BLDN * a_BLDN * before_BLDN
    s_BLD = (g_BLDN * B_BLDN).sum(-1)
    ddelta_BLD = (r_BLDN * A_DN).sum(-1) + u_BLD * s_BLD
    if delta_softplus:
        x_BLD = raw_BLD if delta_bias_D is None else raw_BLD + delta_bias_D
        ddelta_BLD = ddelta_BLD * torch.where(x_BLD > 20, torch.ones_like(x_BLD), torch.sigmoid(x_BLD))
    drive_BLD1 = (delta_BLD * u_BLD)[..., None]
    gradients["u"] = delta_BLD * s_BLD + (0 if D_D is None else D_D * dy_BLD)
    gradients["delta"] = ddelta_BLD
    gradients["A"] = (r_BLDN * delta_BLD[..., None]).sum((0, 1))
    gradients["B"] = (g_BLDN * drive_BLD1).unflatten(2, (num_groups, -1)).sum(3)
    gradients["C"] = (after_BLDN * dy_BLD[..., None]).unflatten(2, (num_groups, -1)).sum(3)
    gradients["D"] = (dy_BLD * u_BLD).sum((0, 1))
    gradients["delta_bias"] = ddelta_BLD.sum((0, 1))
    gradients["initial"] = g_BDN
    return gradients


def _step_sizes(delta_BLD: Tensor, bias_D: Tensor | None, softplus: bool) -> Tensor:
    if bias_D is not None:
        delta_BLD = delta_BLD + bias_D
    return F.softplus(delta_BLD, threshold=20.0) if softplus else delta_BLD


def _per_channel(x_BLGN: Tensor, num_channels: int) -> Tensor:
    """Give channel d the values of its group d // (D / G)."""
    return x_BLGN.repeat_interleave(num_channels // x_BLGN.shape[2], dim=2)
