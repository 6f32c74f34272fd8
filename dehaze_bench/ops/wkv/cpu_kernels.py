"""Numba kernels of bi-WKV for any range: two scans with sums kept as (value, logarithm of a common factor), in float64.

With P, Q the sums over one side (values, weights) and m the logarithm of their common factor, a step away from them is
    m' = max(m - w, k),  P' = P exp(m - w - m') + v exp(k - m'),  Q' = Q exp(m - w - m') + exp(k - m').
The derivative with respect to w needs R = sum of (distance - 1) * weight * value, whose step is that of P on R + P.
A job is (batch, first channel, end); its loops over channels are innermost, contiguous and free of branches and calls.
"""

from __future__ import annotations

import numpy as np
from numba import float32, float64, int64, njit, void

from dehaze_bench.ops.wkv.exponential import compile_kernel, exp

NOTHING = -1e30  # logarithm of the factor of an empty sum

vector = float64[::1]
cube = float32[:, :, ::1]


@njit(forceinline=True)
def larger(a, b):  # type: ignore[no-untyped-def]
    return a if a > b else b


@compile_kernel(void(int64[:, ::1], vector, vector, cube, cube, int64[::1], cube))
def wkv_forward(jobs, w_C, u_C, k_BLC, v_BLC, order_L, y_BLC):  # type: ignore[no-untyped-def]
    """Write y; w and u are already divided by the number of tokens."""
    num_tokens = k_BLC.shape[1]
    for job in range(jobs.shape[0]):
        b, begin, end = jobs[job, 0], jobs[job, 1], jobs[job, 2]
        width = end - begin
        w, u = w_C[begin:end], u_C[begin:end]
        future = np.empty((num_tokens, 3, width))
        state = np.zeros((3, width))
        state[2] = NOTHING
        for t in range(num_tokens - 1, -1, -1):
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            future[t] = state
            for c in range(width):
                top = larger(state[2, c] - w[c], k[c])
                fade, rise = exp(state[2, c] - w[c] - top), exp(k[c] - top)
                state[0, c] = state[0, c] * fade + v[c] * rise
                state[1, c] = state[1, c] * fade + rise
                state[2, c] = top
        state[:2] = 0.0
        state[2] = NOTHING
        for t in range(num_tokens):
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            kept = future[t]
            y = y_BLC[b, order_L[t], begin:end]
            for c in range(width):
                top = larger(larger(state[2, c], kept[2, c]), u[c] + k[c])
                before, after = exp(state[2, c] - top), exp(kept[2, c] - top)
                own = exp(u[c] + k[c] - top)
                den = state[1, c] * before + kept[1, c] * after + own
                y[c] = (state[0, c] * before + kept[0, c] * after + v[c] * own) / den
                top = larger(state[2, c] - w[c], k[c])
                fade, rise = exp(state[2, c] - w[c] - top), exp(k[c] - top)
                state[0, c] = state[0, c] * fade + v[c] * rise
                state[1, c] = state[1, c] * fade + rise
                state[2, c] = top


