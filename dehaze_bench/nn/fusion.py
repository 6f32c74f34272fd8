"""What the restorers' decoders share: twice the resolution, skip fusion, soft reconstruction.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class Up(nn.Module):
    """Twice the resolution by a pointwise convolution and a pixel shuffle."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, 4 * out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x_BCHW), 2)


class SelectiveKernelFusion(nn.Module):
    """Weighted sum of decoder and skip, weights from the global mean of both (arXiv 2204.03883, figure 3).

    The skip passes a pointwise convolution first; ED-Former has none (`project=False`).
    """

    def __init__(self, dim: int, reduction: int = 8, project: bool = True) -> None:
        super().__init__()
        hidden = max(dim // reduction, 4)
        self.skip = nn.Conv2d(dim, dim, 1) if project else nn.Identity()
        self.weigh = nn.Sequential(
            nn.Linear(dim, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, 2 * dim, bias=False)
        )

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        skip_BCHW = self.skip(skip_BCHW)
        mean_BC = (x_BCHW + skip_BCHW).mean(dim=(2, 3))
        weight_B2C = torch.softmax(self.weigh(mean_BC).unflatten(1, (2, -1)), dim=1)
        mine, other = weight_B2C[..., None, None].unbind(1)
        return x_BCHW * mine + skip_BCHW * other


def reconstruct(maps_B4HW: Tensor, image_B3HW: Tensor) -> Tensor:
    """Return K * I - B + I: the gain K is the first map, the offset B the others (arXiv 2204.03883, equation 4)."""
    gain, offset = maps_B4HW.split([1, 3], dim=1)
    return gain * image_B3HW - offset + image_B3HW
