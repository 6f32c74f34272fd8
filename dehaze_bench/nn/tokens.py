"""Pictures and frames to tokens: patches, the class token, positions.

Shape legend: B batch, T frames, C channels, H and W grid, L tokens, one more with a class token.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.patch import PatchEmbed
from dehaze_bench.nn.positions import class_index, insert_token, resize_table, sine_table
from dehaze_bench.scans import Grid

POSITIONS = ("learned", "sine", "none")


class Tokens(nn.Module):
    """Cut a picture (B, 3, H, W), or a video (B, 3, T, H, W) where `frames` is given, into tokens (B, L, C).

    `class_token` adds one "first", in the "middle" (index L // 2) or not at all ("none"); a learned table has a row
    for it, where it stands. Frames follow each other, each in raster order, and have a table of their own, added to
    the tokens of pictures only. Tables are made for `image_size` and `frames` and resized for others, bicubically and
    linearly. The tables start from normal numbers cut at 2, std 0.02, the class token and the table of the frames at
    0.
    """

    def __init__(
        self,
        dim: int,
        patch: int = 16,
        stride: int = 16,
        image_size: int = 224,
        class_token: str = "none",
        position: str = "learned",
        frames: int | None = None,
        channels: int = 3,
        patch_bias: bool = True,
        corner_pad: bool = False,
    ) -> None:
        super().__init__()
        if position not in POSITIONS:
            raise UsageError(f"Unknown positions '{position}'. {nearest(position, POSITIONS)}")
        self.dim, self.class_token, self.position, self.frames = dim, class_token, position, frames
        self.patch_embed = PatchEmbed(dim, patch, stride, channels, patch_bias, corner_pad)
        self.grid = self.patch_embed.grid(image_size, image_size)
        num_tokens = self.grid[0] * self.grid[1]
        at = class_index(class_token, num_tokens)
        self.cls_token = None if at is None else nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = None
        if position == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens + (at is not None), dim))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.temporal_pos_embed = None if frames is None else nn.Parameter(torch.zeros(1, frames, dim))

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return tuple(name for name, _ in self.named_parameters(recurse=False))

    def class_at(self, grid: Grid) -> int | None:
        """Return the index of the class token among the tokens of a grid."""
        return class_index(self.class_token, torch.Size(grid).numel())

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens and their grid, (H, W) or (T, H, W)."""
        if image.ndim != (4 if self.frames is None else 5):
            wanted = "pictures (B, 3, H, W)" if self.frames is None else "videos (B, 3, T, H, W)"
            raise UsageError(f"This network takes {wanted}, not a tensor of {tuple(image.shape)}; frames decides which")
        pictures = image if self.frames is None else image.transpose(1, 2).flatten(0, 1)
        x_NHWC = self.patch_embed(pictures)
        grid: Grid = (x_NHWC.shape[1], x_NHWC.shape[2])
        table_1LC, row_C = self._rows((x_NHWC.shape[1], x_NHWC.shape[2]))
        x_BLC = x_NHWC.flatten(1, 2) + table_1LC
        if self.temporal_pos_embed is not None:
            num_frames = image.shape[2]
            x_BTLC = x_BLC.unflatten(0, (-1, num_frames)) + self._instants(num_frames)[:, :, None]
            x_BLC, grid = x_BTLC.flatten(1, 2), (num_frames, *grid)
        at = self.class_at(grid)
        if self.cls_token is None or at is None:
            return x_BLC, grid
        return insert_token(x_BLC, self.cls_token.flatten() + row_C, at), grid

    def _rows(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the positions of a grid, (1, L, C), and that of the class token, (C,)."""
        none_C = self.patch_embed.proj.weight.new_zeros(self.dim)
        if self.position == "sine":
            return sine_table(grid, self.dim).to(none_C), none_C
        if self.pos_embed is None:
            return none_C[None, None], none_C
        table_1LC: Tensor = self.pos_embed
        row_C = none_C
        at = class_index(self.class_token, self.grid[0] * self.grid[1])
        if at is not None:
            row_C = table_1LC[0, at]
            table_1LC = torch.cat([table_1LC[:, :at], table_1LC[:, at + 1 :]], dim=1)
        return resize_table(table_1LC, self.grid, grid), row_C

    def _instants(self, num_frames: int) -> Tensor:
        """Return the positions of frames, (1, T, C)."""
        assert self.temporal_pos_embed is not None
        time_1TC: Tensor = self.temporal_pos_embed
        if num_frames == time_1TC.shape[1]:
            return time_1TC
        return F.interpolate(time_1TC.transpose(1, 2), size=num_frames, mode="linear").transpose(1, 2)

    def split(self, x_BLC: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
        """Return the tokens of the grid and the class token (B, C), if there is one."""
        at = self.class_at(grid)
        if at is None:
            return x_BLC, None
        return torch.cat([x_BLC[:, :at], x_BLC[:, at + 1 :]], dim=1), x_BLC[:, at]

    def to_map(self, x_BLC: Tensor, grid: Grid) -> Tensor:
        """Return the tokens of the grid as a map (B, C, [T,] H / stride, W / stride).

        Patches that overlap are fewer than the cells of their stride; a cell is then the mean of those that cover it.
        """
        map_BCTHW = self.split(x_BLC, grid)[0].transpose(1, 2).unflatten(2, grid)
        cover = self.patch_embed.patch // self.patch_embed.stride
        if self.patch_embed.corner_pad or cover == 1:
            return map_BCTHW
        planes = map_BCTHW.flatten(1, -3)
        spread = F.avg_pool2d(planes, cover, stride=1, padding=cover - 1, count_include_pad=False)
        return spread.unflatten(1, map_BCTHW.shape[1:-2])
