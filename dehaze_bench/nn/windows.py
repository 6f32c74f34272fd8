"""Attention inside the windows of a picture, with a learned bias per relative position.

Swin Transformer (Liu et al., arXiv 2103.14030, section 3.2) and what takes its windows from it. Tensor names are those
of its published code; masks and position indices are computed, not stored.

Shape legend: B batch, H and W grid, C channels, M windows, W window length (w * w tokens).
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

    def forward(self, x_MWC: Tensor, mask_WW: Tensor | None = None) -> Tensor:
        """`mask_WW` is added to the scores of all the windows."""
        q, k, v = self.qkv(x_MWC).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        bias = bias if mask_WW is None else bias + mask_WW
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(y.transpose(1, 2).flatten(2))


def attend_in_windows(
    attention: Callable[[Tensor, Tensor | None], Tensor], x_BHWC: Tensor, window: int, shift: int = 0
) -> Tensor:
    """Shift the picture cyclically, attend inside its windows, and shift it back; H and W are multiples of `window`.

    `attention` is called with windows and a mask for all of them, or None. Where there is a shift, tokens that it alone
    made neighbours do not see each other: that concerns the last row and the last column of windows, which are called
    for apart, so that no mask per window is needed.
    """
    if not shift:
        return _attend(attention, x_BHWC, window, None)
    shifted = torch.roll(x_BHWC, (-shift, -shift), (1, 2))
    bands = []
    for last_row, band in enumerate(shifted.tensor_split([x_BHWC.shape[1] - window], 1)):
        parts = []
        for last_column, part in enumerate(band.tensor_split([x_BHWC.shape[2] - window], 2)):
            if part.numel():  # there may be no windows but the last
                mask_WW = seam_mask(window, shift, bool(last_row), bool(last_column), x_BHWC.device)
                parts.append(_attend(attention, part, window, mask_WW))
        if parts:
            bands.append(torch.cat(parts, 2))
    return torch.roll(torch.cat(bands, 1), (shift, shift), (1, 2))


def _attend(
    attention: Callable[[Tensor, Tensor | None], Tensor], x_BHWC: Tensor, window: int, mask_WW: Tensor | None
) -> Tensor:
    return join_windows(attention(cut_windows(x_BHWC, window), mask_WW), window, (x_BHWC.shape[1], x_BHWC.shape[2]))


def cut_windows(x_BHWC: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (M, w * w, C), windows of an image in raster order."""
    tiles = x_BHWC.unflatten(1, (-1, window)).unflatten(3, (-1, window))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def join_windows(x_MWC: Tensor, window: int, grid: tuple[int, int]) -> Tensor:
    """Undo `cut_windows`."""
    rows, columns = grid[0] // window, grid[1] // window
    tiles = x_MWC.unflatten(1, (window, window)).unflatten(0, (-1, rows, columns))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def seam_mask(window: int, shift: int, last_row: bool, last_column: bool, device: torch.device) -> Tensor | None:
    """Return -100 between tokens of a window that a cyclic shift brought together from opposite borders, else 0.

    In the last row of windows the last `shift` rows of tokens come from the other border, in the last column likewise;
    None for windows in neither.
    """
    if not last_row and not last_column:
        return None
    moved = torch.arange(window, device=device) >= window - shift
    label_W = (moved[:, None] & last_row) * 2 + (moved & last_column) * 1
    label_W = label_W.flatten()
    return (label_W[:, None] != label_W).float() * -100.0
