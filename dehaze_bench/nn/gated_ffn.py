"""The gated feed-forward layer of Restormer.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class GatedDepthwiseFFN(nn.Module):
    """GDFN: pointwise map to twice the hidden width, depthwise 3x3, gelu(one half) * the other, pointwise map back.

    Zamir et al., Restormer (arXiv 2111.09881), equation 3; the hidden width is int(dim * expansion). The tensor names
    are theirs.
    """

    def __init__(self, dim: int, expansion: float = 2.66, bias: bool = False) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gate_BCHW, value_BCHW = self.dwconv(self.project_in(x_BCHW)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate_BCHW) * value_BCHW)
