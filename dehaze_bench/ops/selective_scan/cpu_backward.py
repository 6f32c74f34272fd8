"""Numba kernel of the selective scan, backward: states are recomputed chunk by chunk from the saved boundary states.

With g_t the gradient that reaches the state after step t, decays a_t = exp(delta_t A) and drive_t = delta_t u_t:
    g_t = a_{t+1} g_{t+1} + C_t dy_t          dC_t = sum_d h_t dy_t        dB_t = sum_d g_t drive_t
    r_t = g_t a_t h_{t-1}                     dA   = sum_t r_t delta_t     s_t  = sum_n g_t B_t
    ddelta_t = sum_n r_t A + u_t s_t          du_t = delta_t s_t + D dy_t

Loops are nested as in `cpu_forward`. One state's recurrence runs forth and back over the chunk before the next begins,
so that a chunk of one state, not of all, has to stay in the first-level cache.
"""

from __future__ import annotations

import numpy as np
from numba import boolean, float32, int64, njit, void

from dehaze_bench.ops.lane_functions import exp2, exp2_near, sigmoid, soften, softplus_slope
from dehaze_bench.ops.lanes import (
    OPTIONS,
    WIDTH,
    add,
    all_near,
    compile_kernel,
    farther,
    fma,
    get,
    keep_apart,
    load_first,
    mul,
    prefetch_line,
    put,
    put_first,
    row_sums,
    scratch,
    splat,
    splat_at,
    store_first,
    sub,
)
from dehaze_bench.ops.selective_scan import cpu_forward
from dehaze_bench.ops.selective_scan.cpu_forward import cube, gather_row, matrix, rows_3d, rows_4d, rows_5d, states_type

LN_2 = np.float32(0.6931471805599453)

rows_4d_out = float32[:, :, :, ::1]
partial = float32[:, :, :, :, :, ::1]

# Rows of scratch memory that a step has: what the loops over states touch, and the rest. GAIN is the sum of g B over
# states, PULL that of r A, STATE the state before the step, BEND dy times the derivative of silu.
DELTA, DRIVE, GRAD, DECAY, STATE, GAIN, PULL, NUM_FIELDS = 0, 1, 2, 3, 4, 5, 6, 7
RAW, SOFT, EXP, INPUT, OUTPUT, BEND, NUM_OTHERS = 0, 1, 2, 3, 4, 5, 6


