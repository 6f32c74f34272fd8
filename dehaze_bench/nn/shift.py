"""Token shifts of the RWKV line: neighbours lend a part of their channels.

Shape legend: B batch, L tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError


def q_shift(x_BLC: Tensor, grid: tuple[int, int], shift: int = 1, fraction: float = 0.25) -> Tensor:
    """Return x with four groups of channels taken from the left, right, upper and lower neighbour.

    `x_BLC` holds H*W tokens in raster order; each group has int(C * fraction) channels; what lies outside the
    grid is zero and the remaining channels stay (Vision-RWKV, arXiv 2403.02308, section 3.2).
    """
    height, width = grid
    batch, length, channels = x_BLC.shape
    if length != height * width:
        raise UsageError(f"q_shift got {length} tokens for a grid of {height}x{width} = {height * width}")
    if not 0 < fraction <= 0.25:
        raise UsageError(f"q_shift moves four groups of channels: fraction must be in (0, 0.25], not {fraction}")
    x = x_BLC.view(batch, height, width, channels)
    out = x.clone()
    part = int(channels * fraction)
    left, right, up, down = (slice(i * part, (i + 1) * part) for i in range(4))
    out[..., : 4 * part] = 0
    out[:, :, shift:, left] = x[:, :, :-shift, left]
    out[:, :, :-shift, right] = x[:, :, shift:, right]
    out[:, shift:, :, up] = x[:, :-shift, :, up]
    out[:, :-shift, :, down] = x[:, shift:, :, down]
    return out.view(batch, length, channels)


def route_shift(x_BLC: Tensor) -> Tensor:
    """Return x with half of the channels from the token before and half from the token after, zero at the ends.

    The same idea as `q_shift` for a sequence: the only neighbours that a mixer knows are those on its route.
    """
    half = x_BLC.shape[-1] // 2
    out = torch.zeros_like(x_BLC)
    out[:, 1:, :half] = x_BLC[:, :-1, :half]
    out[:, :-1, half:] = x_BLC[:, 1:, half:]
    return out


def blend(shifted: Tensor, x: Tensor, share: Tensor) -> Tensor:
    """Return shifted + share (x - shifted) in the format of x, under autocast a narrower one than that of `share`."""
    return torch.lerp(shifted.to(x.dtype), x, share.to(x.dtype))
