"""The Triton twin: prepares tensors and launches the kernels in `gpu_forward` and `gpu_backward`.

Shapes: B batch, L tokens, K routes, D channels, G groups, N states, S steps, P parts; X is what one token has. States
lie as T, tiles of N times a block of channels: (blocks, N, BLOCK_D), padded to whole blocks.

A route is cut into as many segments as fill the device (one if batch, routes and channels fill it anyway). Memory
beyond the results: a state per segment while a pass runs, one per `CHUNK` steps kept for the backward pass, and there
a scratch of 2 CHUNK / UNROLL states of 32 channels for every warp that resides.

Where several steps may meet at a token (an index, or routes that are merged) results are added atomically, in whatever
order the device takes: the sum of three or more float32 numbers may then differ in the last bits from run to run. Under
`torch.use_deterministic_algorithms(True)` every step gets its own row instead and torch adds the rows: reproducible, at
the price of a buffer per route. All else is reproducible anyway, and no result depends on the segments by more than
rounding.

Compiled for sm_80 and sm_90 and run in Triton's interpreter; block sizes are derived, not measured on a device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.ops import programs

CHUNK = 64  # steps between saved states
UNROLL = 4  # steps whose loads are in flight together; half as many backward and half with many states; divides CHUNK
BLOCK_D = 32  # channels of a program
STATES_PER_WARP = 16  # with a block of 32 channels, a thread holds 16 numbers of a state: more would spill
WARPS_PER_PROCESSOR = 16  # that the registers let reside; half as many in the backward pass
CARRY_BLOCK, CARRY_UNROLL = 128, 8
LOG2_E = math.log2(math.e)


def states_shape(
    batch: int, num_routes: int, num_steps: int, num_channels: int, num_states: int
) -> tuple[int, int, int, int]:
    """The shape of the saved states: one before every `CHUNK` steps, with room for whole blocks of channels."""
    return batch, num_routes, math.ceil(num_steps / CHUNK), math.ceil(num_channels / BLOCK_D) * BLOCK_D * num_states


def scan(
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_KD: Tensor | None,
    delta_softplus: bool,
    index_KS: Tensor | None,
    initial_BKDN: Tensor | None,
    merged: bool,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (B, L, D) if merged, else (B, L, K, D); the last states; and those that `scan_backward` starts from."""
    from dehaze_bench.ops.selective_scan import gpu_forward as kernels

    batch, num_tokens, num_channels = u_BLD.shape
    num_routes, _, num_states = A_KDN.shape
    num_steps = num_tokens if index_KS is None else index_KS.shape[1]
    add = _must_add(index_KS, num_routes, merged)
    sizes, options = _plan(u_BLD, B_BLKGN, num_steps, WARPS_PER_PROCESSOR)
    num_blocks, num_segments = sizes[-3:-1]
    lanes = (batch, num_routes)
    block, width = options["BLOCK_D"], num_blocks * options["BLOCK_D"]
    tensors, rows = _prepare(u_BLD, delta_BLKD, A_KDN, B_BLKGN, C_BLKGN, D_KD, z_BLD, delta_bias_KD, index_KS, block)
    index = tensors[-1]

    empty = functools.partial(torch.empty, dtype=torch.float32, device=u_BLD.device)
    y = _new_rows(u_BLD, num_steps, (num_routes, num_channels), merged, add)
    last_BKT = empty((*lanes, width * num_states))
    states = empty(states_shape(*lanes, num_steps, num_channels, num_states)) if save_states else None
    y_strides = (num_channels, 0) if add and merged else (num_routes * num_channels, num_channels)

    def run(before: Tensor | None, y: Tensor | None, *outputs: Tensor | None) -> None:
        arguments = (*tensors, before, y, *outputs, *rows, *y_strides, num_tokens, num_steps, *sizes)
        flags = {"CHUNK": CHUNK, "SOFTPLUS": delta_softplus, "ADD": add}
        programs.launch(kernels.scan_segments, (_count_items(batch, sizes),), *arguments, **options, **flags)

    before = None if initial_BKDN is None else _pack(initial_BKDN, block)
    if num_segments > 1:
        ends, sums = empty((*lanes, num_segments, width * num_states)), empty((*lanes, num_segments, width))
        run(None, None, None, None, ends, sums)
        before = _carry(ends, sums, tensors[2], before, options, reverse=False)
    run(before, y, last_BKT, states, None, None)
    if not add:
        y = _settle(y, index, num_tokens, merged)
    return y, _unpack(last_BKT, num_channels, num_states, block), empty(0) if states is None else states


