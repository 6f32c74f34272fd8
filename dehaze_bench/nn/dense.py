"""The residual dense block.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor


class ResidualDenseBlock(nn.Module):
    """3x3 convolutions that each see all before them, a pointwise map back, and the input added.

    Zhang et al., "Residual Dense Network for Image Super-Resolution", arXiv 1802.08797, section 3.2. Each of `layers`
    adds `growth` channels, rectified. GridDehazeNet is made of these; MSBDN-RDFF has them without biases.
    """

    def __init__(self, dim: int, layers: int, growth: int, bias: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(dim + i * growth, growth, 3, padding=1, bias=bias) for i in range(layers))
        self.conv_1x1 = nn.Conv2d(dim + layers * growth, dim, 1, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        seen_BCHW = x_BCHW
        for conv in self.layers:
            seen_BCHW = torch.cat([seen_BCHW, conv(seen_BCHW).relu()], dim=1)
        return self.conv_1x1(seen_BCHW) + x_BCHW
