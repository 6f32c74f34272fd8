"""Light-DehazeNet: A Novel Lightweight CNN Architecture for Single Image Dehazing.

Ullah, Muhammad, Irfan, Anwar, Sajjad, Imran, de Albuquerque, IEEE Transactions on Image Processing 2021.

| size | parameters | MACs at 256 x 256 |
|---|---|---|
| the only one | 30,187 | 1.97 G |

AOD-Net's rewriting of the scattering model, J = K I - K + 1, with eight convolutions for K. Weights start from
N(0, 0.02) as in the released training script. Deviation: the colour restoration that the paper applies to the output
(its CVR module) is a post-processing of the released demonstration and is left out; the published weights are used
without it, as in the repository's own forward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Channels in, channels out, kernel size of the eight convolutions.
CONVS = ((3, 8, 1), (8, 8, 3), (8, 8, 5), (16, 16, 7), (16, 16, 3), (16, 16, 3), (32, 32, 3), (56, 3, 3))


class LightDehazeNet(nn.Module):
    """Eight convolutions with three concatenations estimate K; any height and width, output at least 0."""

    multiple = 1
    output_range = "at least 0, not clamped at 1"

    def __init__(self) -> None:
        super().__init__()
        convs = [nn.Conv2d(i, o, size, padding=size // 2) for i, o, size in CONVS]
        for conv in convs:
            nn.init.normal_(conv.weight, 0.0, 0.02)
        self.convs = nn.ModuleList(convs)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        x1 = self._convolve(0, hazy_BCHW)
        x2 = self._convolve(1, x1)
        x3 = self._convolve(2, x2)
        x4 = self._convolve(3, x1, x3)
        x5 = self._convolve(4, x4)
        x6 = self._convolve(5, x5)
        x7 = self._convolve(6, x4, x6)
        k_BCHW = self._convolve(7, x2, x5, x7)
        return (k_BCHW * hazy_BCHW - k_BCHW + 1.0).relu()

    def _convolve(self, conv: int, *features_BCHW: Tensor) -> Tensor:
        return self.convs[conv](torch.cat(features_BCHW, dim=1)).relu()
