"""Gated convolution along the sequence: the convolutional control of the recurrences."""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.depthwise import convolve
from dehaze_bench.nn.mixers.mixer import Mixer


class GatedConv(Mixer):
    """Depthwise convolution of odd length `kernel` along the route, gated by SiLU of a second projection."""

    def __init__(self, dim: int, kernel: int = 7, expand: float = 2.0) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"The conv mixer needs an odd kernel, not {kernel}: use {max(1, kernel - 1) | 1}")
        self.width = int(dim * expand)
        self.in_proj = nn.Linear(dim, 2 * self.width)
        self.conv = nn.Conv1d(self.width, self.width, kernel, padding=kernel // 2, groups=self.width)
        self.out_proj = nn.Linear(self.width, dim)

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        s_BLD, gate_BLD = self.in_proj(x_BLC).chunk(2, dim=-1)
        return s_BLD, gate_BLD

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        return F.silu(convolve(self.conv, s_BLD))

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        assert gate_BLD is not None
        return self.out_proj(y_BLD * F.silu(gate_BLD))
