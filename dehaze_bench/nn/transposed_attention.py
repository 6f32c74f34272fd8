"""Attention across channels, and the block of Restormer that is made of it.

Shape legend: B batch, C channels, H and W size, K heads, D channels of a head, L pixels.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.gated_ffn import GatedDepthwiseFFN
from dehaze_bench.nn.prenorm import make_norm


class TransposedAttention(nn.Module):
    """MDTA: queries and keys are channels, of unit length over the pixels; a temperature per head.

    Zamir et al., Restormer (arXiv 2111.09881), equation 1. The tensor names are theirs.
    """

    def __init__(self, dim: int, heads: int, bias: bool = False) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.project_out(self.attend(x_BCHW))

    def attend(self, x_BCHW: Tensor) -> Tensor:
        """Return the heads side by side, before the map that mixes them."""
        heads = len(self.temperature)
        q, k, v = (y.flatten(2).unflatten(1, (heads, -1)) for y in self.qkv_dwconv(self.qkv(x_BCHW)).chunk(3, dim=1))
        weights_BKDD = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature).softmax(-1)
        y_BKDL = weights_BKDD @ v
        return y_BKDL.reshape(x_BCHW.shape)


class TransposedBlock(nn.Module):
    """Pre-norm attention across channels, then the gated feed-forward layer, both residual: Restormer, figure 2.

    `norm` is one of `prenorm.NORMS`.
    """

    def __init__(
        self, dim: int, heads: int, expansion: float = 2.66, bias: bool = False, norm: str = "withbias"
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = make_norm(norm, dim), make_norm(norm, dim)
        self.attn = TransposedAttention(dim, heads, bias)
        self.ffn = GatedDepthwiseFFN(dim, expansion, bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW + self.attn(self.norm1(x_BCHW))
        return x_BCHW + self.ffn(self.norm2(x_BCHW))
