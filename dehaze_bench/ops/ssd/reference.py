"""State space duality in plain torch, one token at a time, and its quadratic form: what the fast form is compared with.

Shapes: B batch, L tokens, H heads, P channels of a head, G groups, N states. Dao and Gu 2024 (arXiv 2405.21060),
equations 1 and 6 (a scalar times the identity for A), with the first-order step for B as in the published code. Any
floating dtype; autograd works.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scan(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D: Tensor | None = None,
    z_BLHP: Tensor | None = None,
    dt_bias_H: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    order_L: Tensor | None = None,
    initial_BHPN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h = exp(dt A) h + dt x B^T, y = h C + D x, then y * silu(z); return y and the last h (B, H, P, N)."""
    batch, num_tokens, num_heads, num_channels = x_BLHP.shape
    dt_BLH = step_sizes(dt_BLH, dt_bias_H, dt_softplus, dt_limit)
    B_BLHN, C_BLHN = _per_head(B_BLGN, num_heads), _per_head(C_BLGN, num_heads)
    decay_BLH11 = torch.exp(dt_BLH * A_H)[..., None, None]
    drive_BLHP1 = (x_BLHP * dt_BLH[..., None])[..., None]
    h_BHPN = x_BLHP.new_zeros(batch, num_heads, num_channels, B_BLGN.shape[3])
    h_BHPN = h_BHPN if initial_BHPN is None else initial_BHPN
    outputs: list[Tensor] = [x_BLHP] * num_tokens
    for token in _tokens(order_L, num_tokens):
        h_BHPN = decay_BLH11[:, token] * h_BHPN + drive_BLHP1[:, token] * B_BLHN[:, token, :, None]
        outputs[token] = (h_BHPN @ C_BLHN[:, token, :, :, None]).squeeze(-1)
    y_BLHP = torch.stack(outputs, 1)
    if D is not None:
        y_BLHP = y_BLHP + per_channel(D) * x_BLHP
    if z_BLHP is not None:
        y_BLHP = y_BLHP * F.silu(z_BLHP)
    return y_BLHP, h_BHPN


def attend(x_BLHP: Tensor, dt_BLH: Tensor, A_H: Tensor, B_BLGN: Tensor, C_BLGN: Tensor) -> Tensor:
    """Return y of the dual form: masked attention with weights C_i . B_j exp(A (dt_{j+1} + ... + dt_i)) dt_j.

    Equation 16 of the paper, from a zero state and in raster order; L * L weights per head.
    """
    num_tokens, num_heads = dt_BLH.shape[1:]
    B_BLHN, C_BLHN = _per_head(B_BLGN, num_heads), _per_head(C_BLGN, num_heads)
    past_LL = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=dt_BLH.device).tril()
    # Sums of segments, not differences of sums: [k, j] holds the step of token k where k > j, then cumulates over k.
    steps_BLLH = (dt_BLH * A_H)[:, :, None].expand(-1, -1, num_tokens, -1)
    steps_BLLH = steps_BLLH.masked_fill(~past_LL.tril(-1)[..., None], 0.0).cumsum(1)
    decay_BLLH = torch.exp(steps_BLLH.masked_fill(~past_LL[..., None], float("-inf")))
    weights_BLLH = torch.einsum("bihn,bjhn->bijh", C_BLHN, B_BLHN) * decay_BLLH
    return torch.einsum("bijh,bjh,bjhp->bihp", weights_BLLH, dt_BLH, x_BLHP)


