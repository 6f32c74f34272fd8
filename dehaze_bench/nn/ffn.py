"""Feed-forward layers on channels-last tokens.

Shape legend: B batch, L tokens, C channels.
"""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor


class Mlp(nn.Module):
    """Linear, GELU (erf), Linear; the tensor names are those of DeiT, Swin, VMamba and their descendants."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim if out is None else out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))
