"""Stochastic depth.

Shape legend: B batch.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor


class DropPath(nn.Module):
    """Leave a residual branch out for a random part of the batch (Huang et al., arXiv 1603.09382), in training only.

    What remains is divided by the probability of staying, so that the mean is kept.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0 or not self.training:
            return x
        stays = torch.rand(x.shape[0], *(1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * stays.to(x.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        return str(self.rate)


def drop_rates(rate: float, depth: int) -> list[float]:
    """Return one rate per block, rising linearly from 0 to `rate`."""
    return [rate * i / max(1, depth - 1) for i in range(depth)]
