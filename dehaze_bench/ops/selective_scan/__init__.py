"""The selective scan of Mamba (S6), channels-last and along any order of the tokens.

Shapes: B batch, L tokens, D channels, G groups, N states. Channels-last, a token is D neighbouring numbers, so visiting
tokens in any order costs about what raster order costs and no permuted copy is written.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.ops.backends import available_backends, choose_backend
from dehaze_bench.ops.order import check_order_type
from dehaze_bench.ops.selective_scan.op import selective_scan_op

__all__ = ["available_backends", "selective_scan"]


def selective_scan(
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
    return_last_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan the tokens: h = exp(delta A) h + delta B u, y = C h + D u, then y * silu(z).

    arXiv 2312.00752, equation 2. `B_BLGN` and `C_BLGN` may lack the group axis; channel d uses group d // (D / G).
    Step t reads token `order_L[t]` (int64, a permutation; None is raster) of u, delta, B, C and z and writes y at that
    token. delta = softplus(delta + bias), with the linear branch above 20, if `delta_softplus`.

    States are float32 (float64 for float64 data), y has u's dtype; under autocast the op runs in float32. All inputs,
    the initial state and the last state (B, D, N) are differentiable, once. Raises `UsageError` for shapes that do not
    fit, an order that is no permutation, and a backend that is unknown or cannot run here.
    """
    if B_BLGN.ndim == 3:
        B_BLGN = B_BLGN.unsqueeze(2)
    if C_BLGN.ndim == 3:
        C_BLGN = C_BLGN.unsqueeze(2)
    _check(u_BLD, delta_BLD, A_DN, B_BLGN, C_BLGN, D_D, z_BLD, delta_bias_D, order_L, initial_BDN)
    tensors = (u_BLD, delta_BLD, A_DN, B_BLGN, C_BLGN, D_D, z_BLD, delta_bias_D, order_L, initial_BDN)
    save_states = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    y_BLD, last_BDN, _ = selective_scan_op(*tensors, delta_softplus, choose_backend(backend, u_BLD), save_states)
    return (y_BLD, last_BDN) if return_last_state else y_BLD


def _check(
    u_BLD: Tensor,
    delta_BLD: Tensor,
    A_DN: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D_D: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_D: Tensor | None,
    order_L: Tensor | None,
    initial_BDN: Tensor | None,
) -> None:
    if u_BLD.ndim != 3 or u_BLD.numel() == 0:
        raise UsageError(f"u must be (batch, tokens, channels) and not empty, not {tuple(u_BLD.shape)}")
    if A_DN.ndim != 2 or B_BLGN.ndim != 4:
        raise UsageError(
            f"A must be (channels, states), not {tuple(A_DN.shape)}, and B (batch, tokens[, groups], states), "
            f"not {tuple(B_BLGN.shape)}"
        )
    batch, num_steps, num_channels = u_BLD.shape
    num_states, num_groups = A_DN.shape[1], B_BLGN.shape[2]
    if num_states == 0 or num_groups == 0 or num_channels % num_groups:
        raise UsageError(f"{num_channels} channels cannot be split into {num_groups} equal groups of B and C")
    expected: tuple[tuple[str, Tensor | None, tuple[int, ...]], ...] = (
        ("delta", delta_BLD, (batch, num_steps, num_channels)),
        ("A", A_DN, (num_channels, num_states)),
        ("B", B_BLGN, (batch, num_steps, num_groups, num_states)),
        ("C", C_BLGN, (batch, num_steps, num_groups, num_states)),
        ("D", D_D, (num_channels,)),
        ("z", z_BLD, (batch, num_steps, num_channels)),
        ("delta_bias", delta_bias_D, (num_channels,)),
        ("initial", initial_BDN, (batch, num_channels, num_states)),
    )
    for name, tensor, shape in expected:
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise UsageError(
                f"{name} must be {shape} for u {tuple(u_BLD.shape)}, not {tuple(tensor.shape)}: layouts are "
                "channels-last, (batch, tokens, channels)"
            )
        if tensor.device != u_BLD.device:
            raise UsageError(f"{name} is on {tensor.device} but u on {u_BLD.device}: move one of them")
    check_order_type(order_L, num_steps, u_BLD.device)
