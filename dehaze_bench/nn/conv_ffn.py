"""A feed-forward layer that sees neighbours.

Shape legend: B batch, H and W grid, C channels.
"""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.depthwise import convolve_picture


class ConvFFN(nn.Module):
    """Pointwise map, depthwise 3x3 convolution added to its input, GELU, pointwise map: (B, H, W, C) to the same.

    MSVMamba (Shi et al., arXiv 2405.14174, section 4.3). The pointwise maps are convolutions, as published: they start
    from the values of convolutions.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Conv2d(dim, hidden, 1)
        self.dwc = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.linear2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = convolve_picture(self.linear1, x_BHWC)
        x_BHWC = F.gelu(x_BHWC + convolve_picture(self.dwc, x_BHWC))
        return convolve_picture(self.linear2, x_BHWC)
