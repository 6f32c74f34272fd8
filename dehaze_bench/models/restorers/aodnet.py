"""AOD-Net: All-in-One Dehazing Network.

Li, Peng, Wang, Xu, Feng, ICCV 2017. The scattering model I = J t + A (1 - t) is rewritten with one unknown
map K as J = K I - K + b, b = 1 (equations 4 and 5); five small convolutions estimate K from the hazy image.

| size | parameters | MACs at 256 x 256 |
|---|---|---|
| the only one | 1,761 | 0.114 G |

Follows the PyTorch port MayankSingal/PyTorch-Image-Dehazing (MIT), to which the published weights belong:
convolution weights start from N(0, 0.02), K and the output pass a ReLU. Deviation: none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AODNet(nn.Module):
    """The K-estimation module and the clean-image formula; any height and width, output at least 0."""

    multiple: int = 1
    output_range = "at least 0, not clamped at 1"
    trainable: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 1)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 3, 5, padding=2)
        self.conv4 = nn.Conv2d(6, 3, 7, padding=3)
        self.conv5 = nn.Conv2d(12, 3, 3, padding=1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            nn.init.normal_(conv.weight, 0.0, 0.02)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        x1_BCHW = self.conv1(hazy_BCHW).relu()
        x2_BCHW = self.conv2(x1_BCHW).relu()
        x3_BCHW = self.conv3(torch.cat((x1_BCHW, x2_BCHW), dim=1)).relu()
        x4_BCHW = self.conv4(torch.cat((x2_BCHW, x3_BCHW), dim=1)).relu()
        k_BCHW = self.conv5(torch.cat((x1_BCHW, x2_BCHW, x3_BCHW, x4_BCHW), dim=1)).relu()
        return (k_BCHW * hazy_BCHW - k_BCHW + 1.0).relu()
