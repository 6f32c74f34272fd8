"""Norms that torch does not have in the layout needed.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        return F.layer_norm(x_BHWC, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
