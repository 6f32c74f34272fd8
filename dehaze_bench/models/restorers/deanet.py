"""DEA-Net: detail-enhanced convolution and content-guided attention.

Chen, He, Lu, "DEA-Net: Single Image Dehazing Based on Detail-Enhanced Convolution and Content-Guided Attention", IEEE
Transactions on Image Processing 2024, arXiv 2301.04805.

| size | blocks per stage | form | parameters | MACs at 256 x 256 |
|---|---|---|---|---|
| DEA-Net | 4, 4, 8, 4, 4 | train | 7,789,313 | 32.22 G |
| DEA-Net | 4, 4, 8, 4, 4 | deploy | 3,653,377 | 32.22 G |
| DEA-Net-S | 3, 3, 6, 3, 3 | train | 5,946,267 | 24.87 G |
| DEA-Net-S | 3, 3, 6, 3, 3 | deploy | 2,844,315 | 24.87 G |

The stages are level 1 and 2 on the way down, level 3, level 2 and 1 on the way up. DEA-Net-CR is this network trained
with a contrastive term. The released code has one size; the blocks of DEA-Net-S are those that give its printed
parameters and MACs (2.844 M, 24.88 G; of the larger one 3.653 M, 32.23 G are printed). Kept as published: the weights
of the fusion pass a sigmoid twice, so that they stay between 0.5 and 0.73. Deviation: the kernels of a detail-enhanced
convolution are added on any device (the released training form needs CUDA tensors).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest

FORMS = ("train", "deploy")
# The 3x3 neighbours in raster order, each replaced by the one before it clockwise; the centre stays.
TURNED = (3, 0, 1, 6, 4, 2, 7, 8, 5)


class DEConv(nn.Module):
    """Five 3x3 convolutions, four of them of differences between neighbours, done as one: equations 3 and 4.

    `central`, `horizontal`, `vertical` and `angular` differences each are a kernel made of fewer or of constrained
    weights; `vanilla` is a plain one. Kernels and biases are added before the one convolution.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.central = nn.Conv2d(dim, dim, 3)
        self.horizontal = nn.Conv1d(dim, dim, 3)
        self.vertical = nn.Conv1d(dim, dim, 3)
        self.angular = nn.Conv2d(dim, dim, 3)
        self.vanilla = nn.Conv2d(dim, dim, 3)

    def sum(self) -> tuple[Tensor, Tensor]:
        """Return the kernel (out, in, 3, 3) and the bias (out,) of the one convolution."""
        central, angular = self.central.weight, self.angular.weight
        column, row = self.horizontal.weight, self.vertical.weight
        kernel = (
            self.vanilla.weight
            + central
            - F.pad(central.sum((2, 3), keepdim=True), (1, 1, 1, 1))  # the centre takes the sum off
            + torch.stack((column, torch.zeros_like(column), -column), dim=3)
            + torch.stack((row, torch.zeros_like(row), -row), dim=2)
            + angular
            - angular.flatten(2)[..., TURNED].view_as(angular)
        )
        convs = (self.central, self.horizontal, self.vertical, self.angular, self.vanilla)
        return kernel, torch.stack([conv.bias for conv in convs if conv.bias is not None]).sum(0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        kernel, bias = self.sum()
        return F.conv2d(x_BCHW, kernel, bias, padding=1)


class ContentGuidedAttention(nn.Module):
    """Weights in (0, 1) for every channel and pixel: coarse ones per channel and per pixel, refined by the content.

    Equations 5 to 8. Convolutions over pixels repeat the image by reflection.
    """

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = dim // reduction
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, padding_mode="reflect")
        self.channel = nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1))
        self.pixel = nn.Conv2d(2 * dim, dim, 7, padding=3, padding_mode="reflect", groups=dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        extremes_B2HW = torch.cat((x_BCHW.mean(1, keepdim=True), x_BCHW.max(1, keepdim=True).values), dim=1)
        coarse_BCHW = self.spatial(extremes_B2HW) + self.channel(x_BCHW.mean((2, 3), keepdim=True))
        # Each group of the pixel convolution sees a channel of x and its coarse weights.
        return self.pixel(torch.stack((x_BCHW, coarse_BCHW), dim=2).flatten(1, 2)).sigmoid()


class DEBlock(nn.Module):
    """x + conv(x + relu(detail-enhanced conv(x))); in the deploy form that is a plain convolution."""

    def __init__(self, dim: int, form: str = "train") -> None:
        super().__init__()
        self.conv1 = DEConv(dim) if form == "train" else nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def branch(self, x_BCHW: Tensor) -> Tensor:
        """Return what is added to x."""
        return self.conv2(x_BCHW + self.conv1(x_BCHW).relu())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.branch(x_BCHW)

    def merge(self) -> None:
        """Replace the detail-enhanced convolution by the plain one that computes the same."""
        if isinstance(self.conv1, DEConv):
            kernel, bias = (part.detach().clone() for part in self.conv1.sum())
            plain = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, device="meta")
            plain.weight, plain.bias = nn.Parameter(kernel), nn.Parameter(bias)
            self.conv1 = plain


