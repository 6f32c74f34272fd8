"""Vivim's layer: Mamba over the frames of a video in three orders, then a feed-forward layer that sees neighbours.

Yang et al., "Vivim: a Video Vision Mamba for Medical Video Segmentation", arXiv 2401.14168, figure 2 ("temporal Mamba
block"). The published network puts two of them after each stage of a SegFormer-B3 that is pretrained on ADE20K; the
layer is what is new in it, and what is here.

Deviation: the published layer takes five frames alone; here the third route follows the number of frames.

Shape legend: B batch, C channels, T frames, H and W size, L tokens.
"""

from __future__ import annotations

from functools import partial

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.drop import DropPath
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.scans import Grid, Scan, volume

# Frame by frame there and back, and position by position through the frames.
TEMPORAL = Scan("vivim", partial(volume.tri_orientation, slices=None), "mean")


class VivimLayer(nn.Module):
    """Features of a video (B, C, T, H, W) to the same shape; `scan` replaces the three routes."""

    def __init__(
        self,
        dim: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.mamba = Branched(dim, scan or TEMPORAL, d_state, d_conv, expand)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = VideoMlp(dim, int(mlp_ratio * dim))
        self.drop_path = DropPath(drop_path)
        self.apply(init_linear)
        self.mamba.draw_linear()

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        grid = tuple(x_BCTHW.shape[2:])
        x_BLC = x_BCTHW.flatten(2).transpose(1, 2)
        x_BLC = x_BLC + self.drop_path(self.mamba(self.norm1(x_BLC), grid))
        x_BLC = x_BLC + self.drop_path(self.mlp(self.norm2(x_BLC), grid))
        return x_BLC.transpose(1, 2).unflatten(2, grid)


class VideoMlp(nn.Module):
    """Linear, depthwise 3x3x3 convolution, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv3d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BLC: Tensor, grid: Grid) -> Tensor:
        x_BCTHW = self.fc1(x_BLC).transpose(1, 2).unflatten(2, grid)
        return self.fc2(F.gelu(self.dwconv(x_BCTHW)).flatten(2).transpose(1, 2))
