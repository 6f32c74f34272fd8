"""The multi-scale layer of IRNeXt and ConvIR.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

POOLS = (8, 4, 2)


class DeepPool(nn.Module):
    """Filter the map at 1/8, 1/4 and 1/2 of its size, each result joining the next, and convolve the sum of all.

    Cui et al., IRNeXt (ICML 2023): average pooling, a 3x3 convolution and a filter per size, bilinear
    enlargement with aligned corners, gelu(x + sum), a 3x3 convolution. `filters` are in the order of `POOLS`.
    """

    def __init__(self, dim: int, filters: Sequence[nn.Module]) -> None:
        super().__init__()
        self.pools = nn.ModuleList([nn.AvgPool2d(size) for size in POOLS])
        self.convs = nn.ModuleList([nn.Conv2d(dim, dim, 3, padding=1, bias=False) for _ in POOLS])
        self.dynas = nn.ModuleList(filters)
        self.conv_sum = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        sum_BCHW, smaller = x_BCHW, None
        for pool, conv, dyna in zip(self.pools, self.convs, self.dynas, strict=True):
            pooled = pool(x_BCHW)
            if smaller is not None:
                pooled = pooled + _enlarge(smaller, pooled)
            smaller = dyna(conv(pooled))
            sum_BCHW = sum_BCHW + _enlarge(smaller, x_BCHW)
        return self.conv_sum(F.gelu(sum_BCHW))


def _enlarge(x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, size=like_BCHW.shape[2:], mode="bilinear", align_corners=True)
