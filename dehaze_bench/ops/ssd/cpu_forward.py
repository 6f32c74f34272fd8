"""Numba kernel of the SSD, forward: the recurrence, four states of sixteen channels in registers over a chunk.

For each chunk a job gathers the rows of B and C; then, for each of its units, it gathers dt and x, takes the states
through the chunk, and scatters y. A unit is one head's sixteen channels, or what is left of them: lanes are channels.
With one decay per head the recurrence takes no more operations than matrix products over chunks would, and there is
no exponential per state to save.

States are kept as multiples of a scale s_t that takes up the decays a_t, so that a long memory is not rounded at every
step: with h_t = s_t k_t,
    k_t = f_t k_{t-1} + B_t dt_t x_t / s_t,    f_t = a_t s_{t-1} / s_t,    y_t = s_t C_t k_t.
A chunk begins with s = 1, goes on with f = 1, and begins anew (s = 1, f the decay so far) where 1 / s would become too
large. Logarithms of s are summed in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, float32, int64, njit, void

from dehaze_bench.ops.lane_functions import exp2, sigmoid, soften
from dehaze_bench.ops.lanes import (
    OPTIONS,
    WIDTH,
    compile_kernel,
    fma,
    get,
    keep_apart,
    load_first,
    mul,
    prefetch_line,
    put,
    scratch,
    splat,
    splat_at,
    store_first,
    where_less,
)

LOG2_E = math.log2(math.e)
TILE = 4  # states in registers at once

vector = float32[::1]
matrix = float32[:, ::1]
rows_3d, rows_4d = float32[:, :, :], float32[:, :, :, :]  # strided, read in place
array_3d, array_4d, array_5d = float32[:, :, ::1], float32[:, :, :, ::1], float32[:, :, :, :, ::1]

# What scratch memory holds of the steps of a chunk, one field after the other: dt with its bias, that after softplus,
# after the limits, exp(-|dt with its bias|); f, s and 1 / s as above, and the rounded logarithms of f and s.
RAW, FREE, STEP, EXP, FADE, SCALE, INVERSE, FADE_LOG, SCALE_LOG, NUM_FIELDS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
RANGE = 40.0  # how far the logarithm of s may go
FAR = 1e3  # more than a float32 can decay


@njit(forceinline=True)
def locate(unit, g, heads_per_group, num_channels):  # type: ignore[no-untyped-def]
    """Return (head, first channel, number of channels) of a unit of a group."""
    per_head = (num_channels + WIDTH - 1) // WIDTH
    p = unit % per_head * WIDTH
    return g * heads_per_group + unit // per_head, p, min(WIDTH, num_channels - p)


@njit(forceinline=True)
def gather_rows(memory, source, b, here, g, num_rows, num_states, chunk):  # type: ignore[no-untyped-def]
    """Copy sixteen states of B or C of all tokens, then the next sixteen, filled up with zeros.

    What is used together lies together: rows of all states, apart by a power of 2, would evict each other.
    """
    for t in range(len(here)):
        for row in range(num_rows):
            values = load_first(source, (b, here[t], g, row * WIDTH), num_states - row * WIDTH)
            put(memory, row * chunk + t, values)


@njit(forceinline=True)
def prefetch_rows(B_BLGN, C_BLGN, b, ahead, g, num_rows):  # type: ignore[no-untyped-def]
    """Ask for the rows of B and C of tokens."""
    for t in range(len(ahead)):
        for row in range(num_rows):
            prefetch_line(B_BLGN, (b, ahead[t], g, row * WIDTH))
            prefetch_line(C_BLGN, (b, ahead[t], g, row * WIDTH))


@njit(**OPTIONS)
def take_steps(memory, chunk, dt_BLH, b, here, head, A, bias, use_softplus, low, high):  # type: ignore[no-untyped-def]
    """Fill in the fields of a chunk's steps; return whether f is 1 throughout. Steps behind the last change nothing."""
    num_tiles = chunk // WIDTH
    count = (len(here) + WIDTH - 1) // WIDTH
    for t in range(len(here)):
        memory[RAW * chunk + t] = dt_BLH[b, here[t], head] + bias
    for tile in range(count):
        put(memory, FREE * num_tiles + tile, get(memory, RAW * num_tiles + tile))
    if use_softplus:
        soften(memory, RAW * num_tiles, FREE * num_tiles, EXP * num_tiles, 1, count)
    least, most = splat(low), splat(high)
    for tile in range(count):
        step = get(memory, FREE * num_tiles + tile)
        step = where_less(step, least, least, step)
        put(memory, STEP * num_tiles + tile, where_less(most, step, most, step))
    for t in range(len(here), count * WIDTH):
        memory[STEP * chunk + t] = 0.0
    rate, total, steady = np.float64(A) * LOG2_E, 0.0, True
    for t in range(count * WIDTH):
        change = memory[STEP * chunk + t] * rate
        change = -FAR if change < -FAR else change  # where it is NaN it stays NaN
        change = FAR if change > FAR else change
        total, fade = total + change, 0.0
        if abs(total) > RANGE:
            total, fade, steady = 0.0, total, False
        whole_total, whole_fade = np.rint(total), np.rint(fade)
        memory[SCALE_LOG * chunk + t], memory[SCALE * chunk + t] = whole_total, total - whole_total
        memory[FADE_LOG * chunk + t], memory[FADE * chunk + t] = whole_fade, fade - whole_fade
    for tile in range(count):
        fraction, whole = get(memory, SCALE * num_tiles + tile), get(memory, SCALE_LOG * num_tiles + tile)
        put(memory, SCALE * num_tiles + tile, mul(exp2(fraction), exp2(whole)))
        fraction, whole = mul(splat(-1.0), fraction), mul(splat(-1.0), whole)
        put(memory, INVERSE * num_tiles + tile, mul(exp2(fraction), exp2(whole)))
        fraction, whole = get(memory, FADE * num_tiles + tile), get(memory, FADE_LOG * num_tiles + tile)
        put(memory, FADE * num_tiles + tile, mul(exp2(fraction), exp2(whole)))
    return steady