@compile_kernel(
    void(
        int64[:, ::1], vector, vector, cube, cube, int64[::1], cube, float64[:, ::1], float64[:, ::1], cube, cube
    )
)  # fmt: skip
def wkv_backward(  # type: ignore[no-untyped-def]
    jobs, w_C, u_C, k_BLC, v_BLC, order_L, dy_BLC, dw_BC, du_BC, dk_BLC, dv_BLC,
):  # fmt: skip
    """Write the gradients of w, u (per batch item), k and v.

    With D_t the denominator of token t, the adjoint of a pair is exp(-(|t - i| - 1) w + k_i) / D_t: again two scans,
    now over dy / D and dy y / D with the logarithm of 1 / D in the place of the key.
    """
    num_tokens = k_BLC.shape[1]
    for job in range(jobs.shape[0]):
        b, begin, end = jobs[job, 0], jobs[job, 1], jobs[job, 2]
        width = end - begin
        w, u = w_C[begin:end], u_C[begin:end]
        dw, du = dw_BC[b, begin:end], du_BC[b, begin:end]
        dw[:] = 0.0
        du[:] = 0.0
        future = np.empty((num_tokens, 5, width))
        state = np.zeros((5, width))  # P, Q, their R, and m
        adjoint = np.zeros((3, width))
        state[4] = NOTHING
        adjoint[2] = NOTHING
        for t in range(num_tokens - 1, -1, -1):
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            future[t] = state
            for c in range(width):
                top = larger(state[4, c] - w[c], k[c])
                fade, rise = exp(state[4, c] - w[c] - top), exp(k[c] - top)
                state[2, c] = (state[2, c] + state[0, c]) * fade
                state[3, c] = (state[3, c] + state[1, c]) * fade
                state[0, c] = state[0, c] * fade + v[c] * rise
                state[1, c] = state[1, c] * fade + rise
                state[4, c] = top
        state[:4] = 0.0
        state[4] = NOTHING
        for t in range(num_tokens):
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            dk, dv = dk_BLC[b, order_L[t], begin:end], dv_BLC[b, order_L[t], begin:end]
            dy = dy_BLC[b, order_L[t], begin:end]
            kept = future[t]
            for c in range(width):
                top = larger(larger(state[4, c], kept[4, c]), u[c] + k[c])
                before, after = exp(state[4, c] - top), exp(kept[4, c] - top)
                own = exp(u[c] + k[c] - top)
                part = 1.0 / (state[1, c] * before + kept[1, c] * after + own)
                share = dy[c] * part
                y = (state[0, c] * before + kept[0, c] * after + v[c] * own) * part
                slope_P = state[2, c] * before + kept[2, c] * after
                slope_Q = state[3, c] * before + kept[3, c] * after
                dw[c] -= share * (slope_P - y * slope_Q)
                kept[4, c] = share * own * (v[c] - y)
                du[c] += share * own * (v[c] - y)
                kept[0, c] = share
                kept[1, c] = share * y
                kept[2, c] = -top
                kept[3, c] = share * own
            for c in range(width):
                reach = exp(k[c] + adjoint[2, c])
                dv[c] = kept[3, c] + reach * adjoint[0, c]
                dk[c] = kept[4, c] + reach * (adjoint[0, c] * v[c] - adjoint[1, c])
                peak = larger(adjoint[2, c] - w[c], kept[2, c])
                fade, rise = exp(adjoint[2, c] - w[c] - peak), exp(kept[2, c] - peak)
                adjoint[0, c] = adjoint[0, c] * fade + kept[0, c] * rise
                adjoint[1, c] = adjoint[1, c] * fade + kept[1, c] * rise
                adjoint[2, c] = peak
            for c in range(width):
                top = larger(state[4, c] - w[c], k[c])
                fade, rise = exp(state[4, c] - w[c] - top), exp(k[c] - top)
                state[2, c] = (state[2, c] + state[0, c]) * fade
                state[3, c] = (state[3, c] + state[1, c]) * fade
                state[0, c] = state[0, c] * fade + v[c] * rise
                state[1, c] = state[1, c] * fade + rise
                state[4, c] = top
        adjoint[:2] = 0.0
        adjoint[2] = NOTHING
        for t in range(num_tokens - 1, -1, -1):
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            dk, dv = dk_BLC[b, order_L[t], begin:end], dv_BLC[b, order_L[t], begin:end]
            kept = future[t]
            for c in range(width):
                reach = exp(k[c] + adjoint[2, c])
                dv[c] += reach * adjoint[0, c]
                dk[c] += reach * (adjoint[0, c] * v[c] - adjoint[1, c])
                peak = larger(adjoint[2, c] - w[c], kept[2, c])
                fade, rise = exp(adjoint[2, c] - w[c] - peak), exp(kept[2, c] - peak)
                adjoint[0, c] = adjoint[0, c] * fade + kept[0, c] * rise
                adjoint[1, c] = adjoint[1, c] * fade + kept[1, c] * rise
                adjoint[2, c] = peak
