"""The skeleton of FFA-Net, which C2PNet shares, and its gates, which AECR-Net shares.

Shape legend: B batch, G groups, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError

NUM_GROUPS = 3

MakeLocal = Callable[[int], nn.Module]


def gate(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Return two pointwise maps that make weights in (0, 1): sigmoid(W2 relu(W1 x))."""
    return nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, out, 1), nn.Sigmoid())


class ChannelGate(nn.Module):
    """Scale every channel by a weight that is made of the means of all channels (FFA-Net, equation 3)."""

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        self.ca = gate(dim, max(1, dim // reduction), dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.ca(x_BCHW.mean((2, 3), keepdim=True))


class PixelGate(nn.Module):
    """Scale every pixel, all channels alike, by a weight that is made of its own channels (FFA-Net, equation 5)."""

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        self.pa = gate(dim, dim // reduction, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.pa(x_BCHW)


class FeatureBlock(nn.Module):
    """x + local(channel gate(conv(x + relu(conv(x))))); `local` is a PixelGate in FFA-Net, a physics unit in C2PNet."""

    def __init__(self, dim: int, make_local: MakeLocal) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.channel = ChannelGate(dim)
        self.local = make_local(dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BCHW = self.conv2(x_BCHW + self.conv1(x_BCHW).relu())
        return x_BCHW + self.local(self.channel(inner_BCHW))


class FeatureGroup(nn.Sequential):
    """Blocks and a convolution, added to what went in."""

    def __init__(self, dim: int, blocks: int, make_local: MakeLocal) -> None:
        super().__init__(*(FeatureBlock(dim, make_local) for _ in range(blocks)), nn.Conv2d(dim, dim, 3, padding=1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + super().forward(x_BCHW)


class FeatureGroups(nn.Module):
    """Three groups of blocks one after the other, fused by weights per group and channel, and a residual image.

    Qin et al., FFA-Net (arXiv 1911.07559), figure 2. `make_local(dim)` returns the second attention of a block, and the
    one after the fusion. Raises UsageError where `dim` is not a multiple of 16.
    """

    multiple = 1

    def __init__(self, dim: int, blocks: int, make_local: MakeLocal) -> None:
        super().__init__()
        if dim < 1 or dim % 16:
            raise UsageError(f"dim={dim} must be a multiple of 16, such as the published 64.")
        self.pre = nn.Conv2d(3, dim, 3, padding=1)
        self.groups = nn.ModuleList(FeatureGroup(dim, blocks, make_local) for _ in range(NUM_GROUPS))
        self.ca = nn.Sequential(nn.AdaptiveAvgPool2d(1), *gate(NUM_GROUPS * dim, dim // 16, NUM_GROUPS * dim))
        self.local = make_local(dim)
        self.post = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.Conv2d(dim, 3, 3, padding=1))

    def restore(self, x_BCHW: Tensor) -> Tensor:
        """Return the published mapping: the residual image plus what went in."""
        features_BCHW, found = self.pre(x_BCHW), []
        for group in self.groups:
            features_BCHW = group(features_BCHW)
            found.append(features_BCHW)
        found_BGCHW = torch.stack(found, dim=1)
        weights_BGCHW = self.ca(found_BGCHW.flatten(1, 2)).unflatten(1, (NUM_GROUPS, -1))
        return self.post(self.local((weights_BGCHW * found_BGCHW).sum(1))) + x_BCHW
