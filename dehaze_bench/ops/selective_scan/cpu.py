"""The Numba twin: prepares arrays and jobs for the kernels in `cpu_forward` and `cpu_backward`.

Memory beyond the results: one state per `CHUNK` tokens, kept for the backward pass, and there at most `MAX_PARTS`
partial copies of the gradients of B and C.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.ops.jobs import run_jobs

CHUNK = 64
MAX_PARTS = 8
LOG2_E = math.log2(math.e)


def scan(
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
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (B, L, D), the last state (B, D, N) and the states before every `CHUNK` tokens (B, L/CHUNK, N, D)."""
    from dehaze_bench.ops.selective_scan.cpu_forward import scan_forward

    batch, num_steps, num_channels = u_BLD.shape
    num_states = A_DN.shape[1]
    y_BLD = np.empty(u_BLD.shape, np.float32)
    last_BND = np.empty((batch, num_states, num_channels), np.float32)
    num_saved = math.ceil(num_steps / CHUNK) if save_states else 0
    states_BSND = np.empty((batch, num_saved, num_states, num_channels), np.float32)
    initial_BND = np.zeros_like(last_BND) if initial_BDN is None else _array(initial_BDN.mT)
    inputs = _inputs(u_BLD, delta_BLD, A_DN, B_BLGN, C_BLGN, D_D, z_BLD, delta_bias_D, order_L)
    flags = (z_BLD is not None, delta_softplus, CHUNK)
    jobs = _jobs(batch, B_BLGN.shape[2], num_channels)
    outputs = (y_BLD, last_BND, states_BSND)
    run_jobs(scan_forward, jobs, (*inputs, initial_BND, *flags, *outputs), u_BLD.numel() * num_states)
    return torch.from_numpy(y_BLD), torch.from_numpy(last_BND).mT.contiguous(), torch.from_numpy(states_BSND)


def scan_backward(
    dy_BLD: Tensor,
    dlast_BDN: Tensor,
    states_BSND: Tensor,
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
) -> dict[str, Tensor]:
    """Return the gradients by name, as `reference.scan_backward` does."""
    from dehaze_bench.ops.selective_scan.cpu_backward import scan_backward as kernel

    batch, num_steps, num_channels = u_BLD.shape
    num_groups, num_states = B_BLGN.shape[2:]
    jobs = _jobs(batch, num_groups, num_channels)
    num_parts = 1 + max(int(job[0, 4]) for job in jobs)
    du_BLD, ddelta_BLD = np.empty(u_BLD.shape, np.float32), np.empty(u_BLD.shape, np.float32)
    dz_BLD = np.empty(u_BLD.shape if z_BLD is not None else (0, 0, 0), np.float32)
    dA_BND = np.empty((batch, num_states, num_channels), np.float32)
    dinitial_BND = np.empty_like(dA_BND)
    dD_BD, dbias_BD = np.empty((batch, num_channels), np.float32), np.empty((batch, num_channels), np.float32)
    dB_PBLGN = np.zeros((num_parts, batch, num_steps, num_groups, num_states), np.float32)
    dC_PBLGN = np.zeros(dB_PBLGN.shape, np.float32)  # unlike zeros_like, asks the system for zeroed pages
    inputs = _inputs(u_BLD, delta_BLD, A_DN, B_BLGN, C_BLGN, D_D, z_BLD, delta_bias_D, order_L)
    flags = (z_BLD is not None, delta_softplus, CHUNK)
    gradients = (_rows(dy_BLD), _array(dlast_BDN.mT))
    outputs = (du_BLD, ddelta_BLD, dA_BND, dB_PBLGN, dC_PBLGN, dD_BD, dz_BLD, dbias_BD, dinitial_BND)
    arguments = (*inputs, _array(states_BSND), *flags, *gradients, *outputs)
    run_jobs(kernel, jobs, arguments, u_BLD.numel() * num_states)
    return {
        "u": torch.from_numpy(du_BLD),
        "delta": torch.from_numpy(ddelta_BLD),
        "A": torch.from_numpy(dA_BND.sum(0)).mT.contiguous(),
        "B": _sum_parts(dB_PBLGN),
        "C": _sum_parts(dC_PBLGN),
        "D": torch.from_numpy(dD_BD.sum(0)),
        "z": torch.from_numpy(dz_BLD),
        "delta_bias": torch.from_numpy(dbias_BD.sum(0)),
        "initial": torch.from_numpy(dinitial_BND).mT.contiguous(),
    }


def _inputs(
    u_BLD: Tensor,
    delta_BLD: Tensor,
    A_DN: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D_D: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_D: Tensor | None,
    order_L: Tensor | None,
) -> tuple[np.ndarray, ...]:
    """The arrays that both kernels begin with; absent ones become zeros or, for z, a stand-in that is not read."""
    num_steps, num_channels = u_BLD.shape[1:]
    nothing = np.zeros(num_channels, np.float32)
    u = _rows(u_BLD)
    return (
        u,
        _rows(delta_BLD),
        _array((A_DN.detach().float() * LOG2_E).mT),
        _array(B_BLGN),
        _array(C_BLGN),
        nothing if D_D is None else _array(D_D),
        u if z_BLD is None else _rows(z_BLD),
        nothing if delta_bias_D is None else _array(delta_bias_D),
        np.arange(num_steps) if order_L is None else order_L.contiguous().numpy(),
    )


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to(torch.float32).contiguous().numpy()


def _rows(x_BLD: Tensor) -> np.ndarray:
    """A slice of a wider tensor is not copied as long as its channels are neighbours."""
    x_BLD = x_BLD.detach().to(torch.float32)
    return (x_BLD if x_BLD.stride(-1) == 1 else x_BLD.contiguous()).numpy()


def _sum_parts(x_PBLGN: np.ndarray) -> Tensor:
    return torch.from_numpy(x_PBLGN[0] if len(x_PBLGN) == 1 else x_PBLGN.sum(0))


def _jobs(batch: int, num_groups: int, num_channels: int) -> list[np.ndarray]:
    """Cut the channels into blocks (batch, group, first channel, count, part); one array per thread-sized task.

    Blocks of one task follow each other, so they may add to the same part of a gradient. The cut does not depend on the
    number of threads, so neither does the result.
    """
    from dehaze_bench.ops.lanes import WIDTH

    size = num_channels // num_groups
    starts = range(0, size, WIDTH)
    num_parts = min(len(starts), MAX_PARTS)
    tasks = []
    for b in range(batch):
        for g in range(num_groups):
            for part in range(num_parts):
                blocks = [(b, g, g * size + s, min(WIDTH, size - s), part) for s in starts[part::num_parts]]
                tasks.append(np.array(blocks, np.int64))
    return tasks
