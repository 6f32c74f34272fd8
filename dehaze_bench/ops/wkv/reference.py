"""Bi-WKV attention in plain torch: the formula itself, and a linear-time form of it for where Numba is missing.

Shapes: B batch, L tokens, C channels, K kinds of value. Duan et al., Vision-RWKV (arXiv 2403.02308), equations 3 and 4;
with w = decay / L and u = first / L, token t sees token i != t with weight exp(-(|t - i| - 1) w + k_i) and itself with
exp(u + k_t).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NOTHING = -1e30  # logarithm of the factor of an empty sum


def bi_wkv(decay_C: Tensor, first_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None = None) -> Tensor:
    """The formula: every pair of tokens, L * L * C weights. Any floating dtype; autograd works."""
    if order_L is not None:
        y_BLC = bi_wkv(decay_C, first_C, k_BLC[:, order_L], v_BLC[:, order_L])
        return torch.empty_like(y_BLC).index_copy(1, order_L, y_BLC)
    num_tokens = k_BLC.shape[1]
    w_C, u_C = decay_C / num_tokens, first_C / num_tokens
    steps_L = torch.arange(num_tokens, device=k_BLC.device)
    distance_LL1 = (steps_L[:, None] - steps_L[None, :]).abs()[..., None]
    bias_LLC = torch.where(distance_LL1 == 0, u_C, -(distance_LL1 - 1) * w_C)
    weights_BLLC = torch.softmax(bias_LLC + k_BLC[:, None], dim=2)
    return torch.einsum("btic,bic->btc", weights_BLLC, v_BLC)


def scan(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> Tensor:
    """The same in linear time, with w and u already divided by L: one scan from each end, then their weighted mean."""
    values_KBLC = torch.stack([v_BLC, torch.ones_like(v_BLC)])
    past, future = (_side(w_C, k_BLC, values_KBLC, tokens) for tokens in _directions(order_L, k_BLC.shape[1]))
    return _combine(past, future, u_C + k_BLC, v_BLC)[0]


def scan_backward(
    dy_BLC: Tensor, w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w, u, k and v in closed form: autograd does not reach into a custom op.

    The weight of token i at token t, divided by the denominator of t, decays with the distance as before, so the
    gradients of k and v are again two scans: over dy / denominator, keyed by the logarithm of 1 / denominator.
    """
    directions = _directions(order_L, k_BLC.shape[1])
    values_KBLC = torch.stack([v_BLC, torch.ones_like(v_BLC)])
    past, future = (_side(w_C, k_BLC, values_KBLC, tokens) for tokens in directions)
    y_BLC, den_BLC, top_BLC = _combine(past, future, u_C + k_BLC, v_BLC)
    share_BLC = dy_BLC / den_BLC
    slope_KBLC = past.slopes_KBLC * torch.exp(past.log_BLC - top_BLC)
    slope_KBLC = slope_KBLC + future.slopes_KBLC * torch.exp(future.log_BLC - top_BLC)
    dw_C = -(share_BLC * (slope_KBLC[0] - y_BLC * slope_KBLC[1])).sum((0, 1))
    own_BLC = share_BLC * torch.exp(u_C + k_BLC - top_BLC)
    dk_BLC, dv_BLC = own_BLC * (v_BLC - y_BLC), own_BLC
    du_C = dk_BLC.sum((0, 1))
    shares_KBLC = torch.stack([share_BLC, share_BLC * y_BLC])
    for tokens in directions:
        side = _side(w_C, -top_BLC, shares_KBLC, tokens)
        sums_KBLC = side.sums_KBLC * torch.exp(k_BLC + side.log_BLC)
        dv_BLC = dv_BLC + sums_KBLC[0]
        dk_BLC = dk_BLC + sums_KBLC[0] * v_BLC - sums_KBLC[1]
    return dw_C, du_C, dk_BLC, dv_BLC


class _Side(NamedTuple):
    """Per token, sums over the tokens visited before it; every entry lacks the factor exp(log)."""

    sums_KBLC: Tensor  # weight * value, for each of K kinds of value
    slopes_KBLC: Tensor  # (distance - 1) * weight * value
    log_BLC: Tensor


def _side(w_C: Tensor, key_BLC: Tensor, values_KBLC: Tensor, tokens: list[int]) -> _Side:
    found = _Side(torch.zeros_like(values_KBLC), torch.zeros_like(values_KBLC), torch.full_like(key_BLC, NOTHING))
    sums_KBC, slopes_KBC, log_BC = (x[..., 0, :] for x in found)
    for token in tokens:
        found.sums_KBLC[:, :, token], found.slopes_KBLC[:, :, token] = sums_KBC, slopes_KBC
        found.log_BLC[:, token] = log_BC
        top_BC = torch.maximum(log_BC - w_C, key_BLC[:, token])
        fade_BC, rise_BC = torch.exp(log_BC - w_C - top_BC), torch.exp(key_BLC[:, token] - top_BC)
        slopes_KBC = (slopes_KBC + sums_KBC) * fade_BC
        sums_KBC = sums_KBC * fade_BC + values_KBLC[:, :, token] * rise_BC
        log_BC = top_BC
    return found


def _combine(past: _Side, future: _Side, own_BLC: Tensor, v_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted mean, and the denominator as (factor, logarithm)."""
    top_BLC = torch.maximum(torch.maximum(past.log_BLC, future.log_BLC), own_BLC)
    sums_KBLC = past.sums_KBLC * torch.exp(past.log_BLC - top_BLC)
    sums_KBLC = sums_KBLC + future.sums_KBLC * torch.exp(future.log_BLC - top_BLC)
    weight_BLC = torch.exp(own_BLC - top_BLC)
    den_BLC = sums_KBLC[1] + weight_BLC
    return (sums_KBLC[0] + weight_BLC * v_BLC) / den_BLC, den_BLC, top_BLC


def _directions(order_L: Tensor | None, num_tokens: int) -> tuple[list[int], list[int]]:
    order = list(range(num_tokens)) if order_L is None else order_L.tolist()
    return order, order[::-1]
