"""Bi-WKV as the released CUDA kernel of Vision-RWKV evaluates it, for checkpoints that were trained with it.

Shapes: B batch, L tokens, C channels, J segments of S tokens, K kinds of value. With w = decay / L and u = first / L,
the tokens are cut into 32 segments of ceil(L / 32), and token t, whose segment starts at t0, sees token i with weight
    exp(k_i - (t - i) w)      for i < t0                    exp(k_i - (t - i - 1) w)  for t0 <= i < t
    exp(k_i - (i - t) w)      for i > t                     exp(k_i + u)              for i = t
and moreover, for t0 < i <= t, with (1 - e^w) exp(k_i + (t - i) w), which is negative for positive w. The paper has
exp(k_i - (|t - i| - 1) w) for all i != t. The denominator gains 1e-6 times the largest exponential that the kernel
scales by. For decays of -5 to 3 and normal keys, y differs from the paper's by 6e-3 of its norm at 37 tokens, 9e-4 at
196, 6e-5 at 1024 and 8e-6 at 4096.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError

NUM_SEGMENTS = 32
EPSILON = 1e-6
BOUND = 500.0  # the largest spread of logarithms of weights that float64 holds
STEP = 1e-30  # of the complex step, which differentiates to full precision however small it is


def bi_wkv(
    decay_C: Tensor,
    first_C: Tensor,
    k_BLC: Tensor,
    v_BLC: Tensor,
    order_L: Tensor | None = None,
    epsilon: float = EPSILON,
) -> Tensor:
    """The formula: every pair of tokens. Autograd works; the scale of epsilon counts as a constant."""
    if order_L is not None:
        y_BLC = bi_wkv(decay_C, first_C, k_BLC[:, order_L], v_BLC[:, order_L], None, epsilon)
        return torch.empty_like(y_BLC).index_copy(1, order_L, y_BLC)
    num_tokens = k_BLC.shape[1]
    w_C, u_C = decay_C / num_tokens, first_C / num_tokens
    t_LL1 = torch.arange(num_tokens, device=k_BLC.device)[:, None, None]
    i_LL1 = torch.arange(num_tokens, device=k_BLC.device)[None, :, None]
    size = -(-num_tokens // NUM_SEGMENTS)
    start_LL1 = t_LL1 // size * size
    distance_LL1 = (t_LL1 - i_LL1).abs() - ((start_LL1 <= i_LL1) & (i_LL1 < t_LL1)).long()
    log_BLLC = torch.where(t_LL1 == i_LL1, u_C, -distance_LL1 * w_C) + k_BLC[:, None]
    corrected_LL1 = (start_LL1 < i_LL1) & (i_LL1 <= t_LL1)
    rise_BLLC = (t_LL1 - i_LL1) * w_C + k_BLC[:, None]
    scale_BL1C = torch.maximum(log_BLLC, rise_BLLC.masked_fill(i_LL1 < start_LL1, -torch.inf))
    scale_BL1C = torch.maximum(scale_BL1C, (rise_BLLC + w_C).masked_fill(~corrected_LL1, -torch.inf))
    scale_BL1C = scale_BL1C.amax(2, keepdim=True).detach()
    weights_BLLC = torch.exp(log_BLLC - scale_BL1C)
    weights_BLLC = weights_BLLC + corrected_LL1 * (1 - torch.exp(w_C)) * torch.exp(rise_BLLC - scale_BL1C)
    return torch.einsum("btic,bic->btc", weights_BLLC, v_BLC) / (weights_BLLC.sum(2) + epsilon)


def scan(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> Tensor:
    """The same in linear time and float64, with w and u already divided by L: L / 32 steps for all segments at once.

    Raises `UsageError` where the weights of a channel spread wider than float64 reaches, exp(+-500).
    """
    w_C, u_C, k_BLC, v_BLC = (x.double() for x in (w_C, u_C, k_BLC, v_BLC))
    weight_BJSC, v_BJSC = _cut(w_C, u_C, k_BLC, v_BLC, order_L)
    numerator_BJSC, denominator_BJSC = _sums(torch.stack([weight_BJSC * v_BJSC, weight_BJSC]), w_C, u_C)
    return _join(numerator_BJSC / (denominator_BJSC + _epsilon(weight_BJSC, w_C, u_C)), order_L, k_BLC.shape[1])


def scan_backward(
    dy_BLC: Tensor, w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w, u, k and v: of this very formula, not what the released backward kernel computes."""
    w_C, u_C, k_BLC, v_BLC, dy_BLC = (x.double() for x in (w_C, u_C, k_BLC, v_BLC, dy_BLC))
    num_tokens = k_BLC.shape[1]
    weight_BJSC, v_BJSC = _cut(w_C, u_C, k_BLC, v_BLC, order_L)
    terms_KBJSC = torch.stack([weight_BJSC * v_BJSC, weight_BJSC])
    dy_BJSC = _segments(dy_BLC if order_L is None else dy_BLC[:, order_L])
    sums_KBJSC = _sums(terms_KBJSC.to(torch.complex128), torch.complex(w_C, torch.full_like(w_C, STEP)), u_C)
    denominator_BJSC = sums_KBJSC[1].real + _epsilon(weight_BJSC, w_C, u_C)
    share_BJSC = torch.where(denominator_BJSC == 0, 0.0, dy_BJSC / denominator_BJSC)  # 0 / 0 beyond the last token
    y_BJSC = sums_KBJSC[0].real / denominator_BJSC.where(denominator_BJSC != 0, 1.0)
    shares_KBJSC = torch.stack([share_BJSC, -share_BJSC * y_BJSC])
    dw_C = (shares_KBJSC * sums_KBJSC.imag).sum((0, 1, 2, 3)) / STEP
    du_C = (shares_KBJSC * terms_KBJSC).sum((0, 1, 2, 3)) * torch.exp(u_C)
    dterms_KBJSC = _sums(shares_KBJSC, w_C, u_C, transposed=True)
    dv_BJSC = weight_BJSC * dterms_KBJSC[0]
    dk_BJSC = dv_BJSC * v_BJSC + weight_BJSC * dterms_KBJSC[1]
    return dw_C, du_C, _join(dk_BJSC, order_L, num_tokens), _join(dv_BJSC, order_L, num_tokens)


