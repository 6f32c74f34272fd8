"""Triton kernels of the selective scan: segments of a route in parallel, the steps of a segment one after another.

A first pass runs every segment from the zero state. All that a segment does to a state h is exp(sum(delta) A) h + end,
so `carry` then finds the state that each really begins with, and the last pass runs again from there. The adjoint does
the same from the end. Nothing is approximated; with one segment only the last pass runs.

Shapes: N states, D channels of a block; tiles are (N, D). `UNROLL` steps are loaded before the first is computed and
stored after the last, for memory latency: a compiler must not move a load across a store. Steps past the end have
delta = 0 and no input: they change nothing. Padding (token -1) has no input either, but decays.
"""

# mypy: ignore-errors
# Kernels are written in Triton's language, which only looks like Python.
from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def exp(x):
    return tl.exp2(x * LOG2_E)


@triton.jit
def softplus(x):
    """log(1 + e**x) to 4e-7 relative, by log(1 + e) = 2 artanh(e / (2 + e)): 1 + e itself would lose a small e."""
    e = exp(-tl.abs(x))
    s = e / (2.0 + e)
    q = s * s
    p = q * (1.0 / 15.0) + 1.0 / 13.0
    p = p * q + 1.0 / 11.0
    p = p * q + 1.0 / 9.0
    p = p * q + 1.0 / 7.0
    p = p * q + 1.0 / 5.0
    p = p * q + 1.0 / 3.0
    p = p * q + 1.0
    return tl.where(x > 20.0, x, tl.maximum(x, 0.0) + 2.0 * s * p)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + exp(-x))


