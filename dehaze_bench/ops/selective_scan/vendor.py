"""The selective scan by the CUDA kernels of mamba-ssm, in the layout that those want.

Shapes: B batch, L tokens, K routes, S steps of a route, D channels, G groups, N states, T = N + S + N.

The kernels scan (batch, channels, tokens) in raster order from a zero state. So the K routes become K D channels with
K G groups, and u, delta, B and C are gathered into copies in visiting order, y is scattered out of one: K-fold copies
of u and y, which the other twins never write. The states at both ends ride along as N steps each. Before the route,
step n has a tiny step size, u = initial state / step size and B = e_n, which sets state n and decays nothing; behind
it, step n has step size 0 and C = e_n, which reads state n out: so the last state has a gradient, which the kernels do
not offer. Step sizes and the gate are computed here, in torch. Where several steps visit a token, `index_add` adds them
up, and on CUDA in an order that it leaves open.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.ops import vendor

CHUNK = 2048  # steps between the states that the kernel keeps for its backward pass
TINY = 2.0**-40  # exp(TINY A) is 1 in float32


def status() -> str:
    """Return "ok" or why not."""
    return vendor.status("selective_scan")


def states_shape(
    batch: int, num_routes: int, num_steps: int, num_channels: int, num_states: int
) -> tuple[int, int, int, int]:
    """The kernel's own states at the ends of its chunks, and in the last place the initial state."""
    num_chunks = math.ceil((num_steps + 2 * num_states) / CHUNK)
    return batch, num_routes * num_channels, num_chunks + 1, 2 * num_states