class DEABlock(DEBlock):
    """The block with its branch weighted by content-guided attention: DEAB, section III-A."""

    def __init__(self, dim: int, form: str = "train", reduction: int = 8) -> None:
        super().__init__(dim, form)
        self.attention = ContentGuidedAttention(dim, reduction)

    def branch(self, x_BCHW: Tensor) -> Tensor:
        found_BCHW = super().branch(x_BCHW)
        return found_BCHW * self.attention(found_BCHW)


class CGAFusion(nn.Module):
    """Mix encoder and decoder features by content-guided weights, with both as shortcuts: equation 9."""

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        self.attention = ContentGuidedAttention(dim, reduction)
        self.conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        both_BCHW = x_BCHW + y_BCHW
        weights_BCHW = self.attention(both_BCHW).sigmoid()
        return self.conv(both_BCHW + weights_BCHW * x_BCHW + (1 - weights_BCHW) * y_BCHW)


class DEANet(nn.Module):
    """Three levels of `base_dim`, twice and four times as many channels; attention blocks at the lowest.

    `blocks` per stage: down 1, down 2, level 3, up 2, up 1. `form` "train" has detail-enhanced convolutions, "deploy"
    what `deploy()` makes of them. H and W are multiples of 4, at least 16.
    """

    multiple = 4
    output_range = "[0, 1], not clamped"

    def __init__(self, base_dim: int = 32, blocks: Sequence[int] = (4, 4, 8, 4, 4), form: str = "train") -> None:
        super().__init__()
        if form not in FORMS:
            raise UsageError(f"Unknown form '{form}' of DEA-Net. {nearest(form, FORMS)}")
        if len(blocks) != 5 or min(blocks) < 1:
            raise UsageError(f"blocks={list(blocks)} of DEA-Net must be five numbers from 1, such as [4, 4, 8, 4, 4].")
        dim1, dim2, dim3 = base_dim, 2 * base_dim, 4 * base_dim
        self.down1 = nn.Conv2d(3, dim1, 3, padding=1)
        self.down_level1 = _stage(DEBlock, dim1, blocks[0], form)
        self.down2 = nn.Conv2d(dim1, dim2, 3, stride=2, padding=1)
        self.fe_level_2 = nn.Conv2d(dim2, dim2, 3, padding=1)
        self.down_level2 = _stage(DEBlock, dim2, blocks[1], form)
        self.down3 = nn.Conv2d(dim2, dim3, 3, stride=2, padding=1)
        self.fe_level_3 = nn.Conv2d(dim3, dim3, 3, padding=1)
        self.level3 = _stage(DEABlock, dim3, blocks[2], form)
        self.mix1 = CGAFusion(dim3, reduction=8)
        self.up1 = nn.ConvTranspose2d(dim3, dim2, 3, stride=2, padding=1, output_padding=1)
        self.up_level2 = _stage(DEBlock, dim2, blocks[3], form)
        self.mix2 = CGAFusion(dim2, reduction=4)
        self.up2 = nn.ConvTranspose2d(dim2, dim1, 3, stride=2, padding=1, output_padding=1)
        self.up_level1 = _stage(DEBlock, dim1, blocks[4], form)
        self.up3 = nn.Conv2d(dim1, 3, 3, padding=1)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        level2_BCHW = self.down2(self.down_level1(self.down1(hazy_BCHW))).relu()
        level3_BCHW = self.down3(self.down_level2(self.fe_level_2(level2_BCHW))).relu()
        x_BCHW = self.mix1(level3_BCHW, self.level3(self.fe_level_3(level3_BCHW)))
        x_BCHW = self.mix2(level2_BCHW, self.up_level2(self.up1(x_BCHW).relu()))
        return self.up3(self.up_level1(self.up2(x_BCHW).relu()))

    def deploy(self) -> DEANet:
        """Return a copy in the deploy form: the same outputs from fewer parameters; a copy, if it is that already."""
        merged = copy.deepcopy(self)
        for module in merged.modules():
            if isinstance(module, DEBlock):
                module.merge()
        return merged


def _stage(block: type[DEBlock], dim: int, depth: int, form: str) -> nn.Sequential:
    return nn.Sequential(*(block(dim, form) for _ in range(depth)))
