"""Where a token is: learned tables, sines, rotations; and where the class token stands.

Shape legend: B batch, L tokens, C channels, H and W grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest

CLASS_TOKENS = ("first", "middle", "none")


def class_index(where: str, num_tokens: int) -> int | None:
    """Return the index of the class token among `num_tokens` + 1: 0, num_tokens // 2 (Vim), or None for "none"."""
    if where not in CLASS_TOKENS:
        raise UsageError(f"Unknown place of the class token '{where}'. {nearest(where, CLASS_TOKENS)}")
    return {"first": 0, "middle": num_tokens // 2, "none": None}[where]


def insert_token(x_BLC: Tensor, token_C: Tensor, index: int) -> Tensor:
    """Return (B, L + 1, C) with the same token at `index` of every item."""
    token_B1C = token_C.reshape(1, 1, -1).expand(x_BLC.shape[0], 1, -1)
    return torch.cat([x_BLC[:, :index], token_B1C.to(x_BLC.dtype), x_BLC[:, index:]], dim=1)


def resize_table(
    table_1LC: Tensor, old: tuple[int, int], new: tuple[int, int], class_at: int | None = None, mode: str = "bicubic"
) -> Tensor:
    """Return a position table for another grid, (1, H*W[+1], C); the row of a class token is kept.

    `class_at` is the row of the class token in the old table (the published loaders of nets with the class token in the
    middle take the first row instead, which is a slip). It stands at the same relative place in the new one: 0, or the
    middle. Interpolation is in float32, `mode` "bicubic" or "bilinear", corners not aligned.
    """
    num_old = old[0] * old[1] + (class_at is not None)
    if table_1LC.shape[1] != num_old:
        raise UsageError(f"A position table of {table_1LC.shape[1]} rows does not fit a grid of {old[0]}x{old[1]}")
    if old == new:
        return table_1LC
    token_11C = None if class_at is None else table_1LC[:, class_at : class_at + 1]
    grid_1LC = table_1LC if class_at is None else torch.cat([table_1LC[:, :class_at], table_1LC[:, class_at + 1 :]], 1)
    grid_1CHW = grid_1LC.transpose(1, 2).unflatten(2, old).float()
    resized = F.interpolate(grid_1CHW, size=new, mode=mode, align_corners=False).flatten(2).transpose(1, 2)
    resized = resized.to(table_1LC.dtype)
    if token_11C is None:
        return resized
    index = 0 if class_at == 0 else new[0] * new[1] // 2
    return torch.cat([resized[:, :index], token_11C, resized[:, index:]], dim=1)


def sine_table(grid: tuple[int, int], dim: int, temperature: float = 10000.0) -> Tensor:
    """Return (1, H*W, C): sines and cosines of the row in the first half of the channels, of the column in the second.

    The two-dimensional form of Vaswani et al. (arXiv 1706.03762, section 3.5); `dim` must be a multiple of 4.
    """
    if dim % 4:
        raise UsageError(f"A sine table in two dimensions needs channels in fours, not {dim}")
    wave = temperature ** (-torch.arange(dim // 4, dtype=torch.float64) * 4 / dim)
    rows, columns = (torch.arange(n, dtype=torch.float64)[:, None] * wave for n in grid)
    row_HC = torch.cat([rows.sin(), rows.cos()], dim=1)
    column_WC = torch.cat([columns.sin(), columns.cos()], dim=1)
    both = torch.cat([row_HC[:, None].expand(-1, grid[1], -1), column_WC[None].expand(grid[0], -1, -1)], dim=-1)
    return both.reshape(1, grid[0] * grid[1], dim).float()


def rotary_tables(
    grid: tuple[int, int], dim: int, length: float = 14.0, theta: float = 10000.0
) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (L, C) that rotate pairs of neighbouring channels by angles that grow with the position.

    The rotary embedding of EVA-02 (arXiv 2303.11331) as LocalVim uses it: the first half of the channels turns with
    the row, the second with the column. Positions run from 0 to `length`, exclusive, whatever the grid: `length` is
    the side of the grid that the frequencies are made for. `dim` must be a multiple of 4.
    """
    if dim % 4:
        raise UsageError(f"A rotary embedding in two dimensions needs channels in fours, not {dim}")
    wave = theta ** -(torch.arange(0, dim // 2, 2, dtype=torch.float32) / (dim // 2))
    row_HC, column_WC = ((torch.arange(n) / n * length)[:, None] * wave.repeat_interleave(2) for n in grid)
    angle_HWC = torch.cat(
        [row_HC[:, None].expand(-1, grid[1], -1), column_WC[None].expand(grid[0], -1, -1)], dim=-1
    ).flatten(0, 1)
    return angle_HWC.cos(), angle_HWC.sin()


def rotate(x_BLC: Tensor, cos_LC: Tensor, sin_LC: Tensor) -> Tensor:
    """Rotate pairs of neighbouring channels by the angles of `rotary_tables`."""
    first, second = x_BLC.unflatten(-1, (-1, 2)).unbind(-1)
    turned_BLC = torch.stack([-second, first], dim=-1).flatten(-2)
    return x_BLC * cos_LC + turned_BLC * sin_LC
