"""Selective scan in plain torch, one step at a time: what the fast twins are compared with.

Shapes: B batch, L tokens, K routes, S steps of a route, D channels, G groups, N states. Gu and Dao 2023 (arXiv
2312.00752), equation 2a with the exponential for A and the first-order step for B, as in the published code. Any
floating dtype; autograd works. The tensors hold tokens in raster order; a route reads and writes those of its index.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scan(
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None = None,
    z_BLD: Tensor | None = None,
    delta_bias_KD: Tensor | None = None,
    delta_softplus: bool = False,
    index_KS: Tensor | None = None,
    initial_BKDN: Tensor | None = None,
    merged: bool = True,
) -> tuple[Tensor, Tensor]:
    """h_s = exp(delta A) h_{s-1} + delta B u, y = C h + D u, times silu(z), added at the token of step s.

    Return y, (B, L, D) if `merged` over routes, else (B, L, K, D), and the last h (B, K, D, N). Steps with the id -1
    read zeros (delta is then softplus(bias)) and write nothing.
    """
    num_tokens, num_channels = u_BLD.shape[1:]
    u_BSKD = gather(u_BLD[:, :, None].expand_as(delta_BLKD), index_KS)
    delta_BSKD = _step_sizes(gather(delta_BLKD, index_KS), delta_bias_KD, delta_softplus)
    B_BSKGN, C_BSKGN = gather(B_BLKGN, index_KS), gather(C_BLKGN, index_KS)
    h_BKDN = u_BLD.new_zeros(u_BLD.shape[0], *A_KDN.shape) if initial_BKDN is None else initial_BKDN
    outputs = []
    for step in range(u_BSKD.shape[1]):
        delta_BKD1 = delta_BSKD[:, step, :, :, None]
        drive_BKD1 = delta_BKD1 * u_BSKD[:, step, :, :, None]
        h_BKDN = torch.exp(delta_BKD1 * A_KDN) * h_BKDN + drive_BKD1 * _per_channel(B_BSKGN[:, step], num_channels)
        outputs.append((h_BKDN * _per_channel(C_BSKGN[:, step], num_channels)).sum(-1))
    y_BSKD = torch.stack(outputs, 1)
    if D_KD is not None:
        y_BSKD = y_BSKD + D_KD * u_BSKD
    y_BLKD = scatter(y_BSKD, index_KS, num_tokens)
    if z_BLD is not None:
        y_BLKD = y_BLKD * F.silu(z_BLD)[:, :, None]
    return y_BLKD.sum(2) if merged else y_BLKD, h_BKDN


def scan_backward(
    dy: Tensor,
    dlast_BKDN: Tensor,
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_KD: Tensor | None,
    delta_softplus: bool,
    index_KS: Tensor | None,
    initial_BKDN: Tensor | None,
    merged: bool,
) -> dict[str, Tensor]:
    """Return the gradients by name (u, delta, A, B, C, D, z, delta_bias, initial) in closed form.

    Written out because autograd does not reach into a custom op. It keeps every state: B * S * K * D * N numbers.
    """
    num_tokens, num_channels = u_BLD.shape[1:]
    num_groups = B_BLKGN.shape[3]
    u_BSKD = gather(u_BLD[:, :, None].expand_as(delta_BLKD), index_KS)
    delta_BSKD = _step_sizes(gather(delta_BLKD, index_KS), delta_bias_KD, delta_softplus)
    B_BSKDN, C_BSKDN = (_per_channel(gather(x, index_KS), num_channels) for x in (B_BLKGN, C_BLKGN))
    a_BSKDN = torch.exp(delta_BSKD[..., None] * A_KDN)
    num_steps = u_BSKD.shape[1]
    drive_BSKD = delta_BSKD * u_BSKD
    before_BSKDN, after_BSKDN = torch.empty_like(a_BSKDN), torch.empty_like(a_BSKDN)
    h_BKDN = torch.zeros_like(dlast_BKDN) if initial_BKDN is None else initial_BKDN
    for step in range(num_steps):
        before_BSKDN[:, step] = h_BKDN
        h_BKDN = a_BSKDN[:, step] * h_BKDN + drive_BSKD[:, step, :, :, None] * B_BSKDN[:, step]
        after_BSKDN[:, step] = h_BKDN
    gradients: dict[str, Tensor] = {}
    dy_BLKD = dy[:, :, None].expand_as(delta_BLKD) if merged else dy
    dy_BSKD = gather(dy_BLKD, index_KS)
    if z_BLD is not None:
        z_BSKD = gather(z_BLD[:, :, None].expand_as(delta_BLKD), index_KS)
        gate_BSKD = torch.sigmoid(z_BSKD)
        y_BSKD = (after_BSKDN * C_BSKDN).sum(-1) + (0 if D_KD is None else D_KD * u_BSKD)
        dz_BSKD = dy_BSKD * y_BSKD * gate_BSKD * (1 + z_BSKD * (1 - gate_BSKD))
        gradients["z"] = scatter(dz_BSKD, index_KS, num_tokens).sum(2)
        dy_BSKD = dy_BSKD * z_BSKD * gate_BSKD
    g_BSKDN = torch.empty_like(a_BSKDN)  # gradient that reaches the state after each step
    g_BKDN = dlast_BKDN
    for step in reversed(range(num_steps)):
        g_BSKDN[:, step] = g_BKDN + dy_BSKD[:, step, :, :, None] * C_BSKDN[:, step]
        g_BKDN = g_BSKDN[:, step] * a_BSKDN[:, step]
    r_BSKDN = g_BSKDN * a_BSKDN * before_BSKDN
    s_BSKD = (g_BSKDN * B_BSKDN).sum(-1)
    ddelta_BSKD = (r_BSKDN * A_KDN).sum(-1) + u_BSKD * s_BSKD
    if delta_softplus:
        slope_BSKD = -torch.expm1(-delta_BSKD)  # the sigmoid of x is 1 - exp(-softplus(x))
        ddelta_BSKD = ddelta_BSKD * torch.where(delta_BSKD > 20, torch.ones_like(slope_BSKD), slope_BSKD)
    dB_BSKDN, dC_BSKDN = g_BSKDN * drive_BSKD[..., None], after_BSKDN * dy_BSKD[..., None]
    du_BSKD = delta_BSKD * s_BSKD + (0 if D_KD is None else D_KD * dy_BSKD)
    gradients["u"] = scatter(du_BSKD, index_KS, num_tokens).sum(2)
    gradients["delta"] = scatter(ddelta_BSKD, index_KS, num_tokens)
    gradients["A"] = (r_BSKDN * delta_BSKD[..., None]).sum((0, 1))
    gradients["B"] = scatter(dB_BSKDN.unflatten(3, (num_groups, -1)).sum(4), index_KS, num_tokens)
    gradients["C"] = scatter(dC_BSKDN.unflatten(3, (num_groups, -1)).sum(4), index_KS, num_tokens)
    gradients["D"] = (dy_BSKD * u_BSKD).sum((0, 1))
    gradients["delta_bias"] = ddelta_BSKD.sum((0, 1))
    gradients["initial"] = g_BKDN
    return gradients


def gather(x_BLK: Tensor, index_KS: Tensor | None) -> Tensor:
    """Read what route k needs at its step s from (B, L, K, ...), zeros for padding; return (B, S, K, ...)."""
    if index_KS is None:
        return x_BLK
    num_tokens, num_routes = x_BLK.shape[1:3]
    padded = torch.cat([x_BLK, torch.zeros_like(x_BLK[:, :1])], 1).flatten(1, 2)
    return padded.index_select(1, _places(index_KS, num_tokens)).unflatten(1, (-1, num_routes))


def scatter(x_BSK: Tensor, index_KS: Tensor | None, num_tokens: int) -> Tensor:
    """The transpose of `gather`: add what step s of route k yields to its token; return (B, L, K, ...)."""
    if index_KS is None:
        return x_BSK
    batch, _, num_routes, *rest = x_BSK.shape
    padded = x_BSK.new_zeros(batch, (num_tokens + 1) * num_routes, *rest)
    padded = padded.index_add(1, _places(index_KS, num_tokens), x_BSK.flatten(1, 2))
    return padded.unflatten(1, (num_tokens + 1, num_routes))[:, :num_tokens]


def _places(index_KS: Tensor, num_tokens: int) -> Tensor:
    """Where (token, route) is when both are one axis, padding being a token behind the last; in the order (S, K)."""
    num_routes = index_KS.shape[0]
    return (index_KS.T % (num_tokens + 1) * num_routes + torch.arange(num_routes, device=index_KS.device)).flatten()


def _step_sizes(delta_BSKD: Tensor, bias_KD: Tensor | None, softplus: bool) -> Tensor:
    if bias_KD is not None:
        delta_BSKD = delta_BSKD + bias_KD
    return F.softplus(delta_BSKD, threshold=20.0) if softplus else delta_BSKD


def _per_channel(x: Tensor, num_channels: int) -> Tensor:
    """Give channel d of (..., G, N) the values of its group d // (D / G)."""
    return x.repeat_interleave(num_channels // x.shape[-2], dim=-2)
