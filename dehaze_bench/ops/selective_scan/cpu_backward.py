"""Numba kernel of the selective scan, backward: states are recomputed chunk by chunk from the saved boundary states.

With g_t the gradient that reaches the state after step t, decays a_t = exp(delta_t A) and drive_t = delta_t u_t:
    g_t = a_{t+1} g_{t+1} + C_t dy_t          dC_t = sum_d h_t dy_t        dB_t = sum_d g_t drive_t
    r_t = g_t a_t h_{t-1}                     dA   = sum_t r_t delta_t     s_t  = sum_n g_t B_t
    ddelta_t = sum_n r_t A + u_t s_t          du_t = delta_t s_t + D dy_t
"""

from __future__ import annotations

import numpy as np
from numba import boolean, float32, int64, void

from dehaze_bench.ops.lanes import (
    add,
    compile_kernel,
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
    total,
)
from dehaze_bench.ops.selective_scan.cpu_forward import PREFETCH, grouped, matrix, rows, sigmoid, softplus

LN_2 = np.float32(0.6931471805599453)

cube = float32[:, :, ::1]
partial = float32[:, :, :, :, ::1]


@compile_kernel(
    void(
        int64[:, ::1], rows, rows, matrix, grouped, grouped, float32[::1], rows, float32[::1], int64[::1],
        grouped, boolean, boolean, int64, rows, cube,
        cube, cube, cube, partial, partial, matrix, cube, matrix, cube,
    )
)  # fmt: skip
def scan_backward(  # type: ignore[no-untyped-def]
    jobs, u_BLD, delta_BLD, A_ND, B_BLGN, C_BLGN, D_D, z_BLD, bias_D, order_L,
    states_BSND, has_z, use_softplus, chunk, dy_BLD, dlast_BND,
    du_BLD, ddelta_BLD, dA_BND, dB_PBLGN, dC_PBLGN, dD_BD, dz_BLD, dbias_BD, dinitial_BND,
):  # fmt: skip
    """Write every gradient; dB and dC are added to part P of the job, which its channel blocks share.

    A is already multiplied by log2(e), dA is with respect to A itself. `dz` is untouched without z.
    """
    num_steps = u_BLD.shape[1]
    num_states = A_ND.shape[0]
    A = scratch(num_states)
    g = scratch(num_states)
    dA = scratch(num_states)
    decays = scratch(chunk * num_states)
    states = scratch((chunk + 1) * num_states)
    deltas, slopes, inputs, outputs = scratch(chunk), scratch(chunk), scratch(chunk), scratch(chunk)
    zero, one = splat(0.0), splat(1.0)
    for job in range(jobs.shape[0]):
        b, group, d, count, part = jobs[job, 0], jobs[job, 1], jobs[job, 2], jobs[job, 3], jobs[job, 4]
        skip = load_first(D_D, (d,), count)
        bias = load_first(bias_D, (d,), count)
        dskip, dbias = zero, zero
        for n in range(num_states):
            store(A, (n, 0), load_first(A_ND, (n, d), count))
            store(g, (n, 0), load_first(dlast_BND, (b, n, d), count))
            store(dA, (n, 0), zero)
        for index in range((num_steps - 1) // chunk, -1, -1):
            start = index * chunk
            stop = min(start + chunk, num_steps)
            for n in range(num_states):
                store(states, (n, 0), load_first(states_BSND, (b, index, n, d), count))
            for t in range(start, stop):
                k = t - start
                token = order_L[t]
                ahead = order_L[min(t + PREFETCH, stop - 1)]
                prefetch_read(u_BLD, (b, ahead, d))
                prefetch_read(delta_BLD, (b, ahead, d))
                prefetch_line(B_BLGN, (b, ahead, group, 0))
                prefetch_line(C_BLGN, (b, ahead, group, 0))
                prefetch_read(dy_BLD, (b, ahead, d))
                u = load_first(u_BLD, (b, token, d), count)
                delta = add(load_first(delta_BLD, (b, token, d), count), bias)
                slope = one
                if use_softplus:
                    slope = sigmoid(delta)
                    delta = softplus(delta)
                drive = mul(delta, u)
                y = mul(skip, u)
                for n in range(num_states):
                    row = k * num_states + n
                    decay = exp2(mul(delta, load(A, (n, 0))))
                    kept = mul(decay, load(states, (row, 0)))
                    state = fma(drive, splat(B_BLGN[b, token, group, n]), kept)
                    store(decays, (row, 0), decay)
                    store(states, (row + num_states, 0), state)
                    y = fma(state, splat(C_BLGN[b, token, group, n]), y)
                store(inputs, (k, 0), u)
                store(deltas, (k, 0), delta)
                store(slopes, (k, 0), slope)
                store(outputs, (k, 0), y)
            for t in range(stop - 1, start - 1, -1):
                k = t - start
                token = order_L[t]
                ahead = order_L[max(t - PREFETCH, start)]
                prefetch_line(dB_PBLGN, (part, b, ahead, group, 0))
                prefetch_line(dC_PBLGN, (part, b, ahead, group, 0))
                prefetch_write(du_BLD, (b, ahead, d))
                prefetch_write(ddelta_BLD, (b, ahead, d))
                dy = load_first(dy_BLD, (b, token, d), count)
                if has_z:
                    z = load_first(z_BLD, (b, token, d), count)
                    gate = sigmoid(z)
                    bend = fma(mul(z, gate), sub(one, gate), gate)
                    store_first(dz_BLD, (b, token, d), mul(mul(dy, load(outputs, (k, 0))), bend), count)
                    dy = mul(dy, mul(z, gate))
                u = load(inputs, (k, 0))
                delta = load(deltas, (k, 0))
                drive = mul(delta, u)
                sum_rA, sum_gB = zero, zero
                for n in range(num_states):
                    row = k * num_states + n
                    decay = load(decays, (row, 0))
                    reach = fma(dy, splat(C_BLGN[b, token, group, n]), load(g, (n, 0)))
                    dC_PBLGN[part, b, token, group, n] += total(mul(dy, load(states, (row + num_states, 0))))
                    dB_PBLGN[part, b, token, group, n] += total(mul(reach, drive))
                    sum_gB = fma(reach, splat(B_BLGN[b, token, group, n]), sum_gB)
                    reach = mul(reach, decay)
                    store(g, (n, 0), reach)
                    r = mul(reach, load(states, (row, 0)))
                    store(dA, (n, 0), fma(r, delta, load(dA, (n, 0))))
                    sum_rA = fma(r, load(A, (n, 0)), sum_rA)
                ddelta = mul(fma(sum_rA, splat(LN_2), mul(u, sum_gB)), load(slopes, (k, 0)))
                dbias = add(dbias, ddelta)
                dskip = fma(dy, u, dskip)
                store_first(ddelta_BLD, (b, token, d), ddelta, count)
                store_first(du_BLD, (b, token, d), fma(delta, sum_gB, mul(skip, dy)), count)
        for n in range(num_states):
            store_first(dA_BND, (b, n, d), load(dA, (n, 0)), count)
            store_first(dinitial_BND, (b, n, d), load(g, (n, 0)), count)
        store_first(dD_BD, (b, d), dskip, count)
        store_first(dbias_BD, (b, d), dbias, count)
