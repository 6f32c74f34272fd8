"""Convolutions whose border is the picture reflected, as the DehazeFormer line has them."""

from __future__ import annotations

import torch.nn as nn


def reflected_conv(dim: int, out: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size, or divides it by `stride`; the kernel is odd."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(dim, out, kernel, stride, padding, dilation, groups, padding_mode="reflect")


def depthwise_conv(dim: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """Return a reflected convolution of every channel by itself."""
    return reflected_conv(dim, dim, kernel, groups=dim, dilation=dilation)
