"""gUNet: a U-Net of gated convolutions with fused skips.

Song, Zhou, Qian, Du, "Rethinking Performance Gains in Image Dehazing Networks", arXiv 2209.11448.

| size | depths                     | parameters | MACs at 256 | SOTS-indoor |
|------|----------------------------|------------|-------------|-------------|
| T    | 2, 2, 2, 4, 2, 2, 2        | 844,899    | 2.76 G      | 37.99       |
| S    | 4, 4, 4, 8, 4, 4, 4        | 1,477,059  | 4.87 G      | 39.76       |
| B    | 8, 8, 8, 16, 8, 8, 8       | 2,741,379  | 9.08 G      | 40.65       |
| D    | 16, 16, 16, 32, 16, 16, 16 | 5,270,019  | 17.51 G     | 41.34       |

The paper prints the same numbers divided by 2^20 and 2^30 (0.805 M and 2.595 G for T).

Deviation: none in what is computed. Sizes that are no multiple of `multiple` are padded inside of the network, which
upstream is left to its scripts. An image too small to be reflected is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.fused_levels import FusedLevels
from dehaze_bench.nn.initialisation import init_deep
from dehaze_bench.nn.reflected import depthwise_conv


class GUNet(FusedLevels):
    """Restorer of images (B, 3, H, W) in [0, 1]; the output, a change of the image, is not clamped.

    `depths` are the blocks of an odd number of stages, the middle one the coarsest; each scale doubles the `width`.
    `kernel` is the side of the depthwise convolutions.
    """

    multiple = 8

    def __init__(self, depths: Sequence[int] = (2, 2, 2, 4, 2, 2, 2), width: int = 24, kernel: int = 5) -> None:
        if len(depths) % 2 == 0 or min(depths) < 0 or kernel % 2 == 0:
            raise UsageError(
                f"gUNet has an odd number of stages and an odd kernel, not depths={list(depths)} and kernel={kernel}"
            )
        num_levels = len(depths) // 2
        dims = [width * 2**i for i in range(num_levels + 1)]
        stages = [
            nn.Sequential(*(Block(dim, kernel, sum(depths)) for _ in range(depth)))
            for dim, depth in zip([*dims, *reversed(dims[:-1])], depths, strict=True)
        ]
        super().__init__(dims, stages, soft=False, add=False, reach=kernel // 2)


class Block(nn.Module):
    """x + conv(norm(x)) with batch statistics in the norm; `depth` is the number of blocks of the network."""

    def __init__(self, dim: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)
        self.conv = GatedConv(dim, kernel)
        init_deep(self.conv, depth)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.conv(self.norm(x_BCHW))


class GatedConv(nn.Module):
    """proj(depthwise(pointwise(x)) * sigmoid(pointwise(x)))."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.value = nn.Sequential(nn.Conv2d(dim, dim, 1), depthwise_conv(dim, kernel))
        self.gate = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.proj(self.value(x_BCHW) * self.gate(x_BCHW).sigmoid())
