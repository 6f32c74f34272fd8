"""Filters that are made of the features themselves: a small kernel per image and group of channels.

Shape legend: B batch, C channels, H and W size, G groups, T taps of a kernel.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest

ACTIVATIONS = ("softmax", "tanh")


class PooledFilter(nn.Module):
    """Filter an image with kernels made of its mean: act(BN(W mean(x))), one kernel for each group of channels.

    With a softmax over the taps the result is a low-pass of x (SFNet, FSNet, CasDyF-Net), with tanh any filter (IRNeXt,
    ConvIR). `kernel` is (rows, columns), both odd; the border is mirrored, also where it is wider than the map (there
    the published code stops). Without `norm` there is no BatchNorm. Its statistics are over the batch alone, one value
    per image, so that training needs two images. Raises UsageError for channels that do not form `groups` groups.
    """

    def __init__(
        self,
        dim: int,
        kernel: tuple[int, int] = (3, 3),
        groups: int = 8,
        dilation: int = 1,
        activation: str = "softmax",
        norm: bool = True,
    ) -> None:
        super().__init__()
        if groups < 1 or dim % groups:
            raise UsageError(f"{dim} channels do not form {groups} groups of one filter each: use a multiple of them.")
        if activation not in ACTIVATIONS:
            raise UsageError(f"Unknown activation '{activation}' of a filter. {nearest(activation, ACTIVATIONS)}")
        self.kernel, self.groups, self.dilation, self.activation = kernel, groups, dilation, activation
        num_weights = groups * kernel[0] * kernel[1]
        self.conv = nn.Conv2d(dim, num_weights, 1, bias=False)
        self.bn = nn.BatchNorm2d(num_weights) if norm else None
        if norm:
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return apply_taps(x_BCHW, self.taps(x_BCHW), self.kernel, self.dilation)

    def taps(self, x_BCHW: Tensor) -> Tensor:
        """Return the kernels (B, G, T) of the images."""
        logits_BN11 = self.conv(x_BCHW.mean((2, 3), keepdim=True))
        if self.bn is not None:
            if self.training and len(x_BCHW) == 1:
                raise UsageError(
                    "Filters made of the mean of an image are normalised over the batch, and one image has no spread: "
                    "train with at least two images per step (train.batch / train.accumulate)."
                )
            logits_BN11 = self.bn(logits_BN11)
        logits_BGT = logits_BN11.view(len(x_BCHW), self.groups, -1)
        return logits_BGT.softmax(2) if self.activation == "softmax" else logits_BGT.tanh()


class ModulatedFilter(PooledFilter):
    """Weigh what a filter leaves, and x: l (f(x) (1 + a) - a mean(x)) + (1 + h) x, with a, l and h learned per channel.

    Cui et al., IRNeXt (ICML 2023), equations 3 to 7, where the mean stands for the low-pass of x as in the published
    code; ConvIR (TPAMI 2024) has it for strips as well: for a kernel of one row or one column the mean is along it.
    """

    def __init__(
        self, dim: int, kernel: tuple[int, int] = (3, 3), groups: int = 8, dilation: int = 1, norm: bool = True
    ) -> None:
        super().__init__(dim, kernel, groups, dilation, "tanh", norm)
        self.inside_all = nn.Parameter(torch.zeros(dim, 1, 1))
        self.lamb_l = nn.Parameter(torch.zeros(dim))
        self.lamb_h = nn.Parameter(torch.zeros(dim))
        self.axes = [axis for axis, length in zip((2, 3), kernel, strict=True) if length > 1]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        filtered = super().forward(x_BCHW)
        filtered = filtered * (self.inside_all + 1) - self.inside_all * x_BCHW.mean(self.axes, keepdim=True)
        return filtered * self.lamb_l[:, None, None] + x_BCHW * (self.lamb_h[:, None, None] + 1)


def apply_taps(x_BCHW: Tensor, taps_BGT: Tensor, kernel: tuple[int, int], dilation: int = 1) -> Tensor:
    """Correlate every image with kernels of its own; neighbouring channels, C / G of them, share a kernel.

    Taps are in raster order. One shifted view at a time: nothing of the size of an unfolded map is stored.
    """
    dim, height, width = x_BCHW.shape[1:]
    weights_TBC11 = taps_BGT.repeat_interleave(dim // taps_BGT.shape[1], dim=1).permute(2, 0, 1)[..., None, None]
    padded = x_BCHW
    for axis, length in zip((2, 3), kernel, strict=True):
        padded = mirror(padded, axis, dilation * (length // 2))
    out_BCHW = torch.zeros_like(x_BCHW)
    for weight, (row, column) in zip(weights_TBC11, product(range(kernel[0]), range(kernel[1])), strict=True):
        shifted = padded.narrow(2, row * dilation, height).narrow(3, column * dilation, width)
        out_BCHW = torch.addcmul(out_BCHW, weight, shifted)
    return out_BCHW


def mirror(x_BCHW: Tensor, axis: int, margin: int) -> Tensor:
    """Mirror both ends of axis 2 or 3 without repeating the edge, over and over where the axis is short."""
    size = x_BCHW.shape[axis]
    if margin == 0:
        return x_BCHW
    if margin < size:
        return F.pad(x_BCHW, (0, 0, margin, margin) if axis == 2 else (margin, margin, 0, 0), mode="reflect")
    period = max(2 * (size - 1), 1)
    phase = torch.arange(-margin, size + margin, device=x_BCHW.device) % period
    return x_BCHW.index_select(axis, torch.minimum(phase, period - phase) if size > 1 else torch.zeros_like(phase))
