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


class RescaleNorm(nn.Module):
    """Norm over channels and pixels of a picture, and what puts its mean and deviation back later.

    DehazeFormer (arXiv 2204.03883): returns the normalised picture, and a gain and an offset (B, C, 1, 1)
    that are linear in the deviation and in the mean, to be applied to what was made of it. The tensor names are theirs.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.meta1, self.meta2 = nn.Linear(1, dim), nn.Linear(1, dim)
        self.eps = eps
        for meta, start in ((self.meta1, 1.0), (self.meta2, 0.0)):
            nn.init.trunc_normal_(meta.weight, std=0.02)
            nn.init.constant_(meta.bias, start)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        variance_B, mean_B = torch.var_mean(x_BCHW, dim=(1, 2, 3), correction=0)
        gain_BC = self.meta1((variance_B + self.eps).sqrt()[:, None])
        offset_BC = self.meta2(mean_B[:, None])
        normalised_BCHW = F.group_norm(x_BCHW, 1, self.weight, self.bias, self.eps)
        return normalised_BCHW, gain_BC[..., None, None], offset_BC[..., None, None]
