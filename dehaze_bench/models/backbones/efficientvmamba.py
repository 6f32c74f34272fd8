"""EfficientVMamba: selective scans over every second token beside a convolution, and convolutions alone further down.

Pei, Huang and Xu, "EfficientVMamba: Atrous Selective Scan for Light Weight Visual Mamba", AAAI 2025, arXiv 2403.09977,
sections 3.2 and 3.3.

| size | C  | depths     | parameters | MACs at 224 | top-1 |
|------|----|------------|------------|-------------|-------|
| T    | 48 | 2, 2, 4, 2 | 6,493,660  | 0.801 G     | 76.5  |
| S    | 64 | 2, 2, 4, 2 | 11,273,688 | 1.336 G     | 78.7  |
| B    | 96 | 2, 2, 9, 2 | 33,717,136 | 3.978 G     | 81.8  |

The published "small" configuration is 96 wide and not the S of the paper, which is 64.

Shape legend: B batch, H and W grid, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.channel_attention import ChannelAttention
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.drop import DropPath
from dehaze_bench.nn.ss2d import SS2D, check_planar
from dehaze_bench.nn.vss import Hierarchy
from dehaze_bench.scans import Scan
from dehaze_bench.scans.skips import atrous

NUM_SCANNED = 2  # stages with state spaces; the later ones are convolutions


class EfficientVMamba(Hierarchy):
    """Two stages of `EVSSBlock`s, then stages of inverted residuals.

    `scan=None` is the atrous scan with this `step`, whose routes share the tokens out; others are taken too.
    """

    counting = "vmamba"

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 4, 2),
        dims: int | Sequence[int] = 48,
        d_state: int = 16,
        ratio: float = 2.0,
        dt_rank: int | None = None,
        step: int = 2,
        down: str = "merge",
        drop_path: float = 0.0,
        num_classes: int = 1000,
        scan: Scan | None = None,
    ) -> None:
        walked = Scan("atrous", partial(atrous, step=step), merge="scatter") if scan is None else check_planar(scan)

        def block(stage: int, width: int, number: int, drop: float) -> nn.Module:
            if stage >= NUM_SCANNED:
                return InvertedResidual(width, drop)
            return EVSSBlock(width, SS2D(width, walked.for_block(number), d_state, ratio, dt_rank), drop)

        super().__init__(block, depths, dims, down=down, drop_path=drop_path, num_classes=num_classes)


class EVSSBlock(nn.Module):
    """A scanned and a convolved branch of the same normalised input, each through the same channel attention."""

    def __init__(self, dim: int, op: nn.Module, drop: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.op = op
        depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.conv_branch = nn.Sequential(depthwise, nn.BatchNorm2d(dim), nn.GELU(), nn.Conv2d(dim, dim, 1))
        self.se = ChannelAttention(dim)
        self.drop_path = DropPath(drop)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        n_BHWC = self.norm(x_BHWC)
        y_BHWC = self.se(self.op(n_BHWC)) + self.se(convolve_picture(self.conv_branch, n_BHWC))
        return x_BHWC + self.drop_path(y_BHWC)


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, squeeze and excite, project; batch norms and ReLUs (MobileNet V2, arXiv 1801.04381)."""

    def __init__(self, dim: int, drop: float = 0.0, expand: int = 4, reduction: int = 8) -> None:
        super().__init__()
        mid = expand * dim
        depthwise = nn.Conv2d(mid, mid, 3, padding=1, groups=mid, bias=False)
        self.conv_pw = nn.Sequential(nn.Conv2d(dim, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU())
        self.conv_dw = nn.Sequential(depthwise, nn.BatchNorm2d(mid), nn.ReLU())
        self.se = ConvExcite(mid, max(1, mid // reduction))
        self.conv_pw2 = nn.Sequential(nn.Conv2d(mid, dim, 1, bias=False), nn.BatchNorm2d(dim))
        self.drop_path = DropPath(drop)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        return x_BHWC + self.drop_path(convolve_picture(self._convolve, x_BHWC))

    def _convolve(self, x_BCHW: Tensor) -> Tensor:
        return self.conv_pw2(self.se(self.conv_dw(self.conv_pw(x_BCHW))))


class ConvExcite(nn.Module):
    """Squeeze and excitation with biases, (B, C, H, W); its maps are convolutions and start from their values."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(dim, hidden, 1)
        self.conv_expand = nn.Conv2d(hidden, dim, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_BC11 = x_BCHW.mean(dim=(2, 3), keepdim=True)
        return x_BCHW * torch.sigmoid(self.conv_expand(F.relu(self.conv_reduce(mean_BC11))))
