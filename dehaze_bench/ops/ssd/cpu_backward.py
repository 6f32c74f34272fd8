"""Numba kernel of the SSD, backward: states are recomputed chunk by chunk from the saved boundary states.

With g_t the gradient that reaches the state after step t, decays a_t = exp(dt_t A) and drive_t = dt_t x_t:
    g_t = a_{t+1} g_{t+1} + C_t dy_t          dC_t = sum_p h_t dy_t        dB_t = sum_p g_t drive_t
    r_t = sum_np g_t a_t h_{t-1}              dA   = sum_t r_t dt_t        s_t  = sum_n g_t B_t
    ddt_t = r_t A + sum_p s_t x_t             dx_t = dt_t s_t + D dy_t

Gradients are kept at the inverse of the states' scale (see `cpu_forward`), so that both take the same factors f.

Units and the loops around them are those of `cpu_forward`, but lanes are states: of the sums over one axis of the
state, only s (and y, for the gate) are then sums over lanes, which are taken for sixteen steps at once. Two channels of
sixteen states run forth and back over the chunk before the next begin, so that their past fits the first-level cache.
"""

from __future__ import annotations

from numba import boolean, float32, float64, int64, njit, void

from dehaze_bench.ops.lane_functions import sigmoid, softplus_slope
from dehaze_bench.ops.lanes import (
    OPTIONS,
    WIDTH,
    add,
    compile_kernel,
    fma,
    get,
    keep_apart,
    load_first,
    mul,
    prefetch_line,
    put,
    row_sums,
    scratch,
    splat,
    splat_at,
    store_first,
    sub,
    where_less,
)
from dehaze_bench.ops.ssd import cpu_forward
from dehaze_bench.ops.ssd.cpu_forward import (
    EXP,
    FADE,
    FREE,
    INVERSE,
    NUM_FIELDS,
    RAW,
    SCALE,
    STEP,
    array_3d,
    array_4d,
    array_5d,
    gather_rows,
    locate,
    matrix,
    prefetch_rows,
    rows_3d,
    rows_4d,
    take_steps,
    vector,
)

PAIR = 2  # channels in registers at once


@njit(**OPTIONS)
def retrace(  # type: ignore[no-untyped-def]
    before, reach, first, p, num_rows, fades, end, drives, grads, rows_B, rows_C, sums_B, sums_C, trail, gains,
    readouts, pulls, chunk, length, keeps_outputs,
):  # fmt: skip
    """Take two channels' states forth and their gradients back through `length` steps, a multiple of `WIDTH`.

    `end` is the scale of the states after the last step, by which their gradients are multiplied before it.
    Adds to dB and dC, to what B g and C h (if asked for) give before the sums over lanes, and to r likewise.
    """
    keep_apart()
    for row in range(num_rows):
        h0, h1 = get(before, p * num_rows + row), get(before, (p + 1) * num_rows + row)
        put(trail, 0, h0)
        put(trail, 1, h1)
        for t in range(length):
            place, column = row * chunk + t, t * WIDTH + p
            fade, B = splat_at(fades, t), get(rows_B, place)
            h0 = fma(fade, h0, mul(B, splat_at(drives, column)))
            h1 = fma(fade, h1, mul(B, splat_at(drives, column + 1)))
            put(trail, PAIR * (t + 1), h0)
            put(trail, PAIR * (t + 1) + 1, h1)
            dC = fma(h0, splat_at(grads, column), get(sums_C, place))
            put(sums_C, place, fma(h1, splat_at(grads, column + 1), dC))
        if keeps_outputs:
            for t in range(length):
                C = get(rows_C, row * chunk + t)
                put(readouts, t, fma(get(trail, PAIR * (t + 1)), C, get(readouts, t)))
                put(readouts, chunk + t, fma(get(trail, PAIR * (t + 1) + 1), C, get(readouts, chunk + t)))
        g0 = mul(get(reach, first + p * num_rows + row), splat(end))
        g1 = mul(get(reach, first + (p + 1) * num_rows + row), splat(end))
        for i in range(length):
            t = length - 1 - i
            place, column = row * chunk + t, t * WIDTH + p
            fade, B, C = splat_at(fades, t), get(rows_B, place), get(rows_C, place)
            g0 = fma(C, splat_at(grads, column), g0)
            g1 = fma(C, splat_at(grads, column + 1), g1)
            put(gains, t, fma(g0, B, get(gains, t)))
            put(gains, chunk + t, fma(g1, B, get(gains, chunk + t)))
            dB = fma(g0, splat_at(drives, column), get(sums_B, place))
            put(sums_B, place, fma(g1, splat_at(drives, column + 1), dB))
            g0, g1 = mul(fade, g0), mul(fade, g1)
            r = fma(g0, get(trail, PAIR * t), get(pulls, t))
            put(pulls, t, fma(g1, get(trail, PAIR * t + 1), r))
        put(reach, first + p * num_rows + row, g0)
        put(reach, first + (p + 1) * num_rows + row, g1)


