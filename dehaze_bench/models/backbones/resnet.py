"""ResNet-50: the convolutional control of the backbone tables.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385, table 1; the variant that
is used everywhere today ("v1.5") strides in the 3x3 convolution instead of the first 1x1. Tensor names are those of
torchvision.

| size      | blocks     | parameters |
|-----------|------------|------------|
| ResNet-50 | 3, 4, 6, 3 | 25,557,032 |

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError

EXPANSION = 4


class ResNet(nn.Module):
    """Bottleneck ResNet; `features` are the outputs of the four stages, not normalised."""

    counting = "fvcore"
    multiple = 32
    strides = (4, 8, 16, 32)

    def __init__(self, depths: Sequence[int] = (3, 4, 6, 3), num_classes: int = 1000) -> None:
        super().__init__()
        if len(depths) != 4 or min(depths) < 1:
            raise UsageError(f"A ResNet has four stages of at least one block, not depths={list(depths)}")
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.widths = tuple(EXPANSION * 64 * 2**i for i in range(4))
        before = (64, *self.widths[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(before[i], 64 * 2**i, depths[i], stride=1 if i == 0 else 2) for i in range(4)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.widths[-1], num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return maps (B, C_i, H / s_i, W / s_i), finest first."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(image_BCHW))))
        found = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            found.append(x)
        return found

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.features(image_BCHW)[-1]).flatten(1))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times as many channels, added to the input."""

    def __init__(self, dim: int, width: int, stride: int) -> None:
        super().__init__()
        out = EXPANSION * width
        self.conv1 = nn.Conv2d(dim, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or dim != out:
            self.downsample = nn.Sequential(nn.Conv2d(dim, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x_BCHW)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x_BCHW))


def _stage(dim: int, width: int, depth: int, stride: int) -> nn.Sequential:
    first = Bottleneck(dim, width, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width, 1) for _ in range(depth - 1)))