@triton.jit
def locate(item, num_blocks, num_segments, num_routes, num_groups, num_channels, BLOCK_D: tl.constexpr):
    """Split a work item into batch item, route, group, block within the group, segment, block, channels and their mask.

    Blocks of channels are the fastest index: neighbours share the tokens, B and C. None crosses a group.
    """
    block = item % num_blocks
    segment = (item // num_blocks) % num_segments
    route = (item // (num_blocks * num_segments)) % num_routes
    batch = item // (num_blocks * num_segments * num_routes)
    per_group = num_blocks // num_groups
    d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    return batch.to(tl.int64), route, block // per_group, block % per_group, segment, block, d, d < num_channels


@triton.jit
def find_tile(block, N: tl.constexpr, PADDED_N: tl.constexpr, BLOCK_D: tl.constexpr):
    """States n, where they lie for the channels of a block among (blocks, N, BLOCK_D), and their mask."""
    n = tl.arange(0, PADDED_N)
    return n, block * (N * BLOCK_D) + n[:, None] * BLOCK_D + tl.arange(0, BLOCK_D)[None, :], (n < N)[:, None]


@triton.jit
def load_tokens(index_p, route, first, stop, num_steps, UNROLL: tl.constexpr):
    """The tokens of `UNROLL` steps, -1 for padding and past the end."""
    tokens = ()
    for i in tl.static_range(UNROLL):
        step = first + i
        if index_p is None:
            token = tl.where(step < stop, step, -1).to(tl.int64)
        else:
            token = tl.load(index_p + route * num_steps + step, mask=step < stop, other=-1).to(tl.int64)
        tokens += (token,)
    return tokens


@triton.jit
def load_rows(x_p, row, base, tokens, offset, mask, UNROLL: tl.constexpr):
    """One vector per token, float32; zeros for padding. Token t begins at (base + t) * row."""
    found = ()
    for i in tl.static_range(UNROLL):
        x = tl.load(x_p + (base + tokens[i]) * row + offset, mask=mask & (tokens[i] >= 0), other=0.0)
        found += (x.to(tl.float32),)
    return found


@triton.jit
def load_deltas(
    delta_p, row, base, tokens, offset, mask, bias, first, stop, UNROLL: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """The step sizes before and after the softplus; the latter are 0 past the end."""
    raw = ()
    deltas = ()
    rows = load_rows(delta_p, row, base, tokens, offset, mask, UNROLL)
    for i in tl.static_range(UNROLL):
        x = rows[i] + bias
        delta = softplus(x) if SOFTPLUS else x
        raw += (x,)
        deltas += (tl.where(first + i < stop, delta, 0.0),)
    return raw, deltas


@triton.jit
def load_vector(x_p, start, offset, mask):
    """float32 numbers, or zeros where there is no tensor."""
    if x_p is None:
        x = tl.zeros(offset.shape, tl.float32)
    else:
        x = tl.load(x_p + start + offset, mask=mask, other=0.0)
    return x


@triton.jit
def advance(h, A, delta, drive, B):
    """One step of the recurrence on a tile (N, D)."""
    return tl.exp2(delta[None, :] * A) * h + drive[None, :] * B[:, None]


@triton.jit
def add_or_store(x_p, start, offset, x, mask, ADD: tl.constexpr):
    if ADD:
        tl.atomic_add(x_p + start + offset, x, mask=mask, sem="relaxed")
    else:
        tl.store(x_p + start + offset, x, mask=mask)


@triton.jit
def scan_segments(
    u_p, delta_p, A_p, B_p, C_p, D_p, z_p, bias_p, index_p, before_p, y_p, last_p, states_p, ends_p, sums_p,
    u_row, delta_row, B_row, C_row, z_row, y_row, y_route,
    num_tokens, num_steps, num_routes, num_channels, num_groups, num_blocks, num_segments, segment_steps,
    N: tl.constexpr, PADDED_N: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, UNROLL: tl.constexpr,
    SOFTPLUS: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """Run every segment from its state in `before` (none: zero).

    Without `y`, the first pass: write the end state and the sum of delta. With it, write y, the last state and (where
    asked) the state before each chunk. A is already multiplied by log2(e) and, like all states, (.., N, D). y is
    added at the token (`ADD`) or stored at the step.
    """
    batch, route, group, _part, segment, block, d, mask = locate(
        tl.program_id(0), num_blocks, num_segments, num_routes, num_groups, num_channels, BLOCK_D
    )
    n, tile, tile_mask = find_tile(block, N, PADDED_N, BLOCK_D)
    tile_size = num_blocks * (N * BLOCK_D)
    lane = batch * num_routes + route
    pair = (route * num_groups + group) * N + n
    channel = route * num_channels + d
    base = batch * num_tokens
    A = tl.load(A_p + route * tile_size + tile, mask=tile_mask, other=0.0)
    bias = load_vector(bias_p, route * num_channels, d, mask)
    skip = load_vector(D_p, route * num_channels, d, mask)
    h = load_vector(before_p, (lane * num_segments + segment) * tile_size, tile, tile_mask)
    total = tl.zeros((BLOCK_D,), tl.float32)
    begin = segment * segment_steps
    stop = tl.minimum(begin + segment_steps, num_steps)
    for first in range(begin, stop, UNROLL):
        if states_p is not None:  # noqa: SIM102 - known when compiling, unlike the next condition
            if first % CHUNK == 0:
                chunk = lane * tl.cdiv(num_steps, CHUNK) + first // CHUNK
                tl.store(states_p + chunk * tile_size + tile, h, mask=tile_mask)
        tokens = load_tokens(index_p, route, first, stop, num_steps, UNROLL)
        us = load_rows(u_p, u_row, base, tokens, d, mask, UNROLL)
        _raw, deltas = load_deltas(
            delta_p, delta_row, base, tokens, channel, mask, bias, first, stop, UNROLL, SOFTPLUS
        )  # fmt: skip
        Bs = load_rows(B_p, B_row, base, tokens, pair, n < N, UNROLL)
        if y_p is None:
            for i in tl.static_range(UNROLL):
                h = advance(h, A, deltas[i], deltas[i] * us[i], Bs[i])
                total += deltas[i]
        else:
            Cs = load_rows(C_p, C_row, base, tokens, pair, n < N, UNROLL)
            ys = ()
            for i in tl.static_range(UNROLL):
                h = advance(h, A, deltas[i], deltas[i] * us[i], Bs[i])
                ys += (tl.sum(h * Cs[i][:, None], 0) + skip * us[i],)
            if z_p is not None:
                zs = load_rows(z_p, z_row, base, tokens, d, mask, UNROLL)
                gated = ()
                for i in tl.static_range(UNROLL):
                    gated += (ys[i] * zs[i] * sigmoid(zs[i]),)
                ys = gated
            for i in tl.static_range(UNROLL):
                there = tokens[i] >= 0
                row = base + tokens[i]
                if not ADD:
                    there = first + i < stop
                    row = batch * num_steps + first + i
                add_or_store(y_p, row * y_row + route * y_route, d, ys[i], mask & there, ADD)
    if y_p is None:
        tl.store(ends_p + (lane * num_segments + segment) * tile_size + tile, h, mask=tile_mask)
        tl.store(sums_p + (lane * num_segments + segment) * (num_blocks * BLOCK_D) + d, total)
    else:
        tl.store(last_p + lane * tile_size + tile, h, mask=tile_mask & (segment == num_segments - 1))


@triton.jit
def carry(
    ends_p, sums_p, A_p, first_p, num_segments, num_routes, num_blocks,
    N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, UNROLL: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Replace every segment's end state by the state it begins with (`REVERSE`: the adjoint it ends with).

    One thread per number of a state, one after another over the segments.
    """
    lane = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tile_size = num_blocks * (N * BLOCK_D)
    mask = at < tile_size
    d = at // (N * BLOCK_D) * BLOCK_D + at % BLOCK_D
    A = tl.load(A_p + (lane % num_routes) * tile_size + at, mask=mask, other=0.0)
    h = load_vector(first_p, lane * tile_size, at, mask)
    for base in range(0, num_segments, UNROLL):
        rows = ()
        ends = ()
        sums = ()
        for i in tl.static_range(UNROLL):
            segment = num_segments - 1 - base - i if REVERSE else base + i
            inside = mask & (base + i < num_segments)
            row = lane * num_segments + segment
            rows += (row,)
            ends += (tl.load(ends_p + row * tile_size + at, mask=inside, other=0.0),)
            sums += (tl.load(sums_p + row * (num_blocks * BLOCK_D) + d, mask=inside, other=0.0),)
        for i in tl.static_range(UNROLL):
            tl.store(ends_p + rows[i] * tile_size + at, h, mask=mask & (base + i < num_segments))
            h = tl.exp2(A * sums[i]) * h + ends[i]
