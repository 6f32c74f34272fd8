"""The Numba twin: prepares arrays and jobs for the kernels in `cpu_forward` and `cpu_backward`.

Shapes: B batch, L tokens, S chunks, H heads, P channels of a head, G groups, N states, U units of a head, J parts of a
sum. Data are float32 and may be slices of wider tensors: tokens are read where they are, in any order.

Memory beyond the results: one state per chunk, kept for the backward pass; there, at most `MAX_PARTS` partial copies of
the gradients of B, C and dt; and some kilobytes per thread. Results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.ops.jobs import run_jobs
from dehaze_bench.ops.ssd.reference import per_channel

MAX_PARTS = 8


def states_shape(
    batch: int, num_tokens: int, num_heads: int, num_channels: int, num_states: int, chunk: int
) -> tuple[int, int, int, int, int]:
    """The states before every chunk, of as many steps as are asked for or up to 15 more."""
    return batch, math.ceil(num_tokens / _round_chunk(chunk, num_tokens)), num_heads, num_states, num_channels


def scan(
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
    chunk: int,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (B, L, H, P), the last state (B, H, P, N) and, if asked, those before every chunk (B, S, H, N, P)."""
    from dehaze_bench.ops.ssd.cpu_forward import scan_forward

    batch, num_tokens, num_heads, num_channels = x_BLHP.shape
    num_groups, num_states = B_BLGN.shape[2:]
    shape = states_shape(batch, num_tokens, num_heads, num_channels, num_states, chunk)
    y_BLHP = np.empty(x_BLHP.shape, np.float32)
    last_BHNP = np.empty((batch, num_heads, num_states, num_channels), np.float32)
    states_BSHNP = np.empty(shape if save_states else (batch, 0, *shape[2:]), np.float32)
    initial_BHNP = np.zeros_like(last_BHNP) if initial_BHPN is None else _array(initial_BHPN.mT)
    inputs = _inputs(x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, D, z_BLHP, dt_bias_H, order_L)
    flags = (z_BLHP is not None, dt_softplus, *dt_limit, _round_chunk(chunk, num_tokens))
    num_units = num_heads // num_groups * _count_units(num_channels)
    jobs = _jobs(batch, num_groups, num_units, _share(batch * num_groups, num_units, torch.get_num_threads()))
    work = x_BLHP.numel() * num_states
    run_jobs(scan_forward, jobs, (*inputs, *flags, initial_BHNP, y_BLHP, last_BHNP, states_BSHNP), work)
    last_BHPN = torch.from_numpy(last_BHNP).mT.contiguous()
    return torch.from_numpy(y_BLHP), last_BHPN, torch.from_numpy(states_BSHNP)


