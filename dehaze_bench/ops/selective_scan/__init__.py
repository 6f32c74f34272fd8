"""The selective scan of Mamba (S6), channels-last, along any order of the tokens or along several routes at once.

Shapes: B batch, L tokens, K routes, S steps of a route, D channels, G groups, N states. Channels-last, a token is D
neighbouring numbers, so visiting tokens in any order costs about what raster order costs and no permuted copy is
written; several routes read one u and add to one y.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.ops.backends import available_backends, choose_backend
from dehaze_bench.ops.order import check_index_type, check_order_type
from dehaze_bench.ops.selective_scan.op import selective_scan_op

__all__ = ["available_backends", "selective_scan", "selective_scan_routes"]

MERGES = ("sum", "none")


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
    batch, num_tokens, num_channels, num_groups, num_states = _sizes(u_BLD, A_DN, B_BLGN, 0)
    _check_shapes(
        u_BLD,
        ("delta", delta_BLD, (batch, num_tokens, num_channels)),
        ("A", A_DN, (num_channels, num_states)),
        ("B", B_BLGN, (batch, num_tokens, num_groups, num_states)),
        ("C", C_BLGN, (batch, num_tokens, num_groups, num_states)),
        ("D", D_D, (num_channels,)),
        ("z", z_BLD, (batch, num_tokens, num_channels)),
        ("delta_bias", delta_bias_D, (num_channels,)),
        ("initial", initial_BDN, (batch, num_channels, num_states)),
    )
    check_order_type(order_L, num_tokens, u_BLD.device)
    y_BLD, last_BKDN = _run(
        u_BLD,
        delta_BLD.unsqueeze(2),
        A_DN.unsqueeze(0),
        B_BLGN.unsqueeze(2),
        C_BLGN.unsqueeze(2),
        None if D_D is None else D_D.unsqueeze(0),
        z_BLD,
        None if delta_bias_D is None else delta_bias_D.unsqueeze(0),
        None if order_L is None else order_L.unsqueeze(0),
        None if initial_BDN is None else initial_BDN.unsqueeze(1),
        (delta_softplus, True, True),
        backend,
    )
    return (y_BLD, last_BKDN.squeeze(1)) if return_last_state else y_BLD


def selective_scan_routes(
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
    merge: Literal["sum", "none"] = "sum",
    initial_BKDN: Tensor | None = None,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan the same tokens along K routes, each with its own delta, A, B, C, D, bias and order.

    All tensors hold their tokens in raster order: step s of route k reads token `index_KS[k, s]` (int64; None is raster
    for every route) of u, z and its own delta, B and C, and adds what `selective_scan` would yield to y at that token.
    Returns y (B, L, D), summed over routes, or (B, L, K, D) with `merge="none"`; and, if asked for, the last states
    (B, K, D, N). `B_BLKGN` and `C_BLKGN` may lack the group axis.

    A route may skip tokens (its y is 0 there, without D u) and visit some repeatedly (its outputs add up, and so do
    gradients). The id -1 is a padding step: u, delta before the bias, B and C are 0, so the states only decay, and
    nothing is written. Dtypes, gradients and errors are as in `selective_scan`.
    """
    if B_BLKGN.ndim == 4:
        B_BLKGN = B_BLKGN.unsqueeze(3)
    if C_BLKGN.ndim == 4:
        C_BLKGN = C_BLKGN.unsqueeze(3)
    if merge not in MERGES:
        raise UsageError(f"no merge '{merge}'. {nearest(merge, MERGES)}")
    batch, num_tokens, num_channels, num_groups, num_states = _sizes(u_BLD, A_KDN, B_BLKGN, 1)
    num_routes = A_KDN.shape[0]
    _check_shapes(
        u_BLD,
        ("delta", delta_BLKD, (batch, num_tokens, num_routes, num_channels)),
        ("A", A_KDN, (num_routes, num_channels, num_states)),
        ("B", B_BLKGN, (batch, num_tokens, num_routes, num_groups, num_states)),
        ("C", C_BLKGN, (batch, num_tokens, num_routes, num_groups, num_states)),
        ("D", D_KD, (num_routes, num_channels)),
        ("z", z_BLD, (batch, num_tokens, num_channels)),
        ("delta_bias", delta_bias_KD, (num_routes, num_channels)),
        ("initial", initial_BKDN, (batch, num_routes, num_channels, num_states)),
    )
    check_index_type(index_KS, num_routes, u_BLD.device)
    y, last_BKDN = _run(
        u_BLD,
        delta_BLKD,
        A_KDN,
        B_BLKGN,
        C_BLKGN,
        D_KD,
        z_BLD,
        delta_bias_KD,
        index_KS,
        initial_BKDN,
        (delta_softplus, merge == "sum", False),
        backend,
    )
    return (y, last_BKDN) if return_last_state else y


def _run(
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_KD: Tensor | None,
    index_KS: Tensor | None,
    initial_BKDN: Tensor | None,
    options: tuple[bool, bool, bool],
    backend: str,
) -> tuple[Tensor, Tensor]:
    tensors = (u_BLD, delta_BLKD, A_KDN, B_BLKGN, C_BLKGN, D_KD, z_BLD, delta_bias_KD, index_KS, initial_BKDN)
    save_states = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    y, last_BKDN, _ = selective_scan_op(*tensors, *options, choose_backend(backend, u_BLD), save_states)
    return y, last_BKDN


def _sizes(u_BLD: Tensor, A: Tensor, B: Tensor, num_route_axes: int) -> tuple[int, int, int, int, int]:
    """Return the sizes B, L, D, G, N that the other shapes are held against."""
    if u_BLD.ndim != 3 or u_BLD.numel() == 0:
        raise UsageError(f"u must be (batch, tokens, channels) and not empty, not {tuple(u_BLD.shape)}")
    if A.ndim != 2 + num_route_axes or B.ndim != 4 + num_route_axes:
        routes = "routes, " * num_route_axes
        raise UsageError(
            f"A must be ({routes}channels, states), not {tuple(A.shape)}, and B (batch, tokens, {routes}[groups, ]"
            f"states), not {tuple(B.shape)}"
        )
    num_states, num_groups, num_channels = A.shape[-1], B.shape[-2], u_BLD.shape[2]
    if num_states == 0 or num_groups == 0 or num_channels % num_groups:
        raise UsageError(f"{num_channels} channels cannot be split into {num_groups} equal groups of B and C")
    return u_BLD.shape[0], u_BLD.shape[1], num_channels, num_groups, num_states


def _check_shapes(u_BLD: Tensor, *expected: tuple[str, Tensor | None, tuple[int, ...]]) -> None:
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
