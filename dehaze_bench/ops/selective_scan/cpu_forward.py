"""Numba kernel of the selective scan, forward: a chunk of steps and sixteen channels at a time, tokens in any order.

For each route and chunk a job gathers the rows of B and C; then, for every sixteen of its channels, it gathers u and
delta, runs the recurrence of one state after the other over the chunk with the state in a register, and scatters y.
Scratch memory of a few kilobytes stays in the first-level cache.
"""

from __future__ import annotations

from numba import boolean, float32, int64, njit, void

from dehaze_bench.ops.lane_functions import exp2, exp2_near, sigmoid, soften
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
    scratch,
    splat,
    splat_at,
    store_first,
)

matrix = float32[:, ::1]
cube = float32[:, :, ::1]
states_type = float32[:, :, :, :, ::1]
rows_3d, rows_4d, rows_5d = float32[:, :, :], float32[:, :, :, :], float32[:, :, :, :, :]  # strided, read in place

DELTA, DRIVE, OUTPUT, EXP, NUM_FIELDS = 0, 1, 2, 3, 4  # rows of scratch memory that a step has


@njit(forceinline=True)
def gather_row(memory, row, source, b, token, k, g, num_states):  # type: ignore[no-untyped-def]
    """Copy the states' row of B or C of a token; padding has zeros."""
    for n in range(0, num_states, WIDTH):
        values = splat(0.0)
        if token >= 0:
            values = load_first(source, (b, token, k, g, n), min(WIDTH, num_states - n))
        put(memory, row + n // WIDTH, values)


@njit(**OPTIONS)
def advance(  # type: ignore[no-untyped-def]
    A, h, first, num_states, steps, rows_B, rows_C, num_columns, length, near,
    u_BLD, delta_BLKD, y_BLKD, ahead, b, k, out, d,
):  # fmt: skip
    """Take the states in rows first, first + 1 ... of h through `length` steps; add C h to the outputs.

    Meanwhile it asks for what the tokens ahead will need: a burst of requests would have to be waited for.
    """
    keep_apart()
    for n in range(num_states):
        for t in range(len(ahead) * n // num_states, len(ahead) * (n + 1) // num_states):
            token = max(ahead[t], 0)
            prefetch_line(u_BLD, (b, token, d))
            prefetch_line(delta_BLKD, (b, token, k, d))
            prefetch_line(y_BLKD, (b, token, out, d))
        a, state = get(A, first + n), get(h, first + n)
        if near:
            for t in range(length):
                row, column = t * NUM_FIELDS, t * num_columns + n
                decay = exp2_near(mul(get(steps, row + DELTA), a))
                state = fma(decay, state, mul(get(steps, row + DRIVE), splat_at(rows_B, column)))
                put(steps, row + OUTPUT, fma(state, splat_at(rows_C, column), get(steps, row + OUTPUT)))
        else:
            for t in range(length):
                row, column = t * NUM_FIELDS, t * num_columns + n
                decay = exp2(mul(get(steps, row + DELTA), a))
                state = fma(decay, state, mul(get(steps, row + DRIVE), splat_at(rows_B, column)))
                put(steps, row + OUTPUT, fma(state, splat_at(rows_C, column), get(steps, row + OUTPUT)))
        put(h, first + n, state)


@compile_kernel(
    void(
        int64[::1], rows_3d, rows_4d, cube, rows_5d, rows_5d, matrix, rows_3d, matrix, int64[:, ::1],
        float32[:, :, :, ::1], boolean[::1], boolean, boolean, boolean, int64,
        float32[:, :, :, ::1], float32[:, :, :, ::1], states_type,
    )
)  # fmt: skip
def scan_forward(  # type: ignore[no-untyped-def]
    job, u_BLD, delta_BLKD, A_KND, B_BLKGN, C_BLKGN, D_KD, z_BLD, bias_KD, index_KS,
    initial_BKND, whole_K, has_z, use_softplus, merged, chunk, y_BLKD, last_BKND, states_BKSND,
):  # fmt: skip
    """Write y, the last states and (where it has room) the states before every `chunk` steps.

    A is already multiplied by log2(e). y has one route if `merged`; what is written to it is added where the route is
    not whole or not the first to come there. The index may have one row for all routes.
    """
    b, g, first, size = job[0], job[1], job[2], job[3]
    num_blocks = (size + WIDTH - 1) // WIDTH
    num_routes, num_states = A_KND.shape[0], A_KND.shape[1]
    num_steps = index_KS.shape[1]
    num_rows = (num_states + WIDTH - 1) // WIDTH
    A, h, extent = scratch(num_blocks * num_states), scratch(num_blocks * num_states), scratch(num_blocks)
    rows_B, rows_C, steps = scratch(chunk * num_rows), scratch(chunk * num_rows), scratch(chunk * NUM_FIELDS)
    for k in range(num_routes):
        tokens = index_KS[k if index_KS.shape[0] > 1 else 0]
        out = 0 if merged else k
        adds = not whole_K[k] or (merged and k > 0)
        for block in range(num_blocks):
            d, count = first + block * WIDTH, min(WIDTH, size - block * WIDTH)
            largest = splat(0.0)
            for n in range(num_states):
                a = load_first(A_KND, (k, n, d), count)
                largest = farther(largest, a)
                put(A, block * num_states + n, a)
                put(h, block * num_states + n, load_first(initial_BKND, (b, k, n, d), count))
            put(extent, block, largest)
        for start in range(0, num_steps, chunk):
            here = tokens[start : start + chunk]
            ahead = tokens[start + chunk : start + 2 * chunk]
            length = len(here)
            for t in range(length):
                gather_row(rows_B, t * num_rows, B_BLKGN, b, here[t], k, g, num_states)
                gather_row(rows_C, t * num_rows, C_BLKGN, b, here[t], k, g, num_states)
            for t in range(len(ahead)):
                prefetch_line(B_BLKGN, (b, max(ahead[t], 0), k, g, 0))
                prefetch_line(C_BLKGN, (b, max(ahead[t], 0), k, g, 0))
            for block in range(num_blocks):
                d, count = first + block * WIDTH, min(WIDTH, size - block * WIDTH)
                skip, bias = load_first(D_KD, (k, d), count), load_first(bias_KD, (k, d), count)
                for t in range(length):
                    token, row = here[t], t * NUM_FIELDS
                    u, delta = splat(0.0), bias
                    if token >= 0:
                        u = load_first(u_BLD, (b, token, d), count)
                        delta = add(load_first(delta_BLKD, (b, token, k, d), count), bias)
                    put(steps, row + DELTA, delta)
                    put(steps, row + DRIVE, u)
                    put(steps, row + OUTPUT, mul(skip, u))
                if use_softplus:
                    soften(steps, DELTA, DELTA, EXP, NUM_FIELDS, length)
                largest = splat(0.0)
                for t in range(length):
                    row = t * NUM_FIELDS
                    delta = get(steps, row + DELTA)
                    largest = farther(largest, delta)
                    put(steps, row + DRIVE, mul(delta, get(steps, row + DRIVE)))
                near = all_near(mul(largest, get(extent, block)))
                if states_BKSND.shape[2] > 0:
                    for n in range(num_states):
                        state = get(h, block * num_states + n)
                        store_first(states_BKSND, (b, k, start // chunk, n, d), state, count)
                advance(
                    A, h, block * num_states, num_states, steps, rows_B, rows_C, num_rows * WIDTH, length, near,
                    u_BLD, delta_BLKD, y_BLKD, ahead, b, k, out, d,
                )  # fmt: skip
                for t in range(length):
                    token = here[t]
                    if token >= 0:
                        y = get(steps, t * NUM_FIELDS + OUTPUT)
                        if has_z:
                            z = load_first(z_BLD, (b, token, d), count)
                            y = mul(y, mul(z, sigmoid(z)))
                        put_first(y_BLKD, (b, token, out, d), y, count, adds)
        for block in range(num_blocks):
            d, count = first + block * WIDTH, min(WIDTH, size - block * WIDTH)
            for n in range(num_states):
                store_first(last_BKND, (b, k, n, d), get(h, block * num_states + n), count)
