"""C2PNet: Curricular Contrastive Regularization for Physics-aware Single Image Dehazing.

Zheng, Zhan, He, Dong, Du, CVPR 2023, arXiv 2303.14218.

| size | groups | blocks per group | channels | parameters | MACs at 256 x 256 |
|---|---|---|---|---|---|
| the only one | 3 | 19 | 64 | 7,169,327 | 460.46 G |

The layout of FFA-Net with a physics-aware unit in the place of its pixel attention. The contrastive regularisation is a
loss and no part of the network. Deviation: none.
"""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from dehaze_bench.nn.feature_attention import FeatureGroups, gate


class PhysicsUnit(nn.Module):
    """The scattering model on features: t x + (1 - t) a, with a per channel and t per element made of x.

    PDU of C2PNet, equations 5 to 8: a from the channel means as in channel attention, t from three convolutions.
    """

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = dim // reduction
        self.ka = gate(dim, hidden, dim)
        self.td = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1),
            nn.Conv2d(dim, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, dim, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        light_BC11 = self.ka(x_BCHW.mean((2, 3), keepdim=True))
        transmission_BCHW = self.td(x_BCHW)
        return (1 - transmission_BCHW) * light_BC11 + transmission_BCHW * x_BCHW


class C2PNet(FeatureGroups):
    """Three groups of `blocks` blocks with channel attention and a physics unit on `dim` channels; any size."""

    output_range = "residual added to the input, not clamped"

    def __init__(self, dim: int = 64, blocks: int = 19) -> None:
        super().__init__(dim, blocks, PhysicsUnit)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        return self.restore(hazy_BCHW)
