"""Depthwise convolution along a channels-last sequence, and over a channels-last picture.

Shape legend: B batch, L steps, D channels, W kernel length; C channels, H and W size of a picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def convolve(conv: nn.Conv1d, x_BLD: Tensor) -> Tensor:
    """Return what the depthwise `conv` gives for the sequence, cut to L steps: (B, L, D) to (B, L, D).

    It is computed as a picture one row high in channels-last memory: the tokens are in that layout already, and
    torch's one-dimensional path would copy them twice and is several times slower on a CPU.
    """
    x_BD1L = x_BLD.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
    padding = (0, int(conv.padding[0]))
    y_BD1L = F.conv2d(x_BD1L, conv.weight.unsqueeze(2), conv.bias, padding=padding, groups=conv.groups)
    return y_BD1L.squeeze(2).transpose(1, 2)[:, : x_BLD.shape[1]]


def convolve_picture(conv: Callable[[Tensor], Tensor], x_BHWC: Tensor) -> Tensor:
    """Return what `conv`, made for (B, C, H, W), gives for a channels-last picture; slices are copied."""
    x_BCHW = x_BHWC.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return conv(x_BCHW).permute(0, 2, 3, 1)
