"""Channel attention of LocalMamba and EfficientVMamba, squeeze and excitation, and the block of HAT on pictures.

Shape legend: B batch, T tokens, C channels, H and W size.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.feature_attention import ChannelGate


class ChannelAttention(nn.Module):
    """Scale every channel by a gate that is made of the token mean: x * sigmoid(W2 gelu(W1 mean(LN(x)))).

    LocalMamba (arXiv 2403.09338, section 3.2, the active part of its "BiAttn") and EfficientVMamba's squeeze and
    excitation (arXiv 2403.09977) are the same module; the tensor names are theirs. Tokens (B, ..., C) keep their
    shape; the mean is over all axes between the first and the last.
    """

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, dim // reduction)
        self.norm = nn.LayerNorm(dim)
        self.global_reduce = nn.Linear(dim, hidden)
        self.channel_select = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.norm(x).flatten(1, -2).mean(1)
        gate_BC = torch.sigmoid(self.channel_select(F.gelu(self.global_reduce(mean))))
        return x * gate_BC.view(gate_BC.shape[0], *(1,) * (x.ndim - 2), -1)


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate that is made of the mean: x * sigmoid(W2 relu(W1 mean(x))), without biases.

    Hu et al., arXiv 1709.01507, as MSVMamba has it. Tokens (B, ..., C) keep their shape.
    """

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, dim // reduction)
        down, up = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)
        self.fc = nn.Sequential(down, nn.ReLU(), up, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gate_BC = self.fc(x.flatten(1, -2).mean(1))
        return x * gate_BC.view(gate_BC.shape[0], *(1,) * (x.ndim - 2), -1)


class ChannelAttentionBlock(nn.Sequential):
    """Two 3x3 convolutions with `compress` times fewer channels between them, GELU there, then a gate per channel.

    The CAB of HAT (Chen et al., arXiv 2205.04437), on pictures (B, C, H, W).
    """

    def __init__(self, dim: int, compress: int = 3, reduction: int = 30) -> None:
        hidden = max(1, dim // compress)
        down, up = nn.Conv2d(dim, hidden, 3, padding=1), nn.Conv2d(hidden, dim, 3, padding=1)
        super().__init__(down, nn.GELU(), up, ChannelGate(dim, reduction))
