"""The Numba twin of bi-WKV: arrays and jobs for its kernels. Inside it computes in float64; memory is linear in L."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.ops.jobs import run_jobs

BLOCK = 48  # channels per job at most
BOUND = 500.0  # the largest spread of logarithms of weights that float64 holds, with room for gradients and lengths


def scan(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> Tensor:
    """Return y in float32; w and u are already divided by the number of tokens."""
    y_BLC = np.empty(k_BLC.shape, np.float32)
    w, u, k, v, order = _inputs(w_C, u_C, k_BLC, v_BLC, order_L)
    if (top := find_top(w, u, k)) is not None:
        from dehaze_bench.ops.wkv.cpu_bounded import bounded_forward

        run_jobs(bounded_forward, _jobs(k), (w, u, top, k, v, order, y_BLC), 64 * k.size)
    else:
        from dehaze_bench.ops.wkv.cpu_kernels import wkv_forward

        run_jobs(wkv_forward, _jobs(k), (w, u, k, v, order, y_BLC), 64 * k.size)
    return torch.from_numpy(y_BLC)


def scan_backward(
    dy_BLC: Tensor, w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w, u (float64), k and v (float32)."""
    batch, _, num_channels = k_BLC.shape
    dw_BC, du_BC = np.empty((batch, num_channels)), np.empty((batch, num_channels))
    dk_BLC, dv_BLC = np.empty(k_BLC.shape, np.float32), np.empty(k_BLC.shape, np.float32)
    w, u, k, v, order = _inputs(w_C, u_C, k_BLC, v_BLC, order_L)
    gradients = (_array(dy_BLC), dw_BC, du_BC, dk_BLC, dv_BLC)
    if (top := find_top(w, u, k)) is not None:
        from dehaze_bench.ops.wkv.cpu_bounded import bounded_backward

        run_jobs(bounded_backward, _jobs(k), (w, u, top, k, v, order, *gradients), 64 * k.size)
    else:
        from dehaze_bench.ops.wkv.cpu_kernels import wkv_backward

        run_jobs(wkv_backward, _jobs(k), (w, u, k, v, order, *gradients), 64 * k.size)
    dw_C, du_C = (torch.from_numpy(x).sum(0) for x in (dw_BC, du_BC))
    return dw_C, du_C, torch.from_numpy(dk_BLC), torch.from_numpy(dv_BLC)


def find_top(w_C: np.ndarray, u_C: np.ndarray, k_BLC: np.ndarray) -> np.ndarray | None:
    """Return the largest k of each channel; None where the logarithms of its weights spread over more than `BOUND`."""
    from dehaze_bench.ops.wkv.cpu_bounded import find_extremes

    batch, num_tokens, num_channels = k_BLC.shape
    low_BC, top_BC = np.empty((batch, num_channels), np.float32), np.empty((batch, num_channels), np.float32)
    run_jobs(find_extremes, _jobs(k_BLC), (k_BLC, low_BC, top_BC), 2 * k_BLC.size)
    spread_BC = np.subtract(top_BC, low_BC, dtype=np.float64) + np.abs(w_C) * num_tokens + np.abs(u_C)
    return top_BC.astype(np.float64) if bool((spread_BC < BOUND).all()) else None


def _inputs(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> tuple[np.ndarray, ...]:
    w, u = (x.detach().double().contiguous().numpy() for x in (w_C, u_C))
    order = np.arange(k_BLC.shape[1]) if order_L is None else order_L.contiguous().numpy()
    return w, u, _array(k_BLC), _array(v_BLC), order


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to(torch.float32).contiguous().numpy()


def _jobs(k_BLC: np.ndarray) -> list[np.ndarray]:
    batch, _, num_channels = k_BLC.shape
    starts = range(0, num_channels, BLOCK)
    return [np.array([[b, c, min(c + BLOCK, num_channels)]], np.int64) for b in range(batch) for c in starts]
