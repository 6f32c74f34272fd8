"""ConvIR: Revitalizing Convolutional Network for Image Restoration.

Cui, Ren, Cao, Knoll, IEEE TPAMI 2024.

| size | blocks per level | parameters | MACs at 256 x 256 |
|---|---|---|---|
| S | 4 | 5,530,505 | 38.72 G |
| B | 8 | 8,630,665 | 67.71 G |
| L | 16 | 14,830,985 | 125.69 G |

IRNeXt with dilated filters, and with strips beside the square.

Deviation from c-yn/ConvIR (MIT): images below 256 pixels, which the mirrored border of the published filters refuses (7
pixels at 1/32 of the size), are mirrored again. The dilations (5, 9, 11) that the published code names for GTA5 are
never reached there, for a condition that always holds; `dilations` can be set.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.deep_pool import POOLS, DeepPool
from dehaze_bench.nn.mimo import ConvBlock, ThreeScales, chain
from dehaze_bench.nn.pooled_filter import ModulatedFilter

DILATIONS = (7, 9, 11)


class ConvIR(ThreeScales):
    """Levels of `num_res` plain blocks, the last of which filters at three sizes, with a dilation for each."""

    multiple = 32

    def __init__(self, num_res: int = 4, base: int = 32, dilations: Sequence[int] = DILATIONS) -> None:
        def make_level(level: int, dim: int) -> nn.Module:
            return chain(num_res, lambda last: block(dim, last, dilations))

        super().__init__(make_level, base)


class MultiShape(nn.Module):
    """A square filter of x, and a strip along the rows followed by one along the columns, added up.

    The strips give c y + b x, with c, 0 at first, and b, 1 at first, learned per channel.
    """

    def __init__(self, dim: int, dilation: int, kernel: int = 3, groups: int = 8) -> None:
        super().__init__()
        self.square_att = ModulatedFilter(dim, (kernel, kernel), groups, dilation)
        self.strip_att = Strips(dim, dilation, kernel, groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.strip_att(x_BCHW) + self.square_att(x_BCHW)


class Strips(nn.Module):
    """The two strips of `MultiShape`; their filters are not normalised."""

    def __init__(self, dim: int, dilation: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.H_spatial_att = ModulatedFilter(dim, (1, kernel), groups, dilation, norm=False)
        self.W_spatial_att = ModulatedFilter(dim, (kernel, 1), groups, dilation, norm=False)
        self.gamma = nn.Parameter(torch.zeros(dim, 1, 1))
        self.beta = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.gamma * self.W_spatial_att(self.H_spatial_att(x_BCHW)) + x_BCHW * self.beta


def deep_pool(dim: int, dilations: Sequence[int] = DILATIONS) -> DeepPool:
    """Return the layer that filters at three sizes; raises UsageError unless there is a dilation for each."""
    if len(dilations) != len(POOLS) or min(dilations) < 1:
        raise UsageError(f"dilations={list(dilations)}: give one of at least 1 for 1/8, 1/4 and 1/2 of the size.")
    return DeepPool(dim, [MultiShape(dim, dilation) for dilation in dilations])


def block(dim: int, filtered: bool, dilations: Sequence[int] = DILATIONS) -> ConvBlock:
    """Return a block, with filters between its convolutions or with nothing there."""
    return ConvBlock(dim, deep_pool(dim, dilations) if filtered else nn.Identity())
