"""MaIR-UNet: Restormer's skeleton with selective scans along nested S-shaped stripes.

Li, Zhao, Wang, Hu, Gou, Peng, "MaIR: A Locality- and Continuity-Preserving Mamba for Image Restoration", CVPR 2025,
arXiv 2412.20066. The U-shaped builds of the paper; its super-resolution and Gaussian denoising, residual groups without
levels, are left out.

| build                       | dim | blocks; refinement | stripe | ratio | parameters | MACs at 256 + scan |
|-----------------------------|-----|--------------------|--------|-------|------------|--------------------|
| dehazing                    | 24  | 2, 2, 3, 4; 2      | 8      | 1.2   | 3,404,376  | 14.9 G + 8.6 G     |
| real denoising, motion blur | 48  | 4, 6, 6, 8; 4      | 4      | 2     | 26,293,296 | 132.1 G + 61.6 G   |

(The counts are ours: the paper prints 3.40 M for dehazing.)

Deviations: none in what is computed. The published code makes its orders on a CUDA device only; here they are a scan
like any other. Its shifted stripes are made and never walked by the U-shaped builds: they are a scan of the library
(stripes_shifted), and no part of this. The two-picture ("dual pixel") form is left out.

Shape legend: B batch, H and W grid, L tokens, K routes, C channels, D inner channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.nn.drop import DropPath
from dehaze_bench.nn.ffn import Mlp
from dehaze_bench.nn.four_levels import FourLevels
from dehaze_bench.nn.ss2d import SS2D
from dehaze_bench.scans import Scan, curves


class MaIR(FourLevels):
    """`StripeBlock`s on four levels; their residual is added to the input.

    A block has `d_state` states where it has `dim` channels, twice as many where it has twice the channels, and so on.
    `first_mlp_ratio` is the hidden width of the first encoder level, `mlp_ratio` that of all others. `scan` (None: the
    nested S-shaped scan with stripes `stripe` tokens wide) has a parameter set for each route; whatever it says about
    merging, the routes are merged by sequence shuffle attention.
    """

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 24,
        depths: Sequence[int] = (2, 2, 3, 4),
        refinement: int = 2,
        stripe: int = 8,
        ratio: float = 1.2,
        d_state: int = 4,
        mlp_ratio: float = 2.0,
        first_mlp_ratio: float = 2.0,
        bias: bool = False,
        drop_path: float = 0.0,
        channels: int = 3,
        scan: Scan | None = None,
    ) -> None:
        walked, numbers = nested_stripes(stripe) if scan is None else scan, count()

        def make_level(level: int, width: int, depth: int) -> nn.Module:
            hidden = int(width * (first_mlp_ratio if width == dim else mlp_ratio))
            scans = [walked.for_block(next(numbers)) for _ in range(depth)]
            states = d_state * (width // dim)
            return nn.Sequential(*(StripeBlock(width, one, states, ratio, hidden, drop_path) for one in scans))

        super().__init__(make_level, dim, depths, refinement, channels, channels, bias)


class StripeBlock(nn.Module):
    """SS2D with sequence shuffle attention, then an MLP, each added to its input times a learned scale per channel."""

    def __init__(self, dim: int, scan: Scan, d_state: int, ratio: float, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.self_attention = SS2D(dim, replace(scan, merge="sum"), d_state, ratio)
        self.self_attention.merge = SequenceShuffleAttention(scan.num_routes, self.self_attention.width)
        self.drop_path = DropPath(drop)
        self.mlp = Mlp(dim, hidden)
        self.skip_scale, self.skip_scale2 = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        x_BHWC = x_BHWC * self.skip_scale + self.drop_path(self.self_attention(self.ln_1(x_BHWC)))
        x_BHWC = x_BHWC * self.skip_scale2 + self.mlp(self.ln_2(x_BHWC))
        return x_BHWC.permute(0, 3, 1, 2)


class SequenceShuffleAttention(nn.Module):
    """Sum the routes, each channel of each times a weight that is made of the means of that channel on all routes.

    Section 3.3 of the paper, a merge of `SS2D`: (B, K, L, D) to (B, L, D). For each channel a map from K means to K
    weights, in (0, 1) and independent of each other, as released. (The shuffle of the published code sets the K values
    of a channel side by side for a grouped convolution, which this is.)
    """

    def __init__(self, num_routes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, num_routes, num_routes))
        self.bias = nn.Parameter(torch.empty(width, num_routes))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -(num_routes**-0.5), num_routes**-0.5)

    def forward(self, y_BKLD: Tensor, visits_T: Tensor | None = None) -> Tensor:
        """A route that skips tokens has zeros there, whatever `visits_T` counts."""
        mean_BKD = y_BKLD.mean(2)
        weights_BKD = torch.sigmoid(torch.einsum("bjd,dkj->bkd", mean_BKD, self.weight) + self.bias.T)
        return (y_BKLD * weights_BKD[:, :, None]).sum(1)


def nested_stripes(width: int) -> Scan:
    """The published scan: stripes of `width` columns, of rows, and both from the other end (section 3.2)."""
    return Scan(f"stripes of {width}", partial(curves.stripes, width=width))