def _cut(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the weights exp(k - max k), 0 beyond the last token, and the values, both in segments."""
    top_B1C = k_BLC.amax(1, keepdim=True)
    spread_B1C = top_B1C - k_BLC.amin(1, keepdim=True) + w_C.abs() * k_BLC.shape[1] + u_C.abs()
    if bool((spread_B1C > BOUND).any()):
        raise UsageError(
            f"form='published' takes keys, decays and bonuses that together span at most {BOUND:g}, not "
            f"{float(spread_B1C.max()):g}: use form='paper'"
        )
    if order_L is not None:
        k_BLC, v_BLC = k_BLC[:, order_L], v_BLC[:, order_L]
    return _segments(torch.exp(k_BLC - top_B1C)), _segments(v_BLC)


def _segments(x_BLC: Tensor) -> Tensor:
    num_tokens = x_BLC.shape[1]
    size = -(-num_tokens // NUM_SEGMENTS)
    num_used = -(-num_tokens // size)
    padded = torch.nn.functional.pad(x_BLC, (0, 0, 0, num_used * size - num_tokens))
    return padded.unflatten(1, (num_used, size))


def _join(x_BJSC: Tensor, order_L: Tensor | None, num_tokens: int) -> Tensor:
    x_BLC = x_BJSC.flatten(1, 2)[:, :num_tokens]
    return x_BLC if order_L is None else torch.empty_like(x_BLC).index_copy(1, order_L, x_BLC)


def _sums(x_KBJSC: Tensor, w_C: Tensor, u_C: Tensor, transposed: bool = False) -> Tensor:
    """Per token the sum over all tokens of coefficient * x; transposed: each token's share in the sums of all."""
    size = x_KBJSC.shape[-2]
    a_C, b_C = torch.exp(-w_C), torch.exp(w_C)
    s_S1 = torch.arange(size, device=x_KBJSC.device)[:, None]
    past, future = _before(x_KBJSC, a_C), _after(x_KBJSC, a_C)
    far = _far(past[1], a_C**size) * a_C ** (s_S1 + 1) + _far(future[1], a_C**size, -1) * a_C ** (size - s_S1)
    if transposed:
        near = future[0] + a_C * past[0]
        extra = (x_KBJSC + b_C * _after(x_KBJSC, b_C)[0]) * (s_S1 > 0)
    else:
        near = past[0] + a_C * future[0]
        inner = x_KBJSC * (s_S1 > 0)
        extra = inner + b_C * _before(inner, b_C)[0]
    return near + far + (1 - b_C) * extra + torch.exp(u_C) * x_KBJSC


def _epsilon(weight_BJSC: Tensor, w_C: Tensor, u_C: Tensor) -> Tensor:
    """Return 1e-6 times the kernel's running maximum: `_sums` with the greatest term in the place of the sum."""
    size = weight_BJSC.shape[-2]
    a_C, b_C = torch.exp(-w_C), torch.exp(w_C)
    s_S1 = torch.arange(size, device=weight_BJSC.device)[:, None]
    past, future = _before(weight_BJSC, a_C, torch.maximum), _after(weight_BJSC, a_C, torch.maximum)
    far_past = _far(past[1], a_C**size, 1, torch.maximum)
    from_start = torch.maximum(future[1].unsqueeze(-2), _far(future[1], a_C**size, -1, torch.maximum) * a_C**size)
    inner = weight_BJSC * (s_S1 > 0)
    rise = torch.maximum(inner, b_C * _before(inner, b_C, torch.maximum)[0])
    largest = torch.exp(u_C) * weight_BJSC
    for other in (past[0], far_past * a_C ** (s_S1 + 1), from_start * b_C**s_S1, b_C * rise):
        largest = torch.maximum(largest, other)
    return EPSILON * largest


Fold = Callable[[Tensor, Tensor], Tensor]


def _before(x: Tensor, rate_C: Tensor, fold: Fold = torch.add) -> tuple[Tensor, Tensor]:
    """Fold x along dimension -2, fading by rate per step; return the state before each step and the last."""
    state = torch.zeros_like(x[..., 0, :])
    found = []
    for current in x.unbind(-2):
        found.append(state)
        state = fold(rate_C * state, current)
    return torch.stack(found, -2), state


def _after(x: Tensor, rate_C: Tensor, fold: Fold = torch.add) -> tuple[Tensor, Tensor]:
    """As `_before`, from the end."""
    found, last = _before(x.flip(-2), rate_C, fold)
    return found.flip(-2), last


def _far(ends_JC: Tensor, rate_C: Tensor, direction: int = 1, fold: Fold = torch.add) -> Tensor:
    """Fold what the segments before (or, with direction -1, after) each one leave; (..., J, 1, C)."""
    walk = _before if direction == 1 else _after
    return walk(ends_JC, rate_C, fold)[0].unsqueeze(-2)
