"""Numba kernels of bi-WKV for weights that float64 holds side by side: sums without running maxima.

With E_i = exp(k_i - max k) and a = exp(-w), a step of the sums over one side is P' = a P + E v, Q' = a Q + E, and that
of their derivative with respect to -w is R' = a (R + P). `cpu.py` decides whether the range of k, w and u allows it;
`cpu_kernels` takes the rest. Sums over the tokens to come are kept at every `CHUNK`th token and rebuilt from there.
Scratch rows have a constant width: then the compiler sees that they do not overlap, and vectorises.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, float64, int64, void

from dehaze_bench.ops.lanes import prefetch_read, prefetch_write
from dehaze_bench.ops.wkv.cpu import BLOCK
from dehaze_bench.ops.wkv.exponential import compile_kernel, exp_bounded

CHUNK = 32
AHEAD = 8  # tokens between asking for memory and using it, where the chunk does not set it

vector = float64[::1]
matrix = float64[:, ::1]
cube = float32[:, :, ::1]


@compile_kernel(void(int64[:, ::1], cube, float32[:, ::1], float32[:, ::1]))
def find_extremes(jobs, k_BLC, low_BC, top_BC):  # type: ignore[no-untyped-def]
    """Write the smallest and the largest k of each channel, passing over NaN."""
    for job in range(jobs.shape[0]):
        b, begin, end = jobs[job, 0], jobs[job, 1], jobs[job, 2]
        low, top = low_BC[b, begin:end], top_BC[b, begin:end]
        low[:], top[:] = np.inf, -np.inf
        for t in range(k_BLC.shape[1]):
            k = k_BLC[b, t, begin:end]
            for c in range(end - begin):
                low[c] = k[c] if k[c] < low[c] else low[c]
                top[c] = k[c] if k[c] > top[c] else top[c]


@compile_kernel(void(int64[:, ::1], vector, vector, matrix, cube, cube, int64[::1], cube))
def bounded_forward(jobs, w_C, u_C, top_BC, k_BLC, v_BLC, order_L, y_BLC):  # type: ignore[no-untyped-def]
    """Write y; w and u are already divided by the number of tokens, top is the largest k of each channel."""
    num_tokens = k_BLC.shape[1]
    num_chunks = (num_tokens + CHUNK - 1) // CHUNK
    for job in range(jobs.shape[0]):
        b, begin, end = jobs[job, 0], jobs[job, 1], jobs[job, 2]
        width = end - begin
        top = top_BC[b, begin:end]
        a, bonus = np.empty(BLOCK), np.empty(BLOCK)
        for c in range(width):
            a[c], bonus[c] = math.exp(-w_C[begin + c]), math.exp(u_C[begin + c])
        saved = np.empty((num_chunks, 2, BLOCK))  # P and Q of the tokens after the chunk
        state = np.zeros((2, BLOCK))
        for t in range(num_tokens - 1, -1, -1):
            ahead = order_L[max(t - AHEAD, 0)]
            prefetch_read(k_BLC, (b, ahead, begin))
            prefetch_read(v_BLC, (b, ahead, begin))
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            if (t + 1) % CHUNK == 0 or t + 1 == num_tokens:
                saved[t // CHUNK] = state
            for c in range(width):
                weight = exp_bounded(k[c] - top[c])
                state[0, c] = state[0, c] * a[c] + weight * v[c]
                state[1, c] = state[1, c] * a[c] + weight
        kept = np.empty((CHUNK, 3, BLOCK))  # P, Q and E
        state[:] = 0.0
        for chunk in range(num_chunks):
            first, last = chunk * CHUNK, min(chunk * CHUNK + CHUNK, num_tokens)
            future = saved[chunk]
            for t in range(last - 1, first - 1, -1):
                ahead = order_L[min(t + CHUNK, num_tokens - 1)]
                prefetch_read(k_BLC, (b, ahead, begin))
                prefetch_read(v_BLC, (b, ahead, begin))
                prefetch_write(y_BLC, (b, order_L[t], begin))
                k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
                row = kept[t - first]
                for c in range(width):
                    weight = exp_bounded(k[c] - top[c])
                    row[0, c], row[1, c], row[2, c] = future[0, c], future[1, c], weight
                    future[0, c] = future[0, c] * a[c] + weight * v[c]
                    future[1, c] = future[1, c] * a[c] + weight
            for t in range(first, last):
                v, y = v_BLC[b, order_L[t], begin:end], y_BLC[b, order_L[t], begin:end]
                row = kept[t - first]
                for c in range(width):
                    weight = row[2, c]
                    own = bonus[c] * weight
                    y[c] = (state[0, c] + row[0, c] + own * v[c]) / (state[1, c] + row[1, c] + own)
                    state[0, c] = state[0, c] * a[c] + weight * v[c]
                    state[1, c] = state[1, c] * a[c] + weight


@compile_kernel(
    void(
        int64[:, ::1], vector, vector, matrix, cube, cube, int64[::1], cube, matrix, matrix, cube, cube
    )
)  # fmt: skip
def bounded_backward(  # type: ignore[no-untyped-def]
    jobs, w_C, u_C, top_BC, k_BLC, v_BLC, order_L, dy_BLC, dw_BC, du_BC, dk_BLC, dv_BLC,
):  # fmt: skip
    """Write the gradients of w, u (per batch item), k and v.

    With D_t the denominator of token t, the adjoints are again sums with the factor a per step: of dy / D and dy y / D.
    """
    num_tokens = k_BLC.shape[1]
    num_chunks = (num_tokens + CHUNK - 1) // CHUNK
    for job in range(jobs.shape[0]):
        b, begin, end = jobs[job, 0], jobs[job, 1], jobs[job, 2]
        width = end - begin
        top = top_BC[b, begin:end]
        dw, du = dw_BC[b, begin:end], du_BC[b, begin:end]
        dw[:] = 0.0
        du[:] = 0.0
        a, bonus = np.empty(BLOCK), np.empty(BLOCK)
        for c in range(width):
            a[c], bonus[c] = math.exp(-w_C[begin + c]), math.exp(u_C[begin + c])
        saved = np.empty((num_chunks, 4, BLOCK))  # P, Q and their R
        state = np.zeros((4, BLOCK))
        for t in range(num_tokens - 1, -1, -1):
            ahead = order_L[max(t - AHEAD, 0)]
            prefetch_read(k_BLC, (b, ahead, begin))
            prefetch_read(v_BLC, (b, ahead, begin))
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            if (t + 1) % CHUNK == 0 or t + 1 == num_tokens:
                saved[t // CHUNK] = state
            for c in range(width):
                weight = exp_bounded(k[c] - top[c])
                state[2, c] = (state[2, c] + state[0, c]) * a[c]
                state[3, c] = (state[3, c] + state[1, c]) * a[c]
                state[0, c] = state[0, c] * a[c] + weight * v[c]
                state[1, c] = state[1, c] * a[c] + weight
        shares = np.empty((num_tokens, 2, BLOCK))  # dy / D and dy y / D
        kept = np.empty((CHUNK, 5, BLOCK))
        adjoint = np.zeros((2, BLOCK))
        state[:] = 0.0
        for chunk in range(num_chunks):
            first, last = chunk * CHUNK, min(chunk * CHUNK + CHUNK, num_tokens)
            future = saved[chunk]
            for t in range(last - 1, first - 1, -1):
                ahead = order_L[min(t + CHUNK, num_tokens - 1)]
                prefetch_read(k_BLC, (b, ahead, begin))
                prefetch_read(v_BLC, (b, ahead, begin))
                prefetch_read(dy_BLC, (b, order_L[t], begin))
                prefetch_write(dk_BLC, (b, order_L[t], begin))
                prefetch_write(dv_BLC, (b, order_L[t], begin))
                k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
                row = kept[t - first]
                for c in range(width):
                    weight = exp_bounded(k[c] - top[c])
                    row[0, c], row[1, c], row[4, c] = future[0, c], future[1, c], weight
                    row[2, c], row[3, c] = future[2, c], future[3, c]
                    future[2, c] = (future[2, c] + future[0, c]) * a[c]
                    future[3, c] = (future[3, c] + future[1, c]) * a[c]
                    future[0, c] = future[0, c] * a[c] + weight * v[c]
                    future[1, c] = future[1, c] * a[c] + weight
            for t in range(first, last):
                v, dy = v_BLC[b, order_L[t], begin:end], dy_BLC[b, order_L[t], begin:end]
                dk, dv = dk_BLC[b, order_L[t], begin:end], dv_BLC[b, order_L[t], begin:end]
                row, share = kept[t - first], shares[t]
                for c in range(width):
                    weight = row[4, c]
                    own = bonus[c] * weight
                    part = 1.0 / (state[1, c] + row[1, c] + own)
                    y = (state[0, c] + row[0, c] + own * v[c]) * part
                    s = dy[c] * part
                    own *= s
                    dw[c] -= s * (state[2, c] + row[2, c] - y * (state[3, c] + row[3, c]))
                    du[c] += own * (v[c] - y)
                    share[0, c], share[1, c] = s, s * y
                    dv[c] = own + weight * adjoint[0, c]
                    dk[c] = own * (v[c] - y) + weight * (adjoint[0, c] * v[c] - adjoint[1, c])
                    adjoint[0, c] = adjoint[0, c] * a[c] + s
                    adjoint[1, c] = adjoint[1, c] * a[c] + s * y
                    state[2, c] = (state[2, c] + state[0, c]) * a[c]
                    state[3, c] = (state[3, c] + state[1, c]) * a[c]
                    state[0, c] = state[0, c] * a[c] + weight * v[c]
                    state[1, c] = state[1, c] * a[c] + weight
        adjoint[:] = 0.0
        for t in range(num_tokens - 1, -1, -1):
            ahead = order_L[max(t - AHEAD, 0)]
            prefetch_read(k_BLC, (b, ahead, begin))
            prefetch_read(v_BLC, (b, ahead, begin))
            k, v = k_BLC[b, order_L[t], begin:end], v_BLC[b, order_L[t], begin:end]
            dk, dv = dk_BLC[b, order_L[t], begin:end], dv_BLC[b, order_L[t], begin:end]
            prefetch_write(dk_BLC, (b, ahead, begin))
            prefetch_write(dv_BLC, (b, ahead, begin))
            share = shares[t]
            for c in range(width):
                weight = exp_bounded(k[c] - top[c])
                dv[c] += weight * adjoint[0, c]
                dk[c] += weight * (adjoint[0, c] * v[c] - adjoint[1, c])
                adjoint[0, c] = adjoint[0, c] * a[c] + share[0, c]
                adjoint[1, c] = adjoint[1, c] * a[c] + share[1, c]
