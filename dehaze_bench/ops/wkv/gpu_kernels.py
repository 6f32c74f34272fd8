"""Triton kernels of bi-WKV: segments of the order in parallel, the steps of a segment one after another.

A side of a token (the tokens before it in the order, or after it) is a state: P and Q, sums of weight * value for two
kinds of value, their slopes RP and RQ (sums of (distance - 1) * weight * value, for the gradient of the decay), all
without the factor exp(m). A step away from it and past a token with logarithm `key` and values a, b is
    m' = max(m - w, key),  R' = (R + P) exp(m - w - m'),  P' = P exp(m - w - m') + a exp(key - m').
n steps past nothing are m' = m - n w, R' = R + n P, so the state before each segment follows from what the segments
hold by themselves: `side_segments` finds that, `carry_sides` the former, both from both ends at once.

Logarithms are float64, as a difference of large ones must be exact; their exponentials and the sums are float32.
Direction 0 runs along the order, 1 against it. `UNROLL` steps are loaded before the first is computed.
"""

# mypy: ignore-errors
# Kernels are written in Triton's language, which only looks like Python.
from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
NOTHING = tl.constexpr(-1e30)  # logarithm of the factor of an empty sum


@triton.jit
def exp(x):
    """float32 from float64."""
    return tl.exp2((x * LOG2_E).to(tl.float32))


@triton.jit
def empty_state(BLOCK: tl.constexpr):
    zero = tl.zeros((BLOCK,), tl.float32)
    return zero, zero, zero, zero, tl.full((BLOCK,), NOTHING, tl.float64)


@triton.jit
def load_state(sums_p, logs_p, start, plane, c, mask, BLOCK: tl.constexpr, SLOPES: tl.constexpr):
    """A state, empty where there is none; slopes are 0 unless asked for. Its sums lie `plane` numbers apart."""
    P, Q, RP, RQ, m = empty_state(BLOCK)
    if sums_p is not None:
        P = tl.load(sums_p + start + c, mask=mask, other=0.0)
        Q = tl.load(sums_p + plane + start + c, mask=mask, other=0.0)
        if SLOPES:
            RP = tl.load(sums_p + 2 * plane + start + c, mask=mask, other=0.0)
            RQ = tl.load(sums_p + 3 * plane + start + c, mask=mask, other=0.0)
        m = tl.load(logs_p + start + c, mask=mask, other=NOTHING)
    return P, Q, RP, RQ, m


@triton.jit
def store_state(sums_p, logs_p, start, plane, c, mask, state, SLOPES: tl.constexpr):
    P, Q, RP, RQ, m = state
    tl.store(sums_p + start + c, P, mask=mask)
    tl.store(sums_p + plane + start + c, Q, mask=mask)
    if SLOPES:
        tl.store(sums_p + 2 * plane + start + c, RP, mask=mask)
        tl.store(sums_p + 3 * plane + start + c, RQ, mask=mask)
    tl.store(logs_p + start + c, m, mask=mask)


@triton.jit
def step_away(state, w, key, a, b, inside, SLOPES: tl.constexpr):
    """One step; none where not `inside`. Of its two exponentials one is always 1; NaN passes through."""
    P, Q, RP, RQ, m = state
    shifted = m - w
    older = shifted >= key
    small = exp(-tl.abs(shifted - key))
    fade = tl.where(older, 1.0, small)
    rise = tl.where(older, small, 1.0)
    if SLOPES:
        RP = tl.where(inside, (RP + P) * fade, RP)
        RQ = tl.where(inside, (RQ + Q) * fade, RQ)
    P = tl.where(inside, P * fade + a * rise, P)
    Q = tl.where(inside, Q * fade + b * rise, Q)
    m = tl.where(inside, tl.where(older, shifted, key), m)
    return P, Q, RP, RQ, m


