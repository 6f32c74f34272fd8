"""The Triton twin of bi-WKV: tensors and launches for `gpu_kernels`.

Shapes: B batch, L tokens, C channels, S segments. The order is cut into as many segments as fill the device. Sums are
float32, logarithms of weights float64. Memory is linear in L: 16 bytes per number of k forward and 40 backward, freed
afterwards. Nothing is added atomically, so results do not change from run to run.

Compiled for sm_80 and sm_90 and run in Triton's interpreter; block sizes are derived, not measured on a device.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from dehaze_bench.ops import programs

BLOCK = 32  # channels of a program: one per thread of a warp
UNROLL = 4  # steps whose loads are in flight together
SEGMENT = 64  # a segment has at least so many steps
WARPS_PER_PROCESSOR = 16


def scan(w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None) -> Tensor:
    """Return y in float32; w and u are already divided by the number of tokens."""
    from dehaze_bench.ops.wkv.gpu_kernels import average_segments

    w, u, k, v, order, sizes = _inputs(w_C, u_C, k_BLC, v_BLC, order_L)
    sides = _find_sides(w, k, v, None, order, sizes, slopes=False)
    futures = _room(2, k.shape, k.device)
    y = torch.empty(k.shape, dtype=torch.float32, device=k.device)
    _launch(average_segments, _grid(k, sizes), w, u, k, v, order, *sides, *futures, y, *sizes)
    return y


def scan_backward(
    dy_BLC: Tensor, w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w, u (float64), k and v (float32)."""
    from dehaze_bench.ops.wkv.gpu_kernels import share_segments, spread_segments

    w, u, k, v, order, sizes = _inputs(w_C, u_C, k_BLC, v_BLC, order_L)
    empty = functools.partial(torch.empty, device=k.device)
    share, shared_y, dk, dv = (empty(k.shape, dtype=torch.float32) for _ in range(4))
    key = empty(k.shape, dtype=torch.float64)
    dw_BSC, du_BSC = (empty((len(k), sizes[3], k.shape[2]), dtype=torch.float64) for _ in range(2))
    sides = _find_sides(w, k, v, None, order, sizes, slopes=True)
    inputs = (dy_BLC.float().contiguous(), w, u, k, v, order, *sides, *_room(4, k.shape, k.device))
    outputs = (share, shared_y, key, dk, dv, dw_BSC, du_BSC)
    _launch(share_segments, _grid(k, sizes), *inputs, *outputs, *sizes)
    sides = _find_sides(w, key, share, shared_y, order, sizes, slopes=False)
    _launch(spread_segments, _grid(k, sizes), w, k, v, share, shared_y, key, order, *sides, dk, dv, *sizes)
    return dw_BSC.sum((0, 1)), du_BSC.sum((0, 1)), dk, dv


def _inputs(
    w_C: Tensor, u_C: Tensor, k_BLC: Tensor, v_BLC: Tensor, order_L: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, tuple[int, ...]]:
    """The tensors as kernels read them, and the sizes that every kernel takes.

    Sizes are tokens, channels, blocks of channels, segments and their steps.
    """
    batch, num_tokens, num_channels = k_BLC.shape
    num_blocks = math.ceil(num_channels / BLOCK)
    wanted = max(1, WARPS_PER_PROCESSOR * programs.count_processors(k_BLC.device) // (batch * num_blocks))
    steps = max(SEGMENT, math.ceil(num_tokens / wanted))
    sizes = (num_tokens, num_channels, num_blocks, math.ceil(num_tokens / steps), steps)
    w, u = (x.double().contiguous() for x in (w_C, u_C))
    k, v = (x.float().contiguous() for x in (k_BLC, v_BLC))
    return w, u, k, v, None if order_L is None else order_L.contiguous(), sizes


def _grid(k: Tensor, sizes: tuple[int, ...]) -> tuple[int]:
    return (len(k) * sizes[2] * sizes[3],)


def _room(num_sums: int, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Memory for states: their sums, and the logarithms of their factors."""
    sums = torch.empty((num_sums, *shape), dtype=torch.float32, device=device)
    return sums, torch.empty(shape, dtype=torch.float64, device=device)


def _find_sides(
    w: Tensor, key: Tensor, a: Tensor, b: Tensor | None, order: Tensor | None, sizes: tuple[int, ...], slopes: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return what lies before each segment and after it, as (sums, logarithms); nothing if there is one segment."""
    from dehaze_bench.ops.wkv.gpu_kernels import carry_sides, side_segments

    num_tokens, num_channels, num_blocks, num_segments, segment_steps = sizes
    if num_segments == 1:
        return None, None
    batch = len(key)
    sums, logs = _room(4 if slopes else 2, (2, batch, num_segments, num_channels), key.device)
    _launch(side_segments, (*_grid(key, sizes), 2), w, key, a, b, order, sums, logs, *sizes, SLOPES=slopes)
    rest = (num_tokens, num_channels, num_segments, segment_steps)
    _launch(carry_sides, (batch, 2, num_blocks), w, sums, logs, *rest, SLOPES=slopes)
    return sums, logs


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    programs.launch(kernel, grid, *arguments, **options, BLOCK=BLOCK, UNROLL=UNROLL, num_warps=1)