def scan_backward(
    dy_BLHP: Tensor,
    dlast_BHPN: Tensor,
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D: Tensor | None,
    z_BLHP: Tensor | None,
    dt_bias_H: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    order_L: Tensor | None,
    initial_BHPN: Tensor | None,
) -> dict[str, Tensor]:
    """Return the gradients by name (x, dt, A, B, C, D, z, dt_bias, initial) in closed form.

    Written out because autograd does not reach into a custom op. It keeps every state: B * L * H * P * N numbers.
    """
    num_tokens, num_heads = dt_BLH.shape[1:]
    num_groups = B_BLGN.shape[2]
    raw_BLH, dt_BLH = dt_BLH, step_sizes(dt_BLH, dt_bias_H, dt_softplus, dt_limit)
    B_BLHN, C_BLHN = _per_head(B_BLGN, num_heads), _per_head(C_BLGN, num_heads)
    tokens = _tokens(order_L, num_tokens)
    a_BLH11 = torch.exp(dt_BLH * A_H)[..., None, None]
    drive_BLHP = x_BLHP * dt_BLH[..., None]
    before_BLHPN = x_BLHP.new_empty(*x_BLHP.shape, B_BLGN.shape[3])
    after_BLHPN = torch.empty_like(before_BLHPN)
    h_BHPN = torch.zeros_like(dlast_BHPN) if initial_BHPN is None else initial_BHPN
    for token in tokens:
        before_BLHPN[:, token] = h_BHPN
        h_BHPN = a_BLH11[:, token] * h_BHPN + drive_BLHP[:, token, ..., None] * B_BLHN[:, token, :, None]
        after_BLHPN[:, token] = h_BHPN
    gradients: dict[str, Tensor] = {}
    if z_BLHP is not None:
        y_BLHP = torch.einsum("blhpn,blhn->blhp", after_BLHPN, C_BLHN)
        if D is not None:
            y_BLHP = y_BLHP + per_channel(D) * x_BLHP
        gradients["z"], dy_BLHP = through_gate(dy_BLHP, y_BLHP, z_BLHP)
    g_BLHPN = torch.empty_like(before_BLHPN)  # gradient that reaches the state after each token
    g_BHPN = dlast_BHPN
    for token in reversed(tokens):
        g_BLHPN[:, token] = g_BHPN + dy_BLHP[:, token, ..., None] * C_BLHN[:, token, :, None]
        g_BHPN = g_BLHPN[:, token] * a_BLH11[:, token]
    ddrive_BLHP = torch.einsum("blhpn,blhn->blhp", g_BLHPN, B_BLHN)
    decays_BLH = (g_BLHPN * a_BLH11 * before_BLHPN).sum((-1, -2))
    gradients |= through_steps(
        ddrive_BLHP, decays_BLH, dy_BLHP, x_BLHP, raw_BLH, dt_BLH, A_H, D, dt_bias_H, dt_softplus, dt_limit
    )
    dB_BLHN = torch.einsum("blhpn,blhp->blhn", g_BLHPN, drive_BLHP)
    dC_BLHN = torch.einsum("blhpn,blhp->blhn", after_BLHPN, dy_BLHP)
    gradients["B"] = dB_BLHN.unflatten(2, (num_groups, -1)).sum(3)
    gradients["C"] = dC_BLHN.unflatten(2, (num_groups, -1)).sum(3)
    gradients["initial"] = g_BHPN
    return gradients


def step_sizes(dt_BLH: Tensor, bias_H: Tensor | None, softplus: bool, limit: tuple[float, float]) -> Tensor:
    """Return the steps that are taken: bias, softplus (linear above 20), then the limits."""
    return _unlimited(dt_BLH, bias_H, softplus).clamp(*limit)


def through_gate(dy_BLHP: Tensor, y_BLHP: Tensor, z_BLHP: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of z and of the ungated y."""
    gate_BLHP = torch.sigmoid(z_BLHP)
    return dy_BLHP * y_BLHP * gate_BLHP * (1 + z_BLHP * (1 - gate_BLHP)), dy_BLHP * z_BLHP * gate_BLHP


def through_steps(
    ddrive_BLHP: Tensor,
    decays_BLH: Tensor,
    dy_BLHP: Tensor,
    x_BLHP: Tensor,
    raw_BLH: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    D: Tensor | None,
    bias_H: Tensor | None,
    softplus: bool,
    limit: tuple[float, float],
) -> dict[str, Tensor]:
    """Return the gradients of x, dt, A, D and dt_bias from those of dt x, of dt A (`decays`) and of y."""
    ddt_BLH = (ddrive_BLHP * x_BLHP).sum(-1) + decays_BLH * A_H
    free_BLH = _unlimited(raw_BLH, bias_H, softplus)
    ddt_BLH = ddt_BLH * ((free_BLH >= limit[0]) & (free_BLH <= limit[1]))
    if softplus:
        biased_BLH = raw_BLH if bias_H is None else raw_BLH + bias_H
        ddt_BLH = ddt_BLH * torch.where(biased_BLH > 20, torch.ones_like(biased_BLH), torch.sigmoid(biased_BLH))
    gradients = {"x": ddrive_BLHP * dt_BLH[..., None], "dt": ddt_BLH, "dt_bias": ddt_BLH.sum((0, 1))}
    gradients["A"] = (decays_BLH * dt_BLH).sum((0, 1))
    if D is not None:
        gradients["x"] = gradients["x"] + per_channel(D) * dy_BLHP
        gradients["D"] = (dy_BLHP * x_BLHP).sum((0, 1) if D.ndim == 2 else (0, 1, 3))
    return gradients


def per_channel(D: Tensor) -> Tensor:
    """Give the skip, (H) or (H, P), two axes."""
    return D if D.ndim == 2 else D[:, None]


def _unlimited(dt_BLH: Tensor, bias_H: Tensor | None, softplus: bool) -> Tensor:
    if bias_H is not None:
        dt_BLH = dt_BLH + bias_H
    return F.softplus(dt_BLH, threshold=20.0) if softplus else dt_BLH


def _per_head(x_BLGN: Tensor, num_heads: int) -> Tensor:
    """Give head h the values of its group h // (H / G)."""
    return x_BLGN.repeat_interleave(num_heads // x_BLGN.shape[2], dim=2)


def _tokens(order_L: Tensor | None, num_tokens: int) -> list[int]:
    return list(range(num_tokens)) if order_L is None else order_L.tolist()