@njit(**OPTIONS)
def advance(  # type: ignore[no-untyped-def]
    h, first, num_states, fades, steady, end, drives, outputs, rows_B, rows_C, chunk, length,
    x_BLHP, z_BLHP, y_BLHP, ahead, b, head, p,
):  # fmt: skip
    """Take the states in rows first, first + 1 ... of h through `length` steps, to the scale `end`; add C k to outputs.

    Meanwhile it asks for what the tokens ahead will need: a burst of requests would have to be waited for.
    """
    keep_apart()
    for n in range(0, num_states, TILE):
        for t in range(len(ahead) * n // num_states, len(ahead) * (n + TILE) // num_states):
            prefetch_line(x_BLHP, (b, ahead[t], head, p))
            prefetch_line(z_BLHP, (b, ahead[t], head, p))
            prefetch_line(y_BLHP, (b, ahead[t], head, p))
        row = first + n
        h0, h1, h2, h3 = get(h, row), get(h, row + 1), get(h, row + 2), get(h, row + 3)
        if steady:
            for t in range(length):
                column = (n // WIDTH * chunk + t) * WIDTH + n % WIDTH
                drive, y = get(drives, t), get(outputs, t)
                h0 = fma(drive, splat_at(rows_B, column), h0)
                y = fma(h0, splat_at(rows_C, column), y)
                h1 = fma(drive, splat_at(rows_B, column + 1), h1)
                y = fma(h1, splat_at(rows_C, column + 1), y)
                h2 = fma(drive, splat_at(rows_B, column + 2), h2)
                y = fma(h2, splat_at(rows_C, column + 2), y)
                h3 = fma(drive, splat_at(rows_B, column + 3), h3)
                put(outputs, t, fma(h3, splat_at(rows_C, column + 3), y))
        else:
            for t in range(length):
                column = (n // WIDTH * chunk + t) * WIDTH + n % WIDTH
                fade, drive, y = splat_at(fades, t), get(drives, t), get(outputs, t)
                h0 = fma(fade, h0, mul(drive, splat_at(rows_B, column)))
                y = fma(h0, splat_at(rows_C, column), y)
                h1 = fma(fade, h1, mul(drive, splat_at(rows_B, column + 1)))
                y = fma(h1, splat_at(rows_C, column + 1), y)
                h2 = fma(fade, h2, mul(drive, splat_at(rows_B, column + 2)))
                y = fma(h2, splat_at(rows_C, column + 2), y)
                h3 = fma(fade, h3, mul(drive, splat_at(rows_B, column + 3)))
                put(outputs, t, fma(h3, splat_at(rows_C, column + 3), y))
        put(h, row, mul(h0, splat(end)))
        put(h, row + 1, mul(h1, splat(end)))
        put(h, row + 2, mul(h2, splat(end)))
        put(h, row + 3, mul(h3, splat(end)))


@compile_kernel(
    void(
        int64[::1], rows_4d, rows_3d, vector, rows_4d, rows_4d, matrix, rows_4d, vector, int64[::1],
        boolean, boolean, float32, float32, int64, array_4d, array_4d, array_4d, array_5d,
    )
)  # fmt: skip
def scan_forward(  # type: ignore[no-untyped-def]
    job, x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, D_HP, z_BLHP, bias_H, order_L,
    has_z, use_softplus, low, high, chunk, initial_BHNP, y_BLHP, last_BHNP, states_BSHNP,
):  # fmt: skip
    """Write y, the last states and (where it has room) the states before every `chunk` steps."""
    b, g, first_unit, num_units = job[0], job[1], job[2], job[3]
    num_channels, num_groups, num_states = x_BLHP.shape[3], B_BLGN.shape[2], B_BLGN.shape[3]
    heads_per_group = x_BLHP.shape[2] // num_groups
    num_rows = (num_states + WIDTH - 1) // WIDTH
    size = (num_states + TILE - 1) // TILE * TILE  # states that fill up the last tile stay 0
    h, steps = scratch(num_units * size), scratch(NUM_FIELDS * chunk // WIDTH)
    fades = steps[FADE * chunk :]
    rows_B, rows_C = scratch(chunk * num_rows), scratch(chunk * num_rows)
    drives, outputs = scratch(chunk), scratch(chunk)
    for unit in range(num_units):
        head, p, count = locate(first_unit + unit, g, heads_per_group, num_channels)
        for n in range(num_states):
            put(h, unit * size + n, load_first(initial_BHNP, (b, head, n, p), count))
    for start in range(0, len(order_L), chunk):
        here = order_L[start : start + chunk]
        ahead = order_L[start + chunk : start + 2 * chunk]
        gather_rows(rows_B, B_BLGN, b, here, g, num_rows, num_states, chunk)
        gather_rows(rows_C, C_BLGN, b, here, g, num_rows, num_states, chunk)
        prefetch_rows(B_BLGN, C_BLGN, b, ahead, g, num_rows)
        for unit in range(num_units):
            head, p, count = locate(first_unit + unit, g, heads_per_group, num_channels)
            steady = take_steps(
                steps, chunk, dt_BLH, b, here, head, A_H[head], bias_H[head], use_softplus, low, high
            )  # fmt: skip
            skip, end = load_first(D_HP, (head, p), count), steps[SCALE * chunk + len(here) - 1]
            for t in range(len(here)):
                x = load_first(x_BLHP, (b, here[t], head, p), count)
                step = mul(splat_at(steps, STEP * chunk + t), splat_at(steps, INVERSE * chunk + t))
                put(drives, t, mul(x, step))
                put(outputs, t, splat(0.0))
            if states_BSHNP.shape[1] > 0:
                for n in range(num_states):
                    store_first(states_BSHNP, (b, start // chunk, head, n, p), get(h, unit * size + n), count)
            advance(
                h, unit * size, size, fades, steady, end, drives, outputs, rows_B, rows_C, chunk, len(here),
                x_BLHP, z_BLHP, y_BLHP, ahead, b, head, p,
            )  # fmt: skip
            for t in range(len(here)):
                x = load_first(x_BLHP, (b, here[t], head, p), count)
                y = fma(get(outputs, t), splat_at(steps, SCALE * chunk + t), mul(x, skip))
                if has_z:
                    z = load_first(z_BLHP, (b, here[t], head, p), count)
                    y = mul(y, mul(z, sigmoid(z)))
                store_first(y_BLHP, (b, here[t], head, p), y, count)
    for unit in range(num_units):
        head, p, count = locate(first_unit + unit, g, heads_per_group, num_channels)
        for n in range(num_states):
            store_first(last_BHNP, (b, head, n, p), get(h, unit * size + n), count)
