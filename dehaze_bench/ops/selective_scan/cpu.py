"""The Numba twin: prepares arrays and jobs for the kernels in `cpu_forward` and `cpu_backward`.

Shapes: B batch, L tokens, K routes, S steps of a route, D channels, G groups, N states, P partial sums.

Memory beyond the results: one state per `CHUNK` steps of a route, kept for the backward pass; there, at most
`MAX_PARTS` partial copies of the gradients of B and C; and some kilobytes per thread.

What every twin module (this one, `gpu`, `vendor`) offers, with the arguments of the functions below, positional:
    scan(...) -> y in float32, (B, L, D) if merged, else (B, L, K, D); the last states (B, K, D, N); saved states
    scan_backward(...) -> gradients in float32 by name, in the shapes of the inputs; those of absent inputs are ignored
    states_shape(...) -> the shape of the saved states, for the fake kernel
The data are float32 or narrower and may be slices of wider tensors, the index holds ids in -1 .. L-1 and is checked,
and dy has the dtype of u and the shape of y. What the operator computes: `reference`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.ops.jobs import run_jobs
from dehaze_bench.ops.order import are_permutations

CHUNK = 64  # a multiple of the lanes' width
MAX_PARTS = 8
LOG2_E = math.log2(math.e)


def states_shape(
    batch: int, num_routes: int, num_steps: int, num_channels: int, num_states: int
) -> tuple[int, int, int, int, int]:
    """The states before every `CHUNK` steps of each route."""
    return batch, num_routes, math.ceil(num_steps / CHUNK), num_states, num_channels


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
    from dehaze_bench.ops.selective_scan.cpu_forward import scan_forward

    batch, num_tokens, num_channels = u_BLD.shape
    num_routes, _, num_states = A_KDN.shape
    num_groups = B_BLKGN.shape[3]
    num_steps = num_tokens if index_KS is None else index_KS.shape[1]
    whole_K = _whole(index_KS, num_routes, num_tokens)
    y = _room((batch, num_tokens, 1 if merged else num_routes, num_channels), whole_K[:1] if merged else whole_K)
    last_BKND = np.empty((batch, num_routes, num_states, num_channels), np.float32)
    shape = states_shape(batch, num_routes, num_steps, num_channels, num_states)
    states = np.empty(shape if save_states else (batch, num_routes, 0, num_states, num_channels), np.float32)
    initial = np.zeros_like(last_BKND) if initial_BKDN is None else _array(initial_BKDN.mT)
    inputs = _inputs(u_BLD, delta_BLKD, A_KDN, B_BLKGN, C_BLKGN, D_KD, z_BLD, delta_bias_KD, index_KS)
    flags = (whole_K, z_BLD is not None, delta_softplus, merged, CHUNK)
    work = batch * num_routes * num_steps * num_channels * num_states
    jobs = _jobs(batch, num_groups, num_channels, torch.get_num_threads())
    run_jobs(scan_forward, jobs, (*inputs, initial, *flags, y, last_BKND, states), work)
    y_ = torch.from_numpy(y[:, :, 0] if merged else y)
    return y_, torch.from_numpy(last_BKND).mT.contiguous(), torch.from_numpy(states if save_states else states.ravel())


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
    """Return the gradients by name, as `reference.scan_backward` does."""
    from dehaze_bench.ops.selective_scan.cpu_backward import scan_backward as kernel

    batch, num_tokens, num_channels = u_BLD.shape
    num_routes, _, num_states = A_KDN.shape
    num_groups = B_BLKGN.shape[3]
    num_steps = num_tokens if index_KS is None else index_KS.shape[1]
    whole_K = _whole(index_KS, num_routes, num_tokens)
    jobs = _jobs(batch, num_groups, num_channels)  # whatever the number of threads, so that the result is the same
    num_parts = 1 + max(int(job[4]) for job in jobs)
    du_BLD = _room(u_BLD.shape, whole_K[:1])
    dz_BLD = _room(u_BLD.shape if z_BLD is not None else (0, 0, 0), whole_K[:1])
    ddelta_BLKD = _room(delta_BLKD.shape, whole_K)
    dA_BKND = np.empty((batch, num_routes, num_states, num_channels), np.float32)
    dinitial_BKND = np.empty_like(dA_BKND)
    dD_BKD = np.empty((batch, num_routes, num_channels), np.float32)
    dbias_BKD = np.empty_like(dD_BKD)
    dB_PBLKGN = _room((num_parts, *B_BLKGN.shape), whole_K)
    dC_PBLKGN = _room((num_parts, *C_BLKGN.shape), whole_K)
    inputs = _inputs(u_BLD, delta_BLKD, A_KDN, B_BLKGN, C_BLKGN, D_KD, z_BLD, delta_bias_KD, index_KS)
    flags = (whole_K, z_BLD is not None, delta_softplus, merged, CHUNK)
    gradients = (_rows(dy.unsqueeze(2) if merged else dy), _array(dlast_BKDN.mT))
    outputs = (du_BLD, ddelta_BLKD, dA_BKND, dB_PBLKGN, dC_PBLKGN, dD_BKD, dz_BLD, dbias_BKD, dinitial_BKND)
    work = batch * num_routes * num_steps * num_channels * num_states
    run_jobs(kernel, jobs, (*inputs, _array(states), *flags, *gradients, *outputs), work)
    return {
        "u": torch.from_numpy(du_BLD),
        "delta": torch.from_numpy(ddelta_BLKD),
        "A": torch.from_numpy(dA_BKND.sum(0)).mT.contiguous(),
        "B": _sum_parts(dB_PBLKGN),
        "C": _sum_parts(dC_PBLKGN),
        "D": torch.from_numpy(dD_BKD.sum(0)),
        "z": torch.from_numpy(dz_BLD),
        "delta_bias": torch.from_numpy(dbias_BKD.sum(0)),
        "initial": torch.from_numpy(dinitial_BKND).mT.contiguous(),
    }


def _inputs(
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_KD: Tensor | None,
    index_KS: Tensor | None,
) -> tuple[np.ndarray, ...]:
    """The arrays that both kernels begin with; absent ones become zeros or, for z, a stand-in that is not read."""
    u = _rows(u_BLD)
    nothing = np.zeros(A_KDN.shape[:2], np.float32)
    return (
        u,
        _rows(delta_BLKD),
        _array((A_KDN.detach().float() * LOG2_E).mT),
        _rows(B_BLKGN),
        _rows(C_BLKGN),
        nothing if D_KD is None else _array(D_KD),
        u if z_BLD is None else _rows(z_BLD),
        nothing if delta_bias_KD is None else _array(delta_bias_KD),
        np.arange(u_BLD.shape[1])[None] if index_KS is None else index_KS.contiguous().numpy(),
    )


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to(torch.float32).contiguous().numpy()


def _rows(x: Tensor) -> np.ndarray:
    """A slice of a wider tensor is not copied as long as its last axis holds neighbours."""
    x = x.detach().to(torch.float32)
    return (x if x.stride(-1) == 1 else x.contiguous()).numpy()


def _whole(index_KS: Tensor | None, num_routes: int, num_tokens: int) -> np.ndarray:
    """Which routes visit each token once: what they write need not be added to what is there."""
    return np.resize(np.array(are_permutations(index_KS, num_tokens), np.bool_), num_routes)


def _room(shape: tuple[int, ...], whole: np.ndarray) -> np.ndarray:
    """An array to be written, or added to where a route skips or repeats tokens."""
    return np.empty(shape, np.float32) if whole.all() else np.zeros(shape, np.float32)


def _sum_parts(x_PBLKGN: np.ndarray) -> Tensor:
    return torch.from_numpy(x_PBLKGN[0] if len(x_PBLKGN) == 1 else x_PBLKGN.sum(0))


def _jobs(batch: int, num_groups: int, num_channels: int, at_least: int = 1) -> list[np.ndarray]:
    """Cut the channels of each group into jobs (batch, group, first channel, number of channels, part).

    A job runs all routes, because they add to the same y and gradient of u, and some 48 channels, because neighbours in
    memory are worth reading together; fewer where there would be less than `at_least` jobs. Jobs of one part never meet
    in a gradient of B or C.
    """
    from dehaze_bench.ops.lanes import WIDTH

    size = num_channels // num_groups
    num_blocks = math.ceil(size / WIDTH)
    num_parts = min(MAX_PARTS, 2 * math.ceil(num_blocks / 6))  # even, for two threads
    num_parts = min(num_blocks, max(num_parts, math.ceil(at_least / (batch * num_groups))))
    starts = [WIDTH * (num_blocks * part // num_parts) for part in range(num_parts)] + [size]
    return [
        np.array((b, g, g * size + starts[part], starts[part + 1] - starts[part], part), np.int64)
        for b in range(batch)
        for g in range(num_groups)
        for part in range(num_parts)
    ]