def scan_backward(
    dy: Tensor,
    dlast_BKDN: Tensor,
    states: Tensor,
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_KD: Tensor | None,
    delta_softplus: bool,
    index_KS: Tensor | None,
    merged: bool,
) -> dict[str, Tensor]:
    """Return the gradients by name, float32, in the shapes of the inputs; "z" is missing where z is."""
    from dehaze_bench.ops.selective_scan import gpu_backward as kernels

    batch, num_tokens, num_channels = u_BLD.shape
    num_routes, num_groups, num_states = B_BLKGN.shape[2:]
    num_steps = num_tokens if index_KS is None else index_KS.shape[1]
    add = _must_add(index_KS, num_routes, True)
    warps = WARPS_PER_PROCESSOR // 2
    sizes, options = _plan(u_BLD, B_BLKGN, num_steps, warps)
    num_blocks, num_segments = sizes[-3:-1]
    num_items = _count_items(batch, sizes)
    lanes = (batch, num_routes)
    block, width = options["BLOCK_D"], num_blocks * options["BLOCK_D"]
    tensors, rows = _prepare(u_BLD, delta_BLKD, A_KDN, B_BLKGN, C_BLKGN, D_KD, z_BLD, delta_bias_KD, index_KS, block)
    _, delta, A_KT, _, C, _, z, bias, index = tensors
    dy, dy_row = _rows(dy)
    dy_strides = (dy_row, 0 if merged else num_channels)
    flags = {**options, "SOFTPLUS": delta_softplus}

    empty = functools.partial(torch.empty, dtype=torch.float32, device=u_BLD.device)
    after = _pack(dlast_BKDN, block)
    if num_segments > 1:
        ends, sums = empty((*lanes, num_segments, width * num_states)), empty((*lanes, num_segments, width))
        arguments = (dy, delta, A_KT, C, z, bias, index, ends, sums, *dy_strides, rows[1], *rows[3:])
        programs.launch(kernels.adjoint_segments, (num_items,), *arguments, num_tokens, num_steps, *sizes, **flags)
        after = _carry(ends, sums, A_KT, after, options, reverse=True)

    new_rows = functools.partial(_new_rows, u_BLD, num_steps, add=add)
    du, ddelta = (new_rows((num_routes, num_channels), merged) for merged in (True, False))
    dz = None if z is None else torch.zeros_like(du) if add else torch.empty_like(du)
    num_parts = 1 if add else num_blocks // num_groups
    dB, dC = (new_rows((num_routes, num_groups, num_states), False, parts=num_parts) for _ in "BC")
    dA_BSKT = empty((batch, num_segments, num_routes, width * num_states))
    dD_BSKD, dbias_BSKD = (empty((batch, num_segments, num_routes, width)) for _ in range(2))
    dinitial_BKT = empty((*lanes, width * num_states))
    num_programs = min(num_items, max(1, warps * programs.count_processors(u_BLD.device) // options["num_warps"]))
    unroll = options["UNROLL"] // 2
    scratch = empty((num_programs, CHUNK // unroll, options["PADDED_N"], block))
    du_strides = (num_channels, 0) if add else (num_routes * num_channels, num_channels)
    programs.launch(
        kernels.scan_backward,
        (num_programs,),
        *(dy, *tensors, states, after, scratch),
        *(du, ddelta, dA_BSKT, dB, dC, dD_BSKD, dz, dbias_BSKD, dinitial_BKT),
        *(*dy_strides, *rows, *du_strides, 0 if add else dB[0].numel()),
        *(num_items, num_tokens, num_steps, *sizes),
        **{**flags, "UNROLL": unroll},
        CHUNK=CHUNK,
        ADD=add,
    )
    found = {"u": (du, True), "delta": (ddelta, False), "B": (_sum_parts(dB), False), "C": (_sum_parts(dC), False)}
    if dz is not None:
        found["z"] = (dz, True)
    settled = {name: x if add else _settle(x, index, num_tokens, merge) for name, (x, merge) in found.items()}
    return settled | {
        "A": _unpack(dA_BSKT.sum((0, 1)), num_channels, num_states, block),
        "D": dD_BSKD.sum((0, 1))[:, :num_channels],
        "delta_bias": dbias_BSKD.sum((0, 1))[:, :num_channels],
        "initial": _unpack(dinitial_BKT, num_channels, num_states, block),
    }


def _plan(u_BLD: Tensor, B_BLKGN: Tensor, num_steps: int, warps: int) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return the sizes that every kernel takes, and its compile-time constants.

    Sizes are routes, channels, groups, blocks of channels (none crosses a group), segments and their steps. So many
    segments that `warps` reside on every multiprocessor; two would do everything twice to halve it: three, or one.
    """
    batch, _, num_channels = u_BLD.shape
    num_routes, num_groups, num_states = B_BLKGN.shape[2:]
    group_size = num_channels // num_groups
    padded = _power_of_2(num_states)
    block = min(BLOCK_D, _power_of_2(group_size) if num_groups == 1 else group_size & -group_size)
    num_warps = max(1, padded // STATES_PER_WARP)
    num_blocks = math.ceil(num_channels / block)
    wanted = warps * programs.count_processors(u_BLD.device) // (batch * num_routes * num_blocks * num_warps)
    num_chunks = math.ceil(num_steps / CHUNK)
    chunks = num_chunks if wanted < 3 else math.ceil(num_chunks / wanted)
    sizes = (num_routes, num_channels, num_groups, num_blocks, math.ceil(num_chunks / chunks), chunks * CHUNK)
    unroll = UNROLL if num_warps == 1 else UNROLL // 2
    return sizes, {"N": num_states, "PADDED_N": padded, "BLOCK_D": block, "UNROLL": unroll, "num_warps": num_warps}


def _prepare(
    u_BLD: Tensor,
    delta_BLKD: Tensor,
    A_KDN: Tensor,
    B_BLKGN: Tensor,
    C_BLKGN: Tensor,
    D_KD: Tensor | None,
    z_BLD: Tensor | None,
    delta_bias_KD: Tensor | None,
    index_KS: Tensor | None,
    block: int,
) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The inputs as kernels read them, and the distances between tokens of u, delta, B, C and z."""
    (u, u_row), (delta, delta_row), (B, B_row), (C, C_row) = (_rows(x) for x in (u_BLD, delta_BLKD, B_BLKGN, C_BLKGN))
    z, z_row = (None, 0) if z_BLD is None else _rows(z_BLD)
    skip, bias = (None if x is None else x.float().contiguous() for x in (D_KD, delta_bias_KD))
    index = None if index_KS is None else index_KS.contiguous()
    tensors = (u, delta, _pack(A_KDN.float() * LOG2_E, block), B, C, skip, z, bias, index)
    return tensors, (u_row, delta_row, B_row, C_row, z_row)


def _pack(x: Tensor, block: int) -> Tensor:
    """(.., D, N) to (.., T), with zeros up to a whole block of channels."""
    x = F.pad(x.float(), (0, 0, 0, -x.shape[-2] % block))
    return x.unflatten(-2, (-1, block)).mT.flatten(-3).contiguous()


def _unpack(x: Tensor, num_channels: int, num_states: int, block: int) -> Tensor:
    """The inverse of `_pack`."""
    return x.unflatten(-1, (-1, num_states, block)).mT.flatten(-3, -2)[..., :num_channels, :].contiguous()


def _count_items(batch: int, sizes: tuple[int, ...]) -> int:
    num_routes, _, _, num_blocks, num_segments, _ = sizes
    return batch * num_routes * num_blocks * num_segments


def _carry(
    ends_BKST: Tensor, sums: Tensor, A_KT: Tensor, first: Tensor | None, options: dict[str, int], reverse: bool
) -> Tensor:
    """Turn the end states of segments, in place, into the states that they begin with."""
    from dehaze_bench.ops.selective_scan.gpu_forward import carry

    batch, num_routes, num_segments, tile_size = ends_BKST.shape
    states, block = options["N"], options["BLOCK_D"]
    grid = (batch * num_routes, math.ceil(tile_size / CARRY_BLOCK))
    arguments = (ends_BKST, sums, A_KT, first, num_segments, num_routes, tile_size // (states * block))
    flags = {"N": states, "BLOCK_D": block, "BLOCK": CARRY_BLOCK, "UNROLL": CARRY_UNROLL, "REVERSE": reverse}
    programs.launch(carry, grid, *arguments, **flags, num_warps=CARRY_BLOCK // 32)
    return ends_BKST


def _must_add(index_KS: Tensor | None, num_routes: int, merged: bool) -> bool:
    """Whether steps may meet at a token, so that results are added and not stored."""
    if torch.are_deterministic_algorithms_enabled():
        return False
    return index_KS is not None or (merged and num_routes > 1)


def _new_rows(
    u_BLD: Tensor, num_steps: int, shape: tuple[int, ...], merged: bool, add: bool, parts: int | None = None
) -> Tensor:
    """What kernels write at tokens (zeros to add to) or, one row per step, leave to `_settle`."""
    batch, num_tokens, _ = u_BLD.shape
    lead = () if parts is None else (parts,)
    create: Callable[..., Tensor] = torch.zeros if add else torch.empty
    full = (*lead, batch, num_tokens, *(shape[1:] if merged else shape)) if add else (*lead, batch, num_steps, *shape)
    return create(full, dtype=torch.float32, device=u_BLD.device)


def _settle(x_BSKX: Tensor, index_KS: Tensor | None, num_tokens: int, merged: bool) -> Tensor:
    """Add the rows of steps to their tokens, in a fixed order under deterministic algorithms; padding rows are zero."""
    batch, _, num_routes, *shape = x_BSKX.shape
    if index_KS is None and merged:
        return x_BSKX[:, :, 0] if num_routes == 1 else x_BSKX.sum(2)
    if index_KS is None:
        return x_BSKX
    found = x_BSKX.new_zeros((batch, num_tokens, *(() if merged else (num_routes,)), *shape))
    for k in range(num_routes):
        target = found if merged else found[:, :, k]
        target.index_add_(1, index_KS[k].clamp(min=0), x_BSKX[:, :, k])
    return found


def _sum_parts(x_PBLKGN: Tensor) -> Tensor:
    return x_PBLKGN[0] if len(x_PBLKGN) == 1 else x_PBLKGN.sum(0)


def _rows(x: Tensor) -> tuple[Tensor, int]:
    """A tensor (B, L, ..) with one distance between tokens and their numbers side by side, and that distance.

    A slice of a wider tensor is such a one: it is not copied.
    """
    batch, length = x.shape[:2]
    even = batch == 1 or length == 1 or x.stride(0) == length * x.stride(1)
    if not (even and x[0, 0].is_contiguous()):
        x = x.contiguous()
    return x, x.stride(1) if length > 1 else x.stride(0)


def _power_of_2(x: int) -> int:
    return 1 << max(0, x - 1).bit_length()
