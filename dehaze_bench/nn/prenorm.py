"""The block of Restormer and of the state-space networks that share its skeleton.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.norms import BiasFreeNorm2d, LayerNorm2d

# By the words of Restormer's options, in lower case.
NORMS: dict[str, type[nn.Module]] = {"withbias": LayerNorm2d, "biasfree": BiasFreeNorm2d}


def make_norm(norm: str, dim: int) -> nn.Module:
    """Return the norm of a name; raises `UsageError` for one that is not in `NORMS`."""
    if norm not in NORMS:
        raise UsageError(f"Unknown norm '{norm}' of a block. {nearest(norm, NORMS)}")
    return NORMS[norm](dim)


class PreNormBlock(nn.Module):
    """x + attn(norm1(x)), then x + ffn(norm2(x)), on pictures (B, C, H, W); `attn` works on (B, H, W, C).

    The norms are "withbias", a LayerNorm over channels, or "biasfree", the one without mean and bias.
    """

    def __init__(self, dim: int, attn: nn.Module, ffn: nn.Module, norm: str = "withbias") -> None:
        super().__init__()
        self.norm1, self.norm2 = make_norm(norm, dim), make_norm(norm, dim)
        self.attn, self.ffn = attn, ffn

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BHWC = self.attn(self.norm1(x_BCHW).permute(0, 2, 3, 1))
        x_BCHW = x_BCHW + y_BHWC.permute(0, 3, 1, 2)
        return x_BCHW + self.ffn(self.norm2(x_BCHW))
