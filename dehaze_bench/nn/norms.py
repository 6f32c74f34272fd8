"""Norms that torch does not have in the layout needed.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        return F.layer_norm(x_BHWC, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class BiasFreeNorm2d(nn.Module):
    """x / sqrt(variance over the channels + eps) * weight: the mean is not taken off x.

    Restormer (arXiv 2111.09881), the norm of its builds without biases; the variance is the biased one.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        variance_B1HW = x_BCHW.var(1, keepdim=True, correction=0)
        return x_BCHW * torch.rsqrt(variance_B1HW + self.eps) * self.weight[:, None, None]