@triton.jit
def locate(num_blocks, num_segments, num_tokens, segment_steps, num_channels, BLOCK: tl.constexpr):
    """Batch item, segment, its first step and end, channels, their mask. Blocks of channels are the fastest index."""
    item = tl.program_id(0)
    segment = (item // num_blocks) % num_segments
    batch = (item // (num_blocks * num_segments)).to(tl.int64)
    c = (item % num_blocks) * BLOCK + tl.arange(0, BLOCK)
    begin = segment * segment_steps
    return batch, segment, begin, tl.minimum(begin + segment_steps, num_tokens), c, c < num_channels


@triton.jit
def find_tokens(order_p, batch, turn, begin, stop, num_tokens, num_channels, REVERSE, UNROLL: tl.constexpr):
    """Where the channels of the next `UNROLL` tokens of a segment begin, and which of these steps exist."""
    starts = ()
    inside = ()
    for i in tl.static_range(UNROLL):
        step = tl.where(REVERSE, stop - 1 - turn - i, begin + turn + i)
        exists = turn + i < stop - begin
        token = step
        if order_p is not None:
            token = tl.load(order_p + step, mask=exists, other=0)
        starts += ((batch * num_tokens + token.to(tl.int64)) * num_channels,)
        inside += (exists,)
    return starts, inside


@triton.jit
def load_tokens(x_p, starts, inside, c, mask, UNROLL: tl.constexpr):
    """One vector per step; ones where there is no tensor."""
    found = ()
    for i in tl.static_range(UNROLL):
        if x_p is None:
            x = tl.full(c.shape, 1.0, tl.float32)
        else:
            x = tl.load(x_p + starts[i] + c, mask=mask & inside[i], other=0.0)
        found += (x,)
    return found


@triton.jit
def side_segments(
    w_p, key_p, a_p, b_p, order_p, sums_p, logs_p,
    num_tokens, num_channels, num_blocks, num_segments, segment_steps,
    BLOCK: tl.constexpr, UNROLL: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Write what every segment holds by itself, seen from its end (direction 0, program axis 1) or its start (1)."""
    batch, segment, begin, stop, c, mask = locate(
        num_blocks, num_segments, num_tokens, segment_steps, num_channels, BLOCK
    )
    reverse = tl.program_id(1)
    w = tl.load(w_p + c, mask=mask, other=0.0)
    state = empty_state(BLOCK)
    for turn in range(0, stop - begin, UNROLL):
        starts, inside = find_tokens(
            order_p, batch, turn, begin, stop, num_tokens, num_channels, reverse == 1, UNROLL
        )  # fmt: skip
        keys = load_tokens(key_p, starts, inside, c, mask, UNROLL)
        a = load_tokens(a_p, starts, inside, c, mask, UNROLL)
        b = load_tokens(b_p, starts, inside, c, mask, UNROLL)
        for i in tl.static_range(UNROLL):
            state = step_away(state, w, keys[i].to(tl.float64), a[i], b[i], inside[i], SLOPES)
    num_lanes = tl.num_programs(0) // (num_blocks * num_segments)
    start = ((reverse * num_lanes + batch) * num_segments + segment) * num_channels
    plane = 2 * num_lanes.to(tl.int64) * num_segments * num_channels
    store_state(sums_p, logs_p, start, plane, c, mask, state, SLOPES)


@triton.jit
def carry_sides(
    w_p, sums_p, logs_p, num_tokens, num_channels, num_segments, segment_steps,
    BLOCK: tl.constexpr, UNROLL: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Replace what each segment holds by the side that its first token (direction 1: its last) sees.

    Program axes are batch items, directions, blocks of channels.
    """
    lane = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    reverse = tl.program_id(1) == 1
    c = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    mask = c < num_channels
    plane = 2 * tl.num_programs(0).to(tl.int64) * num_segments * num_channels
    w = tl.load(w_p + c, mask=mask, other=0.0)
    P, Q, RP, RQ, m = empty_state(BLOCK)
    for turn in range(0, num_segments, UNROLL):
        starts = ()
        held = ()
        for i in tl.static_range(UNROLL):
            segment = tl.where(reverse, num_segments - 1 - turn - i, turn + i)
            starts += ((lane * num_segments + segment) * num_channels,)
            inside = mask & (turn + i < num_segments)
            held += (load_state(sums_p, logs_p, starts[i], plane, c, inside, BLOCK, SLOPES),)
        for i in tl.static_range(UNROLL):
            inside = mask & (turn + i < num_segments)
            store_state(sums_p, logs_p, starts[i], plane, c, inside, (P, Q, RP, RQ, m), SLOPES)
            segment = tl.where(reverse, num_segments - 1 - turn - i, turn + i)
            count = tl.minimum(segment_steps, num_tokens - segment * segment_steps)
            own_P, own_Q, own_RP, own_RQ, own_m = held[i]
            faded = m - w * count
            top = tl.where(faded >= own_m, faded, own_m)
            before = exp(faded - top)
            own = exp(own_m - top)
            if SLOPES:
                RP = (RP + count * P) * before + own_RP * own
                RQ = (RQ + count * Q) * before + own_RQ * own
            P = P * before + own_P * own
            Q = Q * before + own_Q * own
            m = top


@triton.jit
def write_futures(
    w, key_p, a_p, b_p, order_p, sides_p, side_logs_p, sums_p, logs_p,
    batch, segment, begin, stop, c, mask, plane, num_tokens, num_channels, num_lanes, num_segments,
    BLOCK: tl.constexpr, UNROLL: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Walk a segment backwards and leave at every token the side of those after it."""
    side = ((num_lanes + batch) * num_segments + segment) * num_channels
    side_plane = 2 * num_lanes * num_segments * num_channels
    state = load_state(sides_p, side_logs_p, side, side_plane, c, mask, BLOCK, SLOPES)
    for turn in range(0, stop - begin, UNROLL):
        starts, inside = find_tokens(order_p, batch, turn, begin, stop, num_tokens, num_channels, True, UNROLL)
        keys = load_tokens(key_p, starts, inside, c, mask, UNROLL)
        a = load_tokens(a_p, starts, inside, c, mask, UNROLL)
        b = load_tokens(b_p, starts, inside, c, mask, UNROLL)
        for i in tl.static_range(UNROLL):
            store_state(sums_p, logs_p, starts[i], plane, c, mask & inside[i], state, SLOPES)
            state = step_away(state, w, keys[i].to(tl.float64), a[i], b[i], inside[i], SLOPES)
    tl.debug_barrier()
    side = (batch * num_segments + segment) * num_channels
    return load_state(sides_p, side_logs_p, side, side_plane, c, mask, BLOCK, SLOPES)


@triton.jit
def average_segments(
    w_p, u_p, k_p, v_p, order_p, sides_p, side_logs_p, sums_p, logs_p, y_p,
    num_tokens, num_channels, num_blocks, num_segments, segment_steps,
    BLOCK: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Write y from the sides of each segment; `sums` and `logs` are room for the side after every token."""
    batch, segment, begin, stop, c, mask = locate(
        num_blocks, num_segments, num_tokens, segment_steps, num_channels, BLOCK
    )
    num_lanes = (tl.num_programs(0) // (num_blocks * num_segments)).to(tl.int64)
    plane = num_lanes * num_tokens * num_channels
    w = tl.load(w_p + c, mask=mask, other=0.0)
    u = tl.load(u_p + c, mask=mask, other=0.0)
    state = write_futures(
        w, k_p, v_p, None, order_p, sides_p, side_logs_p, sums_p, logs_p, batch, segment, begin, stop, c, mask, plane,
        num_tokens, num_channels, num_lanes, num_segments, BLOCK, UNROLL, False,
    )  # fmt: skip
    for turn in range(0, stop - begin, UNROLL):
        starts, inside = find_tokens(order_p, batch, turn, begin, stop, num_tokens, num_channels, False, UNROLL)
        keys = load_tokens(k_p, starts, inside, c, mask, UNROLL)
        values = load_tokens(v_p, starts, inside, c, mask, UNROLL)
        futures = ()
        for i in tl.static_range(UNROLL):
            there = mask & inside[i]
            futures += (load_state(sums_p, logs_p, starts[i], plane, c, there, BLOCK, False),)
        ys = ()
        for i in tl.static_range(UNROLL):
            key = keys[i].to(tl.float64)
            y, _, _, _ = average(state, futures[i], u + key, values[i])
            ys += (y,)
            state = step_away(state, w, key, values[i], 1.0, inside[i], False)
        for i in tl.static_range(UNROLL):
            tl.store(y_p + starts[i] + c, ys[i], mask=mask & inside[i])


@triton.jit
def average(past, future, own_log, v):
    """The weighted mean; 1 / denominator, which lacks exp(-top); top; and the weight of the token itself."""
    top = tl.where(past[4] >= future[4], past[4], future[4])
    top = tl.where(top >= own_log, top, own_log)
    before = exp(past[4] - top)
    after = exp(future[4] - top)
    own = exp(own_log - top)
    part = 1.0 / (past[1] * before + future[1] * after + own)
    return (past[0] * before + future[0] * after + v * own) * part, part, top, own


@triton.jit
def share_segments(
    dy_p, w_p, u_p, k_p, v_p, order_p, sides_p, side_logs_p, sums_p, logs_p,
    share_p, shared_y_p, key_p, dk_p, dv_p, dw_p, du_p,
    num_tokens, num_channels, num_blocks, num_segments, segment_steps,
    BLOCK: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """First half of the backward pass: what each token passes back to all it saw, and to itself.

    With D_t the denominator of token t, token i receives exp(-(|t - i| - 1) w + k_i) / D_t times dy_t and dy_t y_t:
    two sides again, of `share` and `shared_y` with logarithm `key` of 1 / D_t. The gradients of w and u are written
    per batch item and segment, those of k and v hold the token's own part afterwards.
    """
    batch, segment, begin, stop, c, mask = locate(
        num_blocks, num_segments, num_tokens, segment_steps, num_channels, BLOCK
    )
    num_lanes = (tl.num_programs(0) // (num_blocks * num_segments)).to(tl.int64)
    plane = num_lanes * num_tokens * num_channels
    w = tl.load(w_p + c, mask=mask, other=0.0)
    u = tl.load(u_p + c, mask=mask, other=0.0)
    dw = tl.zeros((BLOCK,), tl.float64)
    du = tl.zeros((BLOCK,), tl.float64)
    state = write_futures(
        w, k_p, v_p, None, order_p, sides_p, side_logs_p, sums_p, logs_p, batch, segment, begin, stop, c, mask, plane,
        num_tokens, num_channels, num_lanes, num_segments, BLOCK, UNROLL, True,
    )  # fmt: skip
    for turn in range(0, stop - begin, UNROLL):
        starts, inside = find_tokens(order_p, batch, turn, begin, stop, num_tokens, num_channels, False, UNROLL)
        keys = load_tokens(k_p, starts, inside, c, mask, UNROLL)
        values = load_tokens(v_p, starts, inside, c, mask, UNROLL)
        dys = load_tokens(dy_p, starts, inside, c, mask, UNROLL)
        futures = ()
        for i in tl.static_range(UNROLL):
            there = mask & inside[i]
            futures += (load_state(sums_p, logs_p, starts[i], plane, c, there, BLOCK, True),)
        found = ()
        for i in tl.static_range(UNROLL):
            key = keys[i].to(tl.float64)
            y, part, top, own = average(state, futures[i], u + key, values[i])
            before = exp(state[4] - top)
            after = exp(futures[i][4] - top)
            share = dys[i] * part
            slope_P = state[2] * before + futures[i][2] * after
            slope_Q = state[3] * before + futures[i][3] * after
            dw -= (share * (slope_P - y * slope_Q)).to(tl.float64)
            dk = share * own * (values[i] - y)
            du += dk.to(tl.float64)
            found += ((share, share * y, -top, dk, share * own),)
            state = step_away(state, w, key, values[i], 1.0, inside[i], True)
        for i in tl.static_range(UNROLL):
            there = mask & inside[i]
            share, shared_y, key, dk, dv = found[i]
            tl.store(share_p + starts[i] + c, share, mask=there)
            tl.store(shared_y_p + starts[i] + c, shared_y, mask=there)
            tl.store(key_p + starts[i] + c, key, mask=there)
            tl.store(dk_p + starts[i] + c, dk, mask=there)
            tl.store(dv_p + starts[i] + c, dv, mask=there)
    start = (batch * num_segments + segment) * num_channels
    tl.store(dw_p + start + c, dw, mask=mask)
    tl.store(du_p + start + c, du, mask=mask)


@triton.jit
def spread_segments(
    w_p, k_p, v_p, share_p, shared_y_p, key_p, order_p, sides_p, side_logs_p, dk_p, dv_p,
    num_tokens, num_channels, num_blocks, num_segments, segment_steps,
    BLOCK: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Second half: add to the gradients of k and v what the tokens before pass back, then those after."""
    batch, segment, begin, stop, c, mask = locate(
        num_blocks, num_segments, num_tokens, segment_steps, num_channels, BLOCK
    )
    num_lanes = (tl.num_programs(0) // (num_blocks * num_segments)).to(tl.int64)
    side_plane = 2 * num_lanes * num_segments * num_channels
    w = tl.load(w_p + c, mask=mask, other=0.0)
    for direction in range(0, 2):
        side = ((direction * num_lanes + batch) * num_segments + segment) * num_channels
        state = load_state(sides_p, side_logs_p, side, side_plane, c, mask, BLOCK, False)
        for turn in range(0, stop - begin, UNROLL):
            starts, inside = find_tokens(
                order_p, batch, turn, begin, stop, num_tokens, num_channels, direction == 1, UNROLL
            )  # fmt: skip
            k = load_tokens(k_p, starts, inside, c, mask, UNROLL)
            v = load_tokens(v_p, starts, inside, c, mask, UNROLL)
            shares = load_tokens(share_p, starts, inside, c, mask, UNROLL)
            shared_ys = load_tokens(shared_y_p, starts, inside, c, mask, UNROLL)
            keys = load_tokens(key_p, starts, inside, c, mask, UNROLL)
            dks = load_tokens(dk_p, starts, inside, c, mask, UNROLL)
            dvs = load_tokens(dv_p, starts, inside, c, mask, UNROLL)
            found = ()
            for i in tl.static_range(UNROLL):
                reach = exp(k[i] + state[4])
                dv = dvs[i] + reach * state[0]
                dk = dks[i] + reach * (state[0] * v[i] - state[1])
                found += ((dk, dv),)
                state = step_away(state, w, keys[i], shares[i], shared_ys[i], inside[i], False)
            for i in tl.static_range(UNROLL):
                tl.store(dk_p + starts[i] + c, found[i][0], mask=mask & inside[i])
                tl.store(dv_p + starts[i] + c, found[i][1], mask=mask & inside[i])
        tl.debug_barrier()
