"""MambaIR: residual groups of selective scans, and its U-shaped build for real noise.

Guo et al., "MambaIR: A Simple Baseline for Image Restoration with State-Space Model", ECCV 2024, arXiv 2402.15648.

| build               | C   | depths        | expand | states | reconstruction     | parameters | MACs at 256 + scan |
| ------------------- | --- | ------------- | ------ | ------ | ------------------ | ---------- | ------------------ |
| light x2            | 60  | 6, 6, 6, 6    | 1.2    | 10     | pixelshuffledirect | 905,016    | 52.17 + 40.77 G    |
| light, x1 residual  | 60  | 6, 6, 6, 6    | 1.2    | 10     | residual           | 900,147    | 51.85 + 40.77 G    |
| ColorDN as released | 180 | 6 x 6         | 1.2    | 16     | residual           | 15,777,507 | 987.0 + 293.5 G    |
| denoising, expand 2 | 180 | 6 x 6         | 2      | 16     | residual           | 20,173,539 | 1249.6 + 489.2 G   |
| SR x2               | 180 | 6 x 6         | 2      | 16     | pixelshuffle       | 20,421,863 | 1266.2 + 489.2 G   |
| real, as released   | 48  | 4, 6, 6, 8; 4 | 1.5    | 16     | residual           | 26,779,480 | 146.0 + 81.5 G     |
| real, expand 2      | 48  | 4, 6, 6, 8; 4 | 2      | 16     | residual           | 30,750,424 | 170.4 + 108.7 G    |

No dehazing build was published. What is offered for dehazing keeps the size: the light build takes the residual
reconstruction of the denoising builds instead of an enlargement; its blocks are those of the light super-resolution.

Deviations: none in what is computed. The dual-pixel form of the U-shaped build is left out. The released weights for
real-world super-resolution come without the code and options of their reconstruction; "nearest+conv" is MambaIRv2's.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.nn.channel_attention import ChannelAttentionBlock
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.feature_attention import ChannelGate
from dehaze_bench.nn.four_levels import FourLevels
from dehaze_bench.nn.residual_groups import ResidualGroups
from dehaze_bench.nn.ss2d import SS2D
from dehaze_bench.scans import Scan
from dehaze_bench.scans.planar import cross

CROSS = Scan("cross", cross, merge="sum")


class MambaIR(ResidualGroups):
    """Residual groups of `StateSpaceBlock`; `upsampler=""` restores at the same size.

    `light` takes the channel attention of the lightweight build, as published wherever the upsampler is
    "pixelshuffledirect". `scan=None` is the cross-scan; any other scan over rows and columns is taken, with a parameter
    set for each route. The rate of stochastic depth rises to `drop_path`, 0.1 as in all released options.
    """

    def __init__(
        self,
        dim: int = 60,
        depths: Sequence[int] = (6, 6, 6, 6),
        d_state: int = 10,
        expand: float = 1.2,
        light: bool = False,
        upsampler: str = "",
        upscale: int = 1,
        connection: str = "1conv",
        channels: int = 3,
        image_range: float = 1.0,
        drop_path: float = 0.1,
        scan: Scan | None = None,
    ) -> None:
        walked = CROSS if scan is None else scan
        rates = drop_rates(drop_path, sum(depths))

        def block(group: int, place: int, number: int) -> StateSpaceBlock:
            return StateSpaceBlock(dim, walked.for_block(number), d_state, expand, light, rates[number])

        super().__init__(block, dim, depths, upsampler, upscale, connection, channels, image_range)


class MambaIRUNet(FourLevels):
    """The build for real noise: the U-shaped skeleton of Restormer with `StateSpaceBlock`s at all four levels.

    `depths` are the blocks of the levels, `refinement` those after the decoder. `scan` as in `MambaIR`.
    """

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 48,
        depths: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        d_state: int = 16,
        expand: float = 2.0,
        channels: int = 3,
        drop_path: float = 0.0,
        scan: Scan | None = None,
    ) -> None:
        walked, numbers = CROSS if scan is None else scan, count()

        def level(place: int, width: int, depth: int) -> Level:
            scans = [walked.for_block(next(numbers)) for _ in range(depth)]
            return Level(*(StateSpaceBlock(width, one, d_state, expand, drop=drop_path) for one in scans))

        super().__init__(level, dim, depths, refinement, channels, channels)


class Level(nn.Sequential):
    """Blocks on channels-last features, for a picture (B, C, H, W)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class StateSpaceBlock(nn.Module):
    """SS2D, then convolutions with channel attention; both added to their input times a learned scale per channel.

    The vision state-space block of the paper. (B, H, W, C) to the same shape.
    """

    def __init__(
        self, dim: int, scan: Scan, d_state: int, expand: float, light: bool = False, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.self_attention = SS2D(dim, scan, d_state, expand)
        self.drop_path = DropPath(drop)
        self.skip_scale = nn.Parameter(torch.ones(dim))
        self.ln_2 = nn.LayerNorm(dim)
        self.conv_blk = LightAttentionBlock(dim) if light else ChannelAttentionBlock(dim)
        self.skip_scale2 = nn.Parameter(torch.ones(dim))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = x_BHWC * self.skip_scale + self.drop_path(self.self_attention(self.ln_1(x_BHWC)))
        return x_BHWC * self.skip_scale2 + convolve_picture(self.conv_blk, self.ln_2(x_BHWC))


class LightAttentionBlock(nn.Sequential):
    """Channel attention behind pointwise and depthwise convolutions, the last one dilated; on pictures (B, C, H, W)."""

    def __init__(self, dim: int, compress: int = 2, reduction: int = 30) -> None:
        hidden = max(1, dim // compress)
        super().__init__(
            nn.Conv2d(dim, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Conv2d(hidden, dim, 1),
            nn.Conv2d(dim, dim, 3, padding=2, dilation=2, groups=dim),
            ChannelGate(dim, reduction),
        )
