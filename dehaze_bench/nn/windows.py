"""Attention inside the windows of a picture, with a learned bias per relative position.

Swin Transformer (Liu et al., arXiv 2103.14030, section 3.2) and what takes its windows from it. Tensor names are those
of its published code; masks and position indices are computed, not stored.

Shape legend: B batch, H and W grid, C channels, M windows, W window length (w * w tokens), G windows of an image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class WindowAttention(nn.Module):
    """Attention inside windows with a learned bias per relative position (arXiv 2103.14030, equation 4)."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        side = 2 * window - 1
        self.relative_position_bias_table = nn.Parameter(torch.zeros(side**2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        place = torch.arange(window)
        row, column = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
        index = (row[:, None] - row + window - 1) * side + column[:, None] - column + window - 1
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x_MWC: Tensor, mask_GWW: Tensor | None = None) -> Tensor:
        """`mask_GWW` is 0 or -100 for each of the G windows of an image."""
        q, k, v = self.qkv(x_MWC).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask_GWW is not None:
            repeats = x_MWC.shape[0] // mask_GWW.shape[0]
            bias = bias + mask_GWW[:, None]
            bias = bias.repeat(repeats, 1, 1, 1) if repeats > 1 else bias
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(y.transpose(1, 2).flatten(2))


def attend_in_windows(
    attention: Callable[[Tensor, Tensor | None], Tensor], x_BHWC: Tensor, window: int, shift: int = 0
) -> Tensor:
    """Shift the picture cyclically, attend inside its windows, and shift it back; H and W are multiples of `window`.

    Where there is a shift, tokens that only the shift made neighbours do not see each other.
    """
    grid = (x_BHWC.shape[1], x_BHWC.shape[2])
    shifted = torch.roll(x_BHWC, (-shift, -shift), (1, 2)) if shift else x_BHWC
    mask_GWW = shift_mask(grid, window, shift, x_BHWC.device) if shift else None
    y_BHWC = join_windows(attention(cut_windows(shifted, window), mask_GWW), window, grid)
    return torch.roll(y_BHWC, (shift, shift), (1, 2)) if shift else y_BHWC


def cut_windows(x_BHWC: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (M, w * w, C), windows of an image in raster order."""
    tiles = x_BHWC.unflatten(1, (-1, window)).unflatten(3, (-1, window))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def join_windows(x_MWC: Tensor, window: int, grid: tuple[int, int]) -> Tensor:
    """Undo `cut_windows`."""
    rows, columns = grid[0] // window, grid[1] // window
    tiles = x_MWC.unflatten(1, (window, window)).unflatten(0, (-1, rows, columns))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(grid: tuple[int, int], window: int, shift: int, device: torch.device) -> Tensor:
    """Return (G, W, W): -100 between tokens that only the cyclic shift made neighbours."""
    region = torch.zeros(1, *grid, 1, device=device)
    borders = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(borders):
        for j, columns in enumerate(borders):
            region[:, rows, columns] = 3 * i + j
    label_GW = cut_windows(region, window)[..., 0]
    return (label_GW[:, None] != label_GW[:, :, None]).float() * -100.0