@njit(**OPTIONS)
def collect(source, target, p, chunk, length):  # type: ignore[no-untyped-def]
    """Move the sums over lanes of two channels to their columns of the target; leave zeros."""
    keep_apart()
    for side in range(PAIR):
        for start in range(0, length, WIDTH):
            first = side * chunk + start
            put(source, first, row_sums(source, first))
            for t in range(WIDTH):
                target[(start + t) * WIDTH + p + side] = source[first * WIDTH + t]
            for t in range(WIDTH):
                put(source, first + t, splat(0.0))


@compile_kernel(
    void(
        int64[::1], rows_4d, rows_3d, vector, rows_4d, rows_4d, matrix, rows_4d, vector, int64[::1],
        boolean, boolean, float32, float32, int64, array_5d, rows_4d, array_4d,
        array_4d, array_4d, float64[:, :, ::1], array_5d, array_5d, array_3d, array_4d, float64[:, :, ::1], array_4d,
    ),
    cpu_forward.__file__,
)  # fmt: skip
def scan_backward(  # type: ignore[no-untyped-def]
    job, x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, D_HP, z_BLHP, bias_H, order_L,
    has_z, use_softplus, low, high, chunk, states_BSHNP, dy_BLHP, dlast_BHPN,
    dx_BLHP, ddt_JBLH, dA_BHU, dB_JBLGN, dC_JBLGN, dD_BHP, dz_BLHP, dbias_BHU, dinitial_BHPN,
):  # fmt: skip
    """Write every gradient: those of B and C into the job's part of the sum, those of A and the bias per unit.

    That of dt is added to the job's part, since a head's units may lie in several jobs or in one. `dz` is untouched
    without z.
    """
    b, g, first_unit, num_units, part = job[0], job[1], job[2], job[3], job[4]
    num_channels, num_groups, num_states = x_BLHP.shape[3], B_BLGN.shape[2], B_BLGN.shape[3]
    heads_per_group = x_BLHP.shape[2] // num_groups
    num_rows, num_tiles = (num_states + WIDTH - 1) // WIDTH, chunk // WIDTH
    reach, before = scratch(num_units * WIDTH * num_rows), scratch(WIDTH * num_rows)
    steps, parts = scratch(NUM_FIELDS * num_tiles), scratch(1)
    fades = steps[FADE * chunk :]
    rows_B, rows_C = scratch(chunk * num_rows), scratch(chunk * num_rows)
    sums_B, sums_C = scratch(chunk * num_rows), scratch(chunk * num_rows)
    inputs, slopes, bends = scratch(chunk), scratch(chunk), scratch(chunk)
    drives, grads = scratch(chunk), scratch(chunk)
    trail, gains, readouts = scratch(PAIR * (chunk + 1)), scratch(PAIR * chunk), scratch(PAIR * chunk)
    pulls, pushes, outputs, dskip = scratch(chunk), scratch(chunk), scratch(chunk), scratch(num_units)
    zero, one = splat(0.0), splat(1.0)
    for unit in range(num_units):
        head, p, count = locate(first_unit + unit, g, heads_per_group, num_channels)
        dA_BHU[b, head, p // WIDTH] = 0.0
        dbias_BHU[b, head, p // WIDTH] = 0.0
        for i in range(count):
            for row in range(num_rows):
                values = load_first(dlast_BHPN, (b, head, p + i, row * WIDTH), num_states - row * WIDTH)
                put(reach, (unit * WIDTH + i) * num_rows + row, values)
    for index in range((len(order_L) - 1) // chunk, -1, -1):
        here = order_L[index * chunk : index * chunk + chunk]
        ahead = order_L[max(index - 1, 0) * chunk : index * chunk]
        length = (len(here) + WIDTH - 1) // WIDTH * WIDTH  # steps behind the last change nothing
        gather_rows(rows_B, B_BLGN, b, here, g, num_rows, num_states, chunk)
        gather_rows(rows_C, C_BLGN, b, here, g, num_rows, num_states, chunk)
        for row in range(num_rows):
            for t in range(len(here), length):
                put(rows_B, row * chunk + t, zero)
                put(rows_C, row * chunk + t, zero)
        sums_B[:] = 0
        sums_C[:] = 0
        prefetch_rows(B_BLGN, C_BLGN, b, ahead, g, num_rows)
        for unit in range(num_units):
            head, p, count = locate(first_unit + unit, g, heads_per_group, num_channels)
            take_steps(steps, chunk, dt_BLH, b, here, head, A_H[head], bias_H[head], use_softplus, low, high)
            skip, end = load_first(D_HP, (head, p), count), steps[SCALE * chunk + len(here) - 1]
            for t in range(length):
                x, dy = zero, zero
                if t < len(here):
                    x = load_first(x_BLHP, (b, here[t], head, p), count)
                    dy = load_first(dy_BLHP, (b, here[t], head, p), count)
                    if has_z:
                        z = load_first(z_BLHP, (b, here[t], head, p), count)
                        gate = sigmoid(z)
                        put(bends, t, mul(dy, fma(mul(z, gate), sub(one, gate), gate)))
                        dy = mul(dy, mul(z, gate))
                put(inputs, t, x)
                put(slopes, t, dy)
                step = mul(splat_at(steps, STEP * chunk + t), splat_at(steps, INVERSE * chunk + t))
                put(drives, t, mul(x, step))
                put(grads, t, mul(dy, splat_at(steps, SCALE * chunk + t)))
                put(pulls, t, zero)
            for n in range(num_states):
                for i in range(count):
                    before[i * num_rows * WIDTH + n] = states_BSHNP[b, index, head, n, p + i]
                for i in range(count, WIDTH):
                    before[i * num_rows * WIDTH + n] = 0.0
            for i in range(0, count, PAIR):
                for t in range(len(ahead) * i // count, len(ahead) * min(i + PAIR, count) // count):
                    prefetch_line(x_BLHP, (b, ahead[t], head, p))
                    prefetch_line(z_BLHP, (b, ahead[t], head, p))
                    prefetch_line(dy_BLHP, (b, ahead[t], head, p))
                    prefetch_line(dx_BLHP, (b, ahead[t], head, p))
                retrace(
                    before, reach, unit * WIDTH * num_rows, i, num_rows, fades, end, drives, grads, rows_B, rows_C,
                    sums_B, sums_C, trail, gains, readouts, pulls, chunk, length, has_z,
                )  # fmt: skip
                collect(gains, pushes, i, chunk, length)
                if has_z:
                    collect(readouts, outputs, i, chunk, length)
            rate, sum_A, sum_skip = splat(A_H[head]), zero, zero
            for t in range(len(here)):
                x, dy, pull = get(inputs, t), get(slopes, t), get(pulls, t)
                push = mul(get(pushes, t), splat_at(steps, INVERSE * chunk + t))
                step = splat_at(steps, STEP * chunk + t)
                store_first(dx_BLHP, (b, here[t], head, p), fma(step, push, mul(skip, dy)), count)
                if has_z:
                    y = fma(get(outputs, t), splat_at(steps, SCALE * chunk + t), mul(skip, x))
                    store_first(dz_BLHP, (b, here[t], head, p), mul(get(bends, t), y), count)
                sum_A = fma(pull, step, sum_A)
                sum_skip = fma(dy, x, sum_skip)
                put(pulls, t, fma(rate, pull, mul(x, push)))
            put(dskip, unit, add(get(dskip, unit), sum_skip))
            put(parts, 0, sum_A)
            for lane in range(WIDTH):
                dA_BHU[b, head, p // WIDTH] += parts[lane]
            least, most = splat(low), splat(high)
            for tile in range(length // WIDTH):
                ddt, free = row_sums(pulls, tile * WIDTH), get(steps, FREE * num_tiles + tile)
                ddt = where_less(free, least, zero, where_less(most, free, zero, ddt))
                if use_softplus:
                    raw, exp = get(steps, RAW * num_tiles + tile), get(steps, EXP * num_tiles + tile)
                    ddt = mul(ddt, softplus_slope(raw, exp))
                put(parts, 0, ddt)
                for lane in range(min(WIDTH, len(here) - tile * WIDTH)):
                    ddt_JBLH[part, b, here[tile * WIDTH + lane], head] += parts[lane]
                    dbias_BHU[b, head, p // WIDTH] += parts[lane]
        for t in range(len(here)):
            for row in range(num_rows):
                n = row * WIDTH
                store_first(dB_JBLGN, (part, b, here[t], g, n), get(sums_B, row * chunk + t), num_states - n)
                store_first(dC_JBLGN, (part, b, here[t], g, n), get(sums_C, row * chunk + t), num_states - n)
    for unit in range(num_units):
        head, p, count = locate(first_unit + unit, g, heads_per_group, num_channels)
        store_first(dD_BHP, (b, head, p), get(dskip, unit), count)
        for i in range(count):
            for row in range(num_rows):
                values = get(reach, (unit * WIDTH + i) * num_rows + row)
                store_first(dinitial_BHPN, (b, head, p + i, row * WIDTH), values, num_states - row * WIDTH)
