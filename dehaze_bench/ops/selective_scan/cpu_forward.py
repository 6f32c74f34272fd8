"""Numba kernel of the selective scan, forward: sixteen channels at a time, tokens in any order.

A job is (batch, group, first channel, number of channels <= 16). Its state is N rows of sixteen lanes and stays in the
first-level cache; a step reads one row of u, delta, B, C (and z) at token order[t] and writes one row of y there.
"""

from __future__ import annotations

import numpy as np
from numba import boolean, float32, int64, njit, void

from dehaze_bench.ops.lanes import (
    add,
    compile_kernel,
    div,
    exp2,
    fma,
    load,
    load_first,
    mul,
    prefetch_line,
    prefetch_read,
    prefetch_write,
    scratch,
    splat,
    store,
    store_first,
    sub,
    where_less,
)

LOG2_E = np.float32(1.4426950408889634)
PREFETCH = 4  # steps ahead; only matters for orders that jump

matrix = float32[:, ::1]
rows = float32[:, :, :]  # strided: a slice of a wider tensor is read in place
grouped = float32[:, :, :, ::1]


@njit(forceinline=True)
def sigmoid(x):  # type: ignore[no-untyped-def]
    one = splat(1.0)
    return div(one, add(one, exp2(mul(x, splat(-LOG2_E)))))


@njit(forceinline=True)
def softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + exp(x)), x itself above 20; log1p(e) = 2 artanh(e / (2 + e)) keeps the relative accuracy of small e."""
    zero = splat(0.0)
    magnitude = where_less(x, zero, x, sub(zero, x))
    e = exp2(mul(magnitude, splat(LOG2_E)))
    s = div(e, add(e, splat(2.0)))
    q = mul(s, s)
    series = splat(2.0 / 15.0)
    for odd in (13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        series = fma(series, q, splat(2.0 / odd))
    soft = fma(series, s, where_less(zero, x, x, zero))
    return where_less(splat(20.0), x, x, soft)


@compile_kernel(
    void(
        int64[:, ::1], rows, rows, matrix, grouped, grouped, float32[::1], rows, float32[::1], int64[::1],
        float32[:, :, ::1], boolean, boolean, int64, float32[:, :, ::1], float32[:, :, ::1], float32[:, :, :, ::1],
    )
)  # fmt: skip
def scan_forward(  # type: ignore[no-untyped-def]
    jobs, u_BLD, delta_BLD, A_ND, B_BLGN, C_BLGN, D_D, z_BLD, bias_D, order_L,
    initial_BND, has_z, use_softplus, chunk, y_BLD, last_BND, states_BSND,
):  # fmt: skip
    """Write y, the last state and (where states has room) the state before every `chunk` steps.

    A is already multiplied by log2(e). Channel vectors may be padded: only lanes of the job are used.
    """
    num_steps = u_BLD.shape[1]
    num_states = A_ND.shape[0]
    A = scratch(num_states)
    h = scratch(num_states)
    for job in range(jobs.shape[0]):
        b, g, d, count = jobs[job, 0], jobs[job, 1], jobs[job, 2], jobs[job, 3]
        skip = load_first(D_D, (d,), count)
        bias = load_first(bias_D, (d,), count)
        for n in range(num_states):
            store(A, (n, 0), load_first(A_ND, (n, d), count))
            store(h, (n, 0), load_first(initial_BND, (b, n, d), count))
        for t in range(num_steps):
            token = order_L[t]
            ahead = order_L[min(t + PREFETCH, num_steps - 1)]
            prefetch_read(u_BLD, (b, ahead, d))
            prefetch_read(delta_BLD, (b, ahead, d))
            prefetch_line(B_BLGN, (b, ahead, g, 0))
            prefetch_line(C_BLGN, (b, ahead, g, 0))
            prefetch_write(y_BLD, (b, ahead, d))
            if states_BSND.shape[1] > 0 and t % chunk == 0:
                for n in range(num_states):
                    store_first(states_BSND, (b, t // chunk, n, d), load(h, (n, 0)), count)
            u = load_first(u_BLD, (b, token, d), count)
            delta = add(load_first(delta_BLD, (b, token, d), count), bias)
            if use_softplus:
                delta = softplus(delta)
            drive = mul(delta, u)
            y = mul(skip, u)
            for n in range(num_states):
                decay = exp2(mul(delta, load(A, (n, 0))))
                state = fma(decay, load(h, (n, 0)), mul(drive, splat(B_BLGN[b, token, g, n])))
                store(h, (n, 0), state)
                y = fma(state, splat(C_BLGN[b, token, g, n]), y)
            if has_z:
                z = load_first(z_BLD, (b, token, d), count)
                y = mul(y, mul(z, sigmoid(z)))
            store_first(y_BLD, (b, token, d), y, count)
        for n in range(num_states):
            store_first(last_BND, (b, n, d), load(h, (n, 0)), count)
