"""Depthwise convolution along a channels-last sequence.

Shape legend: B batch, L steps, D channels, W kernel length.
"""

from __future__ import annotations

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
