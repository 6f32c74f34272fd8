"""The Numba twin of bi-WKV: arrays and jobs for `cpu_kernels`. Inside it computes in float64; memory is linear in L."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.ops.jobs import run_jobs

BLOCK = 48  # channels per job


def scan(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> Tensor:
    """Return y in float32; w and u are already divided by the number of tokens."""
    from dehaze_bench.ops.wkv.cpu_kernels import wkv_forward

    y_BLC = np.empty(k_BLC.shape, np.float32)
    arguments = (*_inputs(w_C, u_C, k_BLC, v_BLC, order_L), y_BLC)
    run_jobs(wkv_forward, _jobs(k_BLC), arguments, 64 * k_BLC.numel())
    return torch.from_numpy(y_BLC)


def scan_backward(
    dy_BLC: Tensor, w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w, u (float64), k and v (float32)."""
    from dehaze_bench.ops.wkv.cpu_kernels import wkv_backward

    batch, _, num_channels = k_BLC.shape
    dw_BC, du_BC = np.empty((batch, num_channels)), np.empty((batch, num_channels))
    dk_BLC, dv_BLC = np.empty(k_BLC.shape, np.float32), np.empty(k_BLC.shape, np.float32)
    arguments = (*_inputs(w_C, u_C, k_BLC, v_BLC, order_L), _array(dy_BLC), dw_BC, du_BC, dk_BLC, dv_BLC)
    run_jobs(wkv_backward, _jobs(k_BLC), arguments, 64 * k_BLC.numel())
    dw_C, du_C = (torch.from_numpy(x).sum(0) for x in (dw_BC, du_BC))
    return dw_C, du_C, torch.from_numpy(dk_BLC), torch.from_numpy(dv_BLC)


def _inputs(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> tuple[np.ndarray, ...]:
    w, u = (x.detach().double().contiguous().numpy() for x in (w_C, u_C))
    order = np.arange(k_BLC.shape[1]) if order_L is None else order_L.contiguous().numpy()
    return w, u, _array(k_BLC), _array(v_BLC), order


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to(torch.float32).contiguous().numpy()


def _jobs(k_BLC: Tensor) -> list[np.ndarray]:
    batch, _, num_channels = k_BLC.shape
    starts = range(0, num_channels, BLOCK)
    return [np.array([[b, c, min(c + BLOCK, num_channels)]], np.int64) for b in range(batch) for c in starts]
