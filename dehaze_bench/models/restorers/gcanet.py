"""GCANet: Gated Context Aggregation Network for Image Dehazing and Deraining.

Chen, He, Fan, Liao, Zhang, Hou, Yuan, Hua, WACV 2019, arXiv 1811.08747.

| size | parameters | MACs at 256 x 256 |
|---|---|---|
| the only one | 702,818 | 15.58 G |

The network sees the picture on the scale 0 to 255 and a fourth channel of edges, both less 128, and finds what is to be
added to the picture. As the released test script does, evaluation rounds the sum to whole levels and limits it to 0 to
255; in training mode it is left as it is, since rounding has no gradient. Deviation: sides that are no multiple of 4
are padded, where the script resizes the picture.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

LEVELS = 255.0
MIDDLE = 128.0
DIM = 64


class SharedConv(nn.Conv2d):
    """One kernel for all channels, which starts as the identity: it joins the pixels that a dilation keeps apart.

    Separable and shared convolution of smoothed dilation (section 3.2 and Wang and Ji, KDD 2018).
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.dirac_(self.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # As a depthwise convolution: four times as fast on the CPU as one over B * C pictures of one channel.
        channels = x_BCHW.shape[1]
        weight_C1KK = self.weight.expand(channels, -1, -1, -1)
        return nn.functional.conv2d(x_BCHW, weight_C1KK, padding=self.padding, groups=channels)


class DilatedBlock(nn.Module):
    """Two dilated 3x3 convolutions with instance norms, added to what went in; smoothed where `dilation` is above 1."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.pre_conv1 = _smooth(dilation)
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm1 = nn.InstanceNorm2d(dim, affine=True)
        self.pre_conv2 = _smooth(dilation)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm2 = nn.InstanceNorm2d(dim, affine=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.norm1(self.conv1(self.pre_conv1(x_BCHW))).relu()
        return (x_BCHW + self.norm2(self.conv2(self.pre_conv2(y_BCHW)))).relu()


class GCANet(nn.Module):
    """Encoder, seven dilated blocks, gates over three of their depths, decoder.

    `residual` False is the deraining network of the paper, whose output is the picture itself.
    """

    multiple = 4
    output_range = "whole 8-bit levels in [0, 1]; not rounded nor clamped in training mode"

    def __init__(self, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(4, DIM, 3, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm2d(DIM, affine=True)
        self.conv2 = nn.Conv2d(DIM, DIM, 3, padding=1, bias=False)
        self.norm2 = nn.InstanceNorm2d(DIM, affine=True)
        self.conv3 = nn.Conv2d(DIM, DIM, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.InstanceNorm2d(DIM, affine=True)
        self.middle = nn.Sequential(*(DilatedBlock(DIM, dilation) for dilation in (2, 2, 2, 4)))
        self.deep = nn.Sequential(*(DilatedBlock(DIM, dilation) for dilation in (4, 4, 1)))
        self.gate = nn.Conv2d(3 * DIM, 3, 3, padding=1)
        self.deconv3 = nn.ConvTranspose2d(DIM, DIM, 4, stride=2, padding=1)
        self.norm4 = nn.InstanceNorm2d(DIM, affine=True)
        self.deconv2 = nn.Conv2d(DIM, DIM, 3, padding=1)
        self.norm5 = nn.InstanceNorm2d(DIM, affine=True)
        self.deconv1 = nn.Conv2d(DIM, 3, 1)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        levels_BCHW = hazy_BCHW * LEVELS
        restored_BCHW = self.restore(self.add_edges(levels_BCHW))
        if self.residual:
            restored_BCHW = restored_BCHW + levels_BCHW
        if not self.training:
            restored_BCHW = restored_BCHW.round().clamp(0.0, LEVELS)
        return restored_BCHW / LEVELS

    def add_edges(self, levels_BCHW: Tensor) -> Tensor:
        """Return RGB on 0 to 255 and its edges, less 128.

        Edges are a quarter of the absolute differences to the upper, lower, left and right neighbour, added up, and
        the mean of that over the channels; a neighbour outside of the picture counts for nothing.
        """
        down_BCHW = levels_BCHW.diff(dim=2).abs()
        right_BCHW = levels_BCHW.diff(dim=3).abs()
        pad = nn.functional.pad
        around_BCHW = pad(down_BCHW, (0, 0, 1, 0)) + pad(down_BCHW, (0, 0, 0, 1))
        around_BCHW = around_BCHW + pad(right_BCHW, (1, 0)) + pad(right_BCHW, (0, 1))
        return torch.cat((levels_BCHW, around_BCHW.mean(1, keepdim=True) / 4), dim=1) - MIDDLE

    def restore(self, x_B4HW: Tensor) -> Tensor:
        """Return the published mapping of four channels about 0: on 0 to 255, the residual or the picture."""
        y_BCHW = self.norm1(self.conv1(x_B4HW)).relu()
        y_BCHW = self.norm2(self.conv2(y_BCHW)).relu()
        first_BCHW = self.norm3(self.conv3(y_BCHW)).relu()
        second_BCHW = self.middle(first_BCHW)
        third_BCHW = self.deep(second_BCHW)
        gates_B3HW = self.gate(torch.cat((first_BCHW, second_BCHW, third_BCHW), dim=1))
        depths_B3CHW = torch.stack((first_BCHW, second_BCHW, third_BCHW), dim=1)
        y_BCHW = (depths_B3CHW * gates_B3HW.unsqueeze(2)).sum(1)
        y_BCHW = self.norm4(self.deconv3(y_BCHW)).relu()
        y_BCHW = self.deconv1(self.norm5(self.deconv2(y_BCHW)).relu())
        return y_BCHW if self.residual else y_BCHW.relu()


def _smooth(dilation: int) -> nn.Module:
    return SharedConv(2 * dilation - 1) if dilation > 1 else nn.Identity()
