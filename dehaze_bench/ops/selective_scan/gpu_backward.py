"""Triton kernels of the selective scan, backward. Segments and shapes are those of `gpu_forward`."""

# mypy: ignore-errors
# Kernels are written in Triton's language, which only looks like Python.
from __future__ import annotations

import triton
import triton.language as tl

from dehaze_bench.ops.selective_scan.gpu_forward import (
    LN_2,
    add_or_store,
    advance,
    find_tile,
    load_deltas,
    load_rows,
    load_tokens,
    load_vector,
    locate,
    sigmoid,
)


@triton.jit
def load_dys(dy_p, z_p, dy_row, z_row, base, tokens, dy_offset, d, mask, UNROLL: tl.constexpr):
    """The gradient that reaches the output before its gate."""
    found = load_rows(dy_p, dy_row, base, tokens, dy_offset, mask, UNROLL)
    if z_p is not None:
        zs = load_rows(z_p, z_row, base, tokens, d, mask, UNROLL)
        ungated = ()
        for i in tl.static_range(UNROLL):
            ungated += (found[i] * zs[i] * sigmoid(zs[i]),)
        found = ungated
    return found


@triton.jit
def adjoint_segments(
    dy_p, delta_p, A_p, C_p, z_p, bias_p, index_p, ends_p, sums_p,
    dy_row, dy_route, delta_row, C_row, z_row,
    num_tokens, num_steps, num_routes, num_channels, num_groups, num_blocks, num_segments, segment_steps,
    N: tl.constexpr, PADDED_N: tl.constexpr, BLOCK_D: tl.constexpr, UNROLL: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """First pass of the adjoint: what reaches the state before each segment if nothing comes from after it."""
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
    g = tl.zeros((PADDED_N, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_D,), tl.float32)
    begin = segment * segment_steps
    stop = tl.minimum(begin + segment_steps, num_steps)
    count = tl.cdiv(stop - begin, UNROLL)
    for turn in range(0, count):
        first = begin + (count - 1 - turn) * UNROLL
        tokens = load_tokens(index_p, route, first, stop, num_steps, UNROLL)
        _raw, deltas = load_deltas(
            delta_p, delta_row, base, tokens, channel, mask, bias, first, stop, UNROLL, SOFTPLUS
        )  # fmt: skip
        dys = load_dys(dy_p, z_p, dy_row, z_row, base, tokens, route * dy_route + d, d, mask, UNROLL)
        Cs = load_rows(C_p, C_row, base, tokens, pair, n < N, UNROLL)
        for i in tl.static_range(UNROLL - 1, -1, -1):
            g = tl.exp2(deltas[i][None, :] * A) * (g + dys[i][None, :] * Cs[i][:, None])
            total += deltas[i]
    tl.store(ends_p + (lane * num_segments + segment) * tile_size + tile, g, mask=tile_mask)
    tl.store(sums_p + (lane * num_segments + segment) * (num_blocks * BLOCK_D) + d, total)


@triton.jit
def scan_backward(
    dy_p, u_p, delta_p, A_p, B_p, C_p, D_p, z_p, bias_p, index_p, states_p, after_p, scratch_p,
    du_p, ddelta_p, dA_p, dB_p, dC_p, dD_p, dz_p, dbias_p, dinitial_p,
    dy_row, dy_route, u_row, delta_row, B_row, C_row, z_row, du_row, du_route, dB_part,
    num_items, num_tokens, num_steps, num_routes, num_channels, num_groups, num_blocks, num_segments, segment_steps,
    N: tl.constexpr, PADDED_N: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, UNROLL: tl.constexpr,
    SOFTPLUS: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """Last pass of the adjoint: every gradient, one segment after another from its `after`, the adjoint at its end.

    With g_t the gradient that reaches the state after step t, decays a_t = exp(delta_t A), drive_t = delta_t u_t:
        g_t = a_{t+1} g_{t+1} + C_t dy_t          dC_t = sum_d h_t dy_t        dB_t = sum_d g_t drive_t
        r_t = g_t a_t h_{t-1}                     dA   = sum_t r_t delta_t     s_t  = sum_n g_t B_t
        ddelta_t = sum_n r_t A + u_t s_t          du_t = delta_t s_t + D dy_t
    States come from the saved state before each chunk: a walk up the chunk leaves one per `UNROLL` steps in `scratch`,
    private to the program, and the way back recomputes the rest in registers. So few programs are started, each with
    several items, that the scratch stays small. dA, dD and dbias are written per batch item and segment.
    """
    TILES: tl.constexpr = CHUNK // UNROLL
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        batch, route, group, part, segment, block, d, mask = locate(
            item, num_blocks, num_segments, num_routes, num_groups, num_channels, BLOCK_D
        )
        n, tile, tile_mask = find_tile(block, N, PADDED_N, BLOCK_D)
        tile_size = num_blocks * (N * BLOCK_D)
        lane = batch * num_routes + route
        pair = (route * num_groups + group) * N + n
        channel = route * num_channels + d
        base = batch * num_tokens
        private_p = scratch_p + tl.program_id(0).to(tl.int64) * (TILES * PADDED_N * BLOCK_D)
        slot = n[:, None] * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
        A = tl.load(A_p + route * tile_size + tile, mask=tile_mask, other=0.0)
        bias = load_vector(bias_p, route * num_channels, d, mask)
        skip = load_vector(D_p, route * num_channels, d, mask)
        g = load_vector(after_p, (lane * num_segments + segment) * tile_size, tile, tile_mask)
        dA = tl.zeros((PADDED_N, BLOCK_D), tl.float32)
        dD = tl.zeros((BLOCK_D,), tl.float32)
        dbias = tl.zeros((BLOCK_D,), tl.float32)
        begin = segment * segment_steps
        end = tl.minimum(begin + segment_steps, num_steps)
        num_chunks = tl.cdiv(end - begin, CHUNK)
        for turn in range(0, num_chunks):
            start = begin + (num_chunks - 1 - turn) * CHUNK
            stop = tl.minimum(start + CHUNK, end)
            num_tiles = tl.cdiv(stop - start, UNROLL)
            chunk = lane * tl.cdiv(num_steps, CHUNK) + start // CHUNK
            h = tl.load(states_p + chunk * tile_size + tile, mask=tile_mask, other=0.0)
            for t in range(0, num_tiles):
                tl.store(private_p + t * (PADDED_N * BLOCK_D) + slot, h)
                first = start + t * UNROLL
                tokens = load_tokens(index_p, route, first, stop, num_steps, UNROLL)
                us = load_rows(u_p, u_row, base, tokens, d, mask, UNROLL)
                _raw, deltas = load_deltas(
                    delta_p, delta_row, base, tokens, channel, mask, bias, first, stop, UNROLL, SOFTPLUS
                )  # fmt: skip
                Bs = load_rows(B_p, B_row, base, tokens, pair, n < N, UNROLL)
                for i in tl.static_range(UNROLL):
                    h = advance(h, A, deltas[i], deltas[i] * us[i], Bs[i])
            tl.debug_barrier()
            for back in range(0, num_tiles):
                t = num_tiles - 1 - back
                first = start + t * UNROLL
                tokens = load_tokens(index_p, route, first, stop, num_steps, UNROLL)
                us = load_rows(u_p, u_row, base, tokens, d, mask, UNROLL)
                raw, deltas = load_deltas(
                    delta_p, delta_row, base, tokens, channel, mask, bias, first, stop, UNROLL, SOFTPLUS
                )  # fmt: skip
                Bs = load_rows(B_p, B_row, base, tokens, pair, n < N, UNROLL)
                Cs = load_rows(C_p, C_row, base, tokens, pair, n < N, UNROLL)
                dys = load_rows(dy_p, dy_row, base, tokens, route * dy_route + d, mask, UNROLL)
                h = tl.load(private_p + t * (PADDED_N * BLOCK_D) + slot)
                befores = ()
                dCs = ()
                if z_p is not None:
                    zs = load_rows(z_p, z_row, base, tokens, d, mask, UNROLL)
                    ungated = ()
                    dzs = ()
                for i in tl.static_range(UNROLL):
                    befores += (h,)
                    h = advance(h, A, deltas[i], deltas[i] * us[i], Bs[i])
                    dy = dys[i]
                    if z_p is not None:
                        gate = sigmoid(zs[i])
                        y = tl.sum(h * Cs[i][:, None], 0) + skip * us[i]
                        dzs += (dy * y * gate * (1.0 + zs[i] * (1.0 - gate)),)
                        dy = dy * zs[i] * gate
                        ungated += (dy,)
                    dCs += (tl.sum(h * dy[None, :], 1),)
                if z_p is not None:
                    dys = ungated
                dus = ()
                ddeltas = ()
                dBs = ()
                for i in tl.static_range(UNROLL - 1, -1, -1):
                    g += dys[i][None, :] * Cs[i][:, None]
                    s = tl.sum(g * Bs[i][:, None], 0)
                    dBs += (tl.sum(g * (deltas[i] * us[i])[None, :], 1),)
                    g *= tl.exp2(deltas[i][None, :] * A)
                    r = g * befores[i]
                    dA += r * deltas[i][None, :]
                    ddelta = tl.sum(r * A, 0) * LN_2 + us[i] * s
                    if SOFTPLUS:
                        ddelta *= tl.where(raw[i] > 20.0, 1.0, sigmoid(raw[i]))
                    ddelta = tl.where(first + i < stop, ddelta, 0.0)
                    ddeltas += (ddelta,)
                    dus += (deltas[i] * s + skip * dys[i],)
                    dbias += ddelta
                    dD += dys[i] * us[i]
                for i in tl.static_range(UNROLL):
                    there = tokens[i] >= 0
                    row = base + tokens[i]
                    ddelta = ddeltas[UNROLL - 1 - i]
                    if not ADD:
                        ddelta = tl.where(there, ddelta, 0.0)
                        there = first + i < stop
                        row = batch * num_steps + first + i
                    seen = mask & there
                    start_u = row * du_row + route * du_route
                    start_B = part.to(tl.int64) * dB_part + (row * num_routes + route) * num_groups * N + group * N
                    add_or_store(du_p, start_u, d, dus[UNROLL - 1 - i], seen, ADD)
                    add_or_store(ddelta_p, (row * num_routes + route) * num_channels, d, ddelta, seen, ADD)
                    if z_p is not None:
                        add_or_store(dz_p, start_u, d, dzs[i], seen, ADD)
                    add_or_store(dB_p, start_B, n, dBs[UNROLL - 1 - i], (n < N) & there, ADD)
                    add_or_store(dC_p, start_B, n, dCs[i], (n < N) & there, ADD)
            tl.debug_barrier()
        tl.store(dinitial_p + lane * tile_size + tile, g, mask=tile_mask & (segment == 0))
        row = (batch * num_segments + segment) * num_routes + route
        tl.store(dA_p + row * tile_size + tile, dA, mask=tile_mask)
        tl.store(dD_p + row * (num_blocks * BLOCK_D) + d, dD)
        tl.store(dbias_p + row * (num_blocks * BLOCK_D) + d, dbias)