@njit(**OPTIONS)
def retrace(  # type: ignore[no-untyped-def]
    A, dA, g, h, first, num_states, steps, others, products, rows_B, rows_C, sums_B, sums_C, num_columns, num_tiles,
    length, near, keeps_outputs, u_BLD, delta_BLKD, dy_BLKD, du_BLD, ddelta_BLKD, ahead, b, k, out, d,
):  # fmt: skip
    """Take each state forth from h and its gradient back from g, through `length` steps, a multiple of `WIDTH`.

    Adds C h to the outputs if asked to, g B to the gains, r A to the pulls, over the lanes to dB and dC, and to dA.
    Meanwhile it asks for what the tokens ahead will need.
    """
    keep_apart()
    for n in range(num_states):
        for t in range(len(ahead) * n // num_states, len(ahead) * (n + 1) // num_states):
            token = max(ahead[t], 0)
            prefetch_line(u_BLD, (b, token, d))
            prefetch_line(delta_BLKD, (b, token, k, d))
            prefetch_line(dy_BLKD, (b, token, out, d))
            prefetch_line(du_BLD, (b, token, d))
            prefetch_line(ddelta_BLKD, (b, token, k, d))
        a = get(A, first + n)
        if near:
            for t in range(length):
                put(steps, t * NUM_FIELDS + DECAY, exp2_near(mul(get(steps, t * NUM_FIELDS + DELTA), a)))
        else:
            for t in range(length):
                put(steps, t * NUM_FIELDS + DECAY, exp2(mul(get(steps, t * NUM_FIELDS + DELTA), a)))
        state = get(h, n)
        for tile in range(length // WIDTH):
            for i in range(WIDTH):
                t = tile * WIDTH + i
                row = t * NUM_FIELDS
                put(steps, row + STATE, state)
                drive = mul(get(steps, row + DRIVE), splat_at(rows_B, t * num_columns + n))
                state = fma(get(steps, row + DECAY), state, drive)
                put(products, i, mul(state, get(steps, row + GRAD)))
            put(sums_C, n * num_tiles + tile, add(get(sums_C, n * num_tiles + tile), row_sums(products, 0)))
        put(steps, length * NUM_FIELDS + STATE, state)
        if keeps_outputs:
            for t in range(length):
                row = t * NUM_OTHERS + OUTPUT
                state = get(steps, (t + 1) * NUM_FIELDS + STATE)
                put(others, row, fma(state, splat_at(rows_C, t * num_columns + n), get(others, row)))
        reach, total = get(g, first + n), splat(0.0)
        for tile in range(length // WIDTH - 1, -1, -1):
            for i in range(WIDTH):
                t = tile * WIDTH + WIDTH - 1 - i
                row, column = t * NUM_FIELDS, t * num_columns + n
                reach = fma(get(steps, row + GRAD), splat_at(rows_C, column), reach)
                put(products, WIDTH - 1 - i, mul(reach, get(steps, row + DRIVE)))
                put(steps, row + GAIN, fma(reach, splat_at(rows_B, column), get(steps, row + GAIN)))
                reach = mul(reach, get(steps, row + DECAY))
                r = mul(reach, get(steps, row + STATE))
                total = fma(r, get(steps, row + DELTA), total)
                put(steps, row + PULL, fma(r, a, get(steps, row + PULL)))
            put(sums_B, n * num_tiles + tile, add(get(sums_B, n * num_tiles + tile), row_sums(products, 0)))
        put(g, first + n, reach)
        put(dA, first + n, add(get(dA, first + n), total))


@njit(forceinline=True)
def scatter_row(target, sums, t, chunk, num_states, adds):  # type: ignore[no-untyped-def]
    """Write or add what the sums hold for step t to the states' row of its token."""
    if adds:
        for n in range(num_states):
            target[n] += sums[n * chunk + t]
    else:
        for n in range(num_states):
            target[n] = sums[n * chunk + t]


@compile_kernel(
    void(
        int64[::1], rows_3d, rows_4d, cube, rows_5d, rows_5d, matrix, rows_3d, matrix, int64[:, ::1],
        states_type, boolean[::1], boolean, boolean, boolean, int64, rows_4d, rows_4d_out,
        cube, rows_4d_out, rows_4d_out, partial, partial, cube, cube, cube, rows_4d_out,
    ),
    cpu_forward.__file__,
)  # fmt: skip
def scan_backward(  # type: ignore[no-untyped-def]
    job, u_BLD, delta_BLKD, A_KND, B_BLKGN, C_BLKGN, D_KD, z_BLD, bias_KD, index_KS,
    states_BKSND, whole_K, has_z, use_softplus, merged, chunk, dy_BLKD, dlast_BKND,
    du_BLD, ddelta_BLKD, dA_BKND, dB_PBLKGN, dC_PBLKGN, dD_BKD, dz_BLD, dbias_BKD, dinitial_BKND,
):  # fmt: skip
    """Write every gradient, those of B and C into the job's part of the sum.

    A is already multiplied by log2(e), dA is with respect to A itself. `dz` is untouched without z. What is written at
    tokens is added where a route is not whole or, for u and z, not the first.
    """
    b, g, first, size, part = job[0], job[1], job[2], job[3], job[4]
    num_blocks = (size + WIDTH - 1) // WIDTH
    num_routes, num_states = A_KND.shape[0], A_KND.shape[1]
    num_steps = index_KS.shape[1]
    num_rows = (num_states + WIDTH - 1) // WIDTH
    A, extent = scratch(num_blocks * num_states), scratch(num_blocks)
    reach, dA = scratch(num_blocks * num_states), scratch(num_blocks * num_states)
    h, dskip, dbias = scratch(num_states), scratch(num_blocks), scratch(num_blocks)
    rows_B, rows_C = scratch(chunk * num_rows), scratch(chunk * num_rows)
    num_tiles = chunk // WIDTH
    sums_B, sums_C = scratch(num_states * num_tiles), scratch(num_states * num_tiles)
    steps, others, products = scratch((chunk + 1) * NUM_FIELDS), scratch(chunk * NUM_OTHERS), scratch(WIDTH)
    zero, one = splat(0.0), splat(1.0)
    for k in range(num_routes):
        tokens = index_KS[k if index_KS.shape[0] > 1 else 0]
        out = 0 if merged else k
        adds = not whole_K[k]
        adds_shared = adds or k > 0
        for block in range(num_blocks):
            d, count = first + block * WIDTH, min(WIDTH, size - block * WIDTH)
            largest = zero
            for n in range(num_states):
                row = block * num_states + n
                a = load_first(A_KND, (k, n, d), count)
                largest = farther(largest, a)
                put(A, row, a)
                put(reach, row, load_first(dlast_BKND, (b, k, n, d), count))
                put(dA, row, zero)
            put(extent, block, largest)
            put(dskip, block, zero)
            put(dbias, block, zero)
        for index in range((num_steps - 1) // chunk, -1, -1):
            here = tokens[index * chunk : index * chunk + chunk]
            ahead = tokens[max(index - 1, 0) * chunk : index * chunk]
            length = (len(here) + WIDTH - 1) // WIDTH * WIDTH  # steps behind the last change nothing
            for t in range(length):
                token = here[t] if t < len(here) else -1
                gather_row(rows_B, t * num_rows, B_BLKGN, b, token, k, g, num_states)
                gather_row(rows_C, t * num_rows, C_BLKGN, b, token, k, g, num_states)
            sums_B[:] = 0
            sums_C[:] = 0
            for t in range(len(ahead)):
                prefetch_line(B_BLKGN, (b, max(ahead[t], 0), k, g, 0))
                prefetch_line(C_BLKGN, (b, max(ahead[t], 0), k, g, 0))
            for t in range(len(here)):
                prefetch_line(dB_PBLKGN, (part, b, max(here[t], 0), k, g, 0))
                prefetch_line(dC_PBLKGN, (part, b, max(here[t], 0), k, g, 0))
            for block in range(num_blocks):
                d, count = first + block * WIDTH, min(WIDTH, size - block * WIDTH)
                skip, bias = load_first(D_KD, (k, d), count), load_first(bias_KD, (k, d), count)
                for n in range(num_states):
                    put(h, n, load_first(states_BKSND, (b, k, index, n, d), count))
                for t in range(length):
                    u, raw, dy = zero, zero, zero
                    if t < len(here):
                        token, raw = here[t], bias
                        if token >= 0:
                            u = load_first(u_BLD, (b, token, d), count)
                            raw = add(load_first(delta_BLKD, (b, token, k, d), count), bias)
                            dy = load_first(dy_BLKD, (b, token, out, d), count)
                            if has_z:
                                z = load_first(z_BLD, (b, token, d), count)
                                gate = sigmoid(z)
                                put(others, t * NUM_OTHERS + BEND, mul(dy, fma(mul(z, gate), sub(one, gate), gate)))
                                dy = mul(dy, mul(z, gate))
                    row = t * NUM_OTHERS
                    put(others, row + RAW, raw)
                    put(others, row + SOFT, raw)
                    put(others, row + INPUT, u)
                    put(others, row + OUTPUT, mul(skip, u))
                    put(steps, t * NUM_FIELDS + GRAD, dy)
                if use_softplus:
                    soften(others, RAW, SOFT, EXP, NUM_OTHERS, len(here))
                largest = zero
                for t in range(length):
                    row = t * NUM_FIELDS
                    delta = get(others, t * NUM_OTHERS + SOFT)
                    largest = farther(largest, delta)
                    put(steps, row + DELTA, delta)
                    put(steps, row + DRIVE, mul(delta, get(others, t * NUM_OTHERS + INPUT)))
                    put(steps, row + GAIN, zero)
                    put(steps, row + PULL, zero)
                near = all_near(mul(largest, get(extent, block)))
                retrace(
                    A, dA, reach, h, block * num_states, num_states, steps, others, products, rows_B, rows_C,
                    sums_B, sums_C, num_rows * WIDTH, num_tiles, length, near, has_z,
                    u_BLD, delta_BLKD, dy_BLKD, du_BLD, ddelta_BLKD, ahead, b, k, out, d,
                )  # fmt: skip
                sum_skip, sum_bias = zero, zero
                for t in range(len(here)):
                    row, other = t * NUM_FIELDS, t * NUM_OTHERS
                    token, u, dy, gain = (
                        here[t],
                        get(others, other + INPUT),
                        get(steps, row + GRAD),
                        get(steps, row + GAIN),
                    )
                    ddelta = fma(get(steps, row + PULL), splat(LN_2), mul(u, gain))
                    if use_softplus:
                        ddelta = mul(ddelta, softplus_slope(get(others, other + RAW), get(others, other + EXP)))
                    sum_bias = add(sum_bias, ddelta)
                    sum_skip = fma(dy, u, sum_skip)
                    if token >= 0:
                        du = fma(get(steps, row + DELTA), gain, mul(skip, dy))
                        put_first(ddelta_BLKD, (b, token, k, d), ddelta, count, adds)
                        put_first(du_BLD, (b, token, d), du, count, adds_shared)
                        if has_z:
                            dz = mul(get(others, other + BEND), get(others, other + OUTPUT))
                            put_first(dz_BLD, (b, token, d), dz, count, adds_shared)
                put(dskip, block, add(get(dskip, block), sum_skip))
                put(dbias, block, add(get(dbias, block), sum_bias))
            for t in range(len(here)):
                if here[t] >= 0:
                    scatter_row(dB_PBLKGN[part, b, here[t], k, g], sums_B, t, chunk, num_states, adds)
                    scatter_row(dC_PBLKGN[part, b, here[t], k, g], sums_C, t, chunk, num_states, adds)
        for block in range(num_blocks):
            d, count = first + block * WIDTH, min(WIDTH, size - block * WIDTH)
            for n in range(num_states):
                row = block * num_states + n
                store_first(dA_BKND, (b, k, n, d), get(dA, row), count)
                store_first(dinitial_BKND, (b, k, n, d), get(reach, row), count)
            store_first(dD_BKD, (b, k, d), get(dskip, block), count)
            store_first(dbias_BKD, (b, k, d), get(dbias, block), count)