def scan_backward(
    dy_BLHP: Tensor,
    dlast_BHPN: Tensor,
    states_BSHNP: Tensor,
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
    chunk: int,
) -> dict[str, Tensor]:
    """Return the gradients by name, as `reference.scan_backward` does; `states_BSHNP` are those of `scan`."""
    from dehaze_bench.ops.ssd.cpu_backward import scan_backward as kernel

    batch, num_tokens, num_heads, num_channels = x_BLHP.shape
    num_groups, num_states = B_BLGN.shape[2:]
    num_units = num_heads // num_groups * _count_units(num_channels)
    num_parts = min(num_units, MAX_PARTS, 2 * math.ceil(num_units / 6))  # whatever the number of threads
    jobs = _jobs(batch, num_groups, num_units, num_parts)
    per_unit = (batch, num_heads, _count_units(num_channels))
    dx_BLHP, dz_BLHP = (np.empty(v.shape if v is not None else (0,) * 4, np.float32) for v in (x_BLHP, z_BLHP))
    ddt_JBLH = np.zeros((num_parts, *dt_BLH.shape), np.float32)
    dA_BHU, dbias_BHU = np.empty(per_unit), np.empty(per_unit)
    dB_JBLGN, dC_JBLGN = (np.empty((num_parts, *B_BLGN.shape), np.float32) for _ in range(2))
    dD_BHP = np.empty((batch, num_heads, num_channels), np.float32)
    dinitial_BHPN = np.empty(dlast_BHPN.shape, np.float32)
    inputs = _inputs(x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, D, z_BLHP, dt_bias_H, order_L)
    flags = (z_BLHP is not None, dt_softplus, *dt_limit, _round_chunk(chunk, num_tokens))
    gradients = (_array(states_BSHNP), _rows(dy_BLHP), _array(dlast_BHPN))
    outputs = (dx_BLHP, ddt_JBLH, dA_BHU, dB_JBLGN, dC_JBLGN, dD_BHP, dz_BLHP, dbias_BHU, dinitial_BHPN)
    run_jobs(kernel, jobs, (*inputs, *flags, *gradients, *outputs), x_BLHP.numel() * num_states)
    return {
        "x": torch.from_numpy(dx_BLHP),
        "dt": _sum_parts(ddt_JBLH),
        "A": torch.from_numpy(dA_BHU.sum((0, 2))),
        "B": _sum_parts(dB_JBLGN),
        "C": _sum_parts(dC_JBLGN),
        "D": torch.from_numpy(dD_BHP.sum((0, 2) if D is not None and D.ndim == 1 else 0)),
        "z": torch.from_numpy(dz_BLHP),
        "dt_bias": torch.from_numpy(dbias_BHU.sum((0, 2))),
        "initial": torch.from_numpy(dinitial_BHPN),
    }


def _inputs(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D: Tensor | None,
    z_BLHP: Tensor | None,
    dt_bias_H: Tensor | None,
    order_L: Tensor | None,
) -> tuple[np.ndarray, ...]:
    """The arrays that both kernels begin with; absent ones become zeros or, for z, a stand-in that is not read."""
    x = _rows(x_BLHP)
    heads = x_BLHP.shape[2:]
    return (
        x,
        dt_BLH.detach().numpy(),
        _array(A_H),
        _rows(B_BLGN),
        _rows(C_BLGN),
        np.zeros(heads, np.float32) if D is None else _array(per_channel(D).expand(heads)),
        x if z_BLHP is None else _rows(z_BLHP),
        np.zeros(heads[:1], np.float32) if dt_bias_H is None else _array(dt_bias_H),
        np.arange(x_BLHP.shape[1]) if order_L is None else order_L.contiguous().numpy(),
    )


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def _rows(x: Tensor) -> np.ndarray:
    """A slice of a wider tensor is not copied as long as its last axis holds neighbours."""
    return (x if x.stride(-1) == 1 else x.contiguous()).detach().numpy()


def _sum_parts(x_JBL: np.ndarray) -> Tensor:
    for part in x_JBL[1:]:
        x_JBL[0] += part
    return torch.from_numpy(x_JBL[0])


def _round_chunk(chunk: int, num_tokens: int) -> int:
    """The kernels take the steps of a chunk by sixteens."""
    return 16 * math.ceil(min(chunk, num_tokens) / 16)


def _count_units(num_channels: int) -> int:
    """Sixteen channels of one head are a unit of work."""
    return math.ceil(num_channels / 16)


def _share(num_sequences: int, num_units: int, num_threads: int) -> int:
    """Return into how few parts the units of each sequence can be cut so that all threads have about as much to do."""
    for num_parts in range(1, num_units):
        num_jobs = num_sequences * num_parts
        if num_jobs % num_threads == 0 or num_jobs >= 4 * num_threads:
            return num_parts
    return num_units


def _jobs(batch: int, num_groups: int, num_units: int, num_parts: int) -> list[np.ndarray]:
    """Cut the units of each group into jobs (batch, group, first unit, number of units, part).

    A job copies B and C once for all its units. Jobs of one part never meet in a gradient of B, C or dt.
    """
    starts = [num_units * part // num_parts for part in range(num_parts + 1)]
    return [
        np.array((b, g, starts[part], starts[part + 1] - starts[part], part), np.int64)
        for b in range(batch)
        for g in range(num_groups)
        for part in range(num_parts)
    ]
