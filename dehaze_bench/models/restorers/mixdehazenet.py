"""MixDehazeNet: parallel large kernels, then parallel attentions, on five stages.

Lu, Xiong, Xu et al., "MixDehazeNet: Mix Structure Block For Image Dehazing Network", IJCNN 2024, arXiv 2305.17654.

| size | depths         | parameters | MACs at 256 | SOTS-indoor |
|------|----------------|------------|-------------|-------------|
| T    | 1, 1, 2, 1, 1  | 1,622,950  | 14.56 G     |             |
| S    | 2, 2, 4, 2, 2  | 3,164,944  | 28.46 G     |             |
| B    | 4, 4, 8, 4, 4  | 6,248,932  | 56.26 G     |             |
| L    | 8, 8, 16, 8, 8 | 12,416,908 | 111.85 G    | 42.62       |

Deviation: none in what is computed. An image too small to be reflected by the large kernels (36 pixels) is refused by
name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.fused_levels import FusedLevels, check_stages
from dehaze_bench.nn.reflected import depthwise_conv, reflected_conv

KERNELS = (7, 5, 3)
DILATION = 3


class MixDehazeNet(FusedLevels):
    """Restorer of images (B, 3, H, W) in [0, 1]; the output is not clamped.

    `dims` are the channels of the three scales, `depths` the blocks of the stages, down and up.
    """

    def __init__(self, depths: Sequence[int] = (2, 2, 4, 2, 2), dims: Sequence[int] = (24, 48, 96)) -> None:
        check_stages("MixDehazeNet", dims, {"depths": depths})
        if min(dims) < MixBlock.REDUCTION:
            raise UsageError(f"MixDehazeNet needs at least {MixBlock.REDUCTION} channels, not dims={list(dims)}")
        stages = [
            nn.Sequential(*(MixBlock(dim) for _ in range(depth)))
            for dim, depth in zip([*dims, *reversed(dims[:-1])], depths, strict=True)
        ]
        super().__init__(dims, stages, reach=DILATION * (max(KERNELS) // 2))

    def make_down(self, dim: int, out: int) -> nn.Module:
        return reflected_conv(dim, out, 3, stride=2)


class MixBlock(nn.Module):
    """Two residual halves under batch norms: three dilated depthwise kernels, then three attentions, mixed by an MLP.

    The attentions scale a convolved map by channel, and the map itself by channel and by pixel.
    """

    REDUCTION = 8

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(dim), nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.conv2 = reflected_conv(dim, dim, 5)
        self.large = nn.ModuleList(depthwise_conv(dim, kernel, DILATION) for kernel in KERNELS)
        self.mlp, self.mlp2 = (_pointwise(3 * dim, 4 * dim, dim) for _ in range(2))
        self.value = nn.Sequential(nn.Conv2d(dim, dim, 1), depthwise_conv(dim, 3))
        self.value_gate = nn.Conv2d(dim, dim, 1)
        self.channel_gate = _pointwise(dim, dim, dim)
        self.pixel_gate = _pointwise(dim, dim // self.REDUCTION, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.conv2(self.conv1(self.norm1(x_BCHW)))
        x_BCHW = x_BCHW + self.mlp(torch.cat([conv(y_BCHW) for conv in self.large], dim=1))
        y_BCHW = self.norm2(x_BCHW)
        mean_BC11 = y_BCHW.mean((2, 3), keepdim=True)
        attended = [
            self.value(y_BCHW) * self.value_gate(mean_BC11).sigmoid(),
            y_BCHW * self.channel_gate(mean_BC11).sigmoid(),
            y_BCHW * self.pixel_gate(y_BCHW).sigmoid(),
        ]
        return x_BCHW + self.mlp2(torch.cat(attended, dim=1))


def _pointwise(dim: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, out, 1))