def scan(
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
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the last states and, if `save_states`, what `scan_backward` starts from."""
    batch, num_tokens, num_channels = u_BLD.shape
    num_routes, _, num_states = A_KDN.shape
    if initial_BKDN is None:
        initial_BKDN = u_BLD.new_zeros(batch, num_routes, num_channels, num_states, dtype=torch.float32)
    index_KS = _index(index_KS, num_routes, u_BLD)
    steps = _lay_out(
        u_BLD, delta_BLKD, A_KDN, B_BLKGN, C_BLKGN, D_KD, delta_bias_KD, delta_softplus, index_KS, initial_BKDN
    )
    out, kept, *_ = vendor.load_selective_scan().fwd(*steps, None, None, False)
    out_BKDT = out.unflatten(1, (num_routes, num_channels))
    y = _scatter(_inner(out_BKDT, num_states).mT, index_KS, num_tokens, merged)
    if z_BLD is not None:
        y = y * _gate(z_BLD, merged)
    last_BKDN = out_BKDT[..., -num_states:].contiguous()
    if not save_states:
        return y, last_BKDN, y.new_empty(0)
    states = y.new_zeros(states_shape(batch, num_routes, index_KS.shape[1], num_channels, num_states))
    states[:, :, :-1] = kept
    states[:, :, -1, :num_states] = initial_BKDN.flatten(1, 2)
    return y, last_BKDN, states


def scan_backward(
    dy: Tensor,
    dlast_BKDN: Tensor,
    states: Tensor,
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
    merged: bool,
) -> dict[str, Tensor]:
    """Return the gradients by name. With a gate the forward scan runs once more, for the y before it."""
    num_tokens, num_channels = u_BLD.shape[1:]
    num_routes, _, num_states = A_KDN.shape
    num_groups = B_BLKGN.shape[3]
    index_KS = _index(index_KS, num_routes, u_BLD)
    initial_BKDN = states[:, :, -1, :num_states].unflatten(1, (num_routes, num_channels))
    steps = _lay_out(
        u_BLD, delta_BLKD, A_KDN, B_BLKGN, C_BLKGN, D_KD, delta_bias_KD, delta_softplus, index_KS, initial_BKDN
    )
    kernels = vendor.load_selective_scan()
    gradients: dict[str, Tensor] = {}
    dy = dy.float()
    if z_BLD is not None:
        out_BKDT = kernels.fwd(*steps, None, None, False)[0].unflatten(1, (num_routes, num_channels))
        dgate = dy * _scatter(_inner(out_BKDT, num_states).mT, index_KS, num_tokens, merged)
        slope_BLD = torch.sigmoid(z_BLD.float()) * (1 + z_BLD.float() * (1 - torch.sigmoid(z_BLD.float())))
        gradients["z"] = (dgate if merged else dgate.sum(2)) * slope_BLD
        dy = dy * _gate(z_BLD, merged)
    dy_BKDS = _gather(dy, index_KS).mT
    dout_BKDT = torch.cat([torch.zeros_like(dlast_BKDN), dy_BKDS, dlast_BKDN], -1)
    kept = states[:, :, :-1].contiguous()
    found = kernels.bwd(*steps, None, None, dout_BKDT.flatten(1, 2).contiguous(), kept, None, None, False, False)
    du, ddelta, dA, dB, dC, dD = found[:6]
    du_BKDT, ddelta_BKDT = (x.unflatten(1, (num_routes, num_channels)) for x in (du, ddelta))
    dB_BKGNT, dC_BKGNT = (x.unflatten(1, (num_routes, num_groups)) for x in (dB, dC))
    ddelta_BKSD = _inner(ddelta_BKDT, num_states).mT
    if delta_softplus:
        raw_BKSD = _raw_step_sizes(delta_BLKD, delta_bias_KD, index_KS)
        ddelta_BKSD = ddelta_BKSD * torch.where(raw_BKSD > 20, 1.0, torch.sigmoid(raw_BKSD))
    gradients["u"] = _scatter(_inner(du_BKDT, num_states).mT, index_KS, num_tokens, merged=True)
    gradients["delta"] = _scatter(ddelta_BKSD, index_KS, num_tokens, merged=False)
    gradients["A"] = dA.unflatten(0, (num_routes, num_channels))
    for name, d_BKGNT in (("B", dB_BKGNT), ("C", dC_BKGNT)):
        gradients[name] = _scatter(_inner(d_BKGNT, num_states).movedim(-1, 2), index_KS, num_tokens, merged=False)
    if D_KD is not None:
        gradients["D"] = dD.unflatten(0, (num_routes, num_channels))
    gradients["delta_bias"] = ddelta_BKSD.sum((0, 2))
    gradients["initial"] = du_BKDT[..., :num_states] / TINY
    return gradients


class _Steps(NamedTuple):
    """The first arguments of the kernels, float32."""

    u: Tensor  # (B, K D, T)
    delta: Tensor  # (B, K D, T)
    A: Tensor  # (K D, N)
    B: Tensor  # (B, K G, N, T)
    C: Tensor  # (B, K G, N, T)
    D: Tensor | None  # (K D)


def _lay_out(
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None,
    delta_bias_KD: Tensor | None,
    delta_softplus: bool,
    index_KS: Tensor,
    initial_BKDN: Tensor,
) -> _Steps:
    num_states = A_KDN.shape[2]
    u_BKDS = _gather(u_BLD, index_KS).mT
    delta_BKDS = _raw_step_sizes(delta_BLKD, delta_bias_KD, index_KS).mT
    if delta_softplus:
        delta_BKDS = F.softplus(delta_BKDS, threshold=20.0)
    B_BKGNS, C_BKGNS = (_gather(x, index_KS).movedim(2, -1) for x in (B_BLKGN, C_BLKGN))
    unit_BKGNN = torch.eye(num_states, device=u_BLD.device).expand(*B_BKGNS.shape[:3], -1, -1)
    none_BKGNN, none_BKDN = torch.zeros_like(unit_BKGNN), torch.zeros_like(initial_BKDN)
    u_BKDT = torch.cat([initial_BKDN / TINY, u_BKDS, none_BKDN], -1)
    delta_BKDT = torch.cat([torch.full_like(initial_BKDN, TINY), delta_BKDS, none_BKDN], -1)
    B_BKGNT = torch.cat([unit_BKGNN, B_BKGNS, none_BKGNN], -1)
    C_BKGNT = torch.cat([none_BKGNN, C_BKGNS, unit_BKGNN], -1)
    return _Steps(
        u_BKDT.flatten(1, 2).contiguous(),
        delta_BKDT.flatten(1, 2).contiguous(),
        A_KDN.float().flatten(0, 1).contiguous(),
        B_BKGNT.flatten(1, 2).contiguous(),
        C_BKGNT.flatten(1, 2).contiguous(),
        None if D_KD is None else D_KD.float().flatten().contiguous(),
    )


def _raw_step_sizes(delta_BLKD: Tensor, delta_bias_KD: Tensor | None, index_KS: Tensor) -> Tensor:
    raw_BKSD = _gather(delta_BLKD, index_KS)
    return raw_BKSD if delta_bias_KD is None else raw_BKSD + delta_bias_KD.float()[:, None]


def _index(index_KS: Tensor | None, num_routes: int, u_BLD: Tensor) -> Tensor:
    if index_KS is not None:
        return index_KS
    return torch.arange(u_BLD.shape[1], device=u_BLD.device).expand(num_routes, -1)


def _gather(x: Tensor, index_KS: Tensor) -> Tensor:
    """Return (B, K, S, ...) in float32 from (B, L, K, ...), or from (B, L, D); 0 at padding steps."""
    rows_KS = index_KS.clamp(min=0)
    if x.ndim == 3:
        found = x[:, rows_KS]
    else:
        found = x[:, rows_KS, torch.arange(len(index_KS), device=x.device)[:, None]]
    padding_KS = (index_KS < 0).reshape(index_KS.shape + (1,) * (found.ndim - 3))
    return found.float().masked_fill(padding_KS, 0.0)


def _scatter(x: Tensor, index_KS: Tensor, num_tokens: int, merged: bool) -> Tensor:
    """Add (B, K, S, ...) into (B, L, ...) if merged, else (B, L, K, ...); padding steps go nowhere."""
    batch, num_routes = x.shape[:2]
    rows_KS = torch.where(index_KS < 0, num_tokens, index_KS)
    if merged:
        out = x.new_zeros(batch, num_tokens + 1, *x.shape[3:])
        return out.index_add_(1, rows_KS.flatten(), x.flatten(1, 2))[:, :num_tokens]
    out = x.new_zeros(batch, (num_tokens + 1) * num_routes, *x.shape[3:])
    rows_KS = rows_KS * num_routes + torch.arange(num_routes, device=x.device)[:, None]
    return out.index_add_(1, rows_KS.flatten(), x.flatten(1, 2)).unflatten(1, (-1, num_routes))[:, :num_tokens]


def _inner(x: Tensor, num_states: int) -> Tensor:
    """Leave out the steps that carry states."""
    return x[..., num_states : x.shape[-1] - num_states]


def _gate(z_BLD: Tensor, merged: bool) -> Tensor:
    gate_BLD = F.silu(z_BLD.float())
    return gate_BLD if merged else gate_BLD[:, :, None]
