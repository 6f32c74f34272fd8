"""Layers over a residual stream that is carried beside the hidden state.

Shape legend: B batch, L tokens, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.drop import DropPath
from dehaze_bench.nn.initialisation import init_linear


class ResidualLayer(nn.Module):
    """Add, normalise, mix: the order of Mamba's blocks (arXiv 2312.00752), where the sum is not normalised in place.

    What comes in is the output of the layer before and the sum of all outputs before that one; the sum is kept in
    float32 at least. Stochastic depth acts where an output joins the sum, so `drop_path` belongs to the layer before.
    """

    def __init__(self, dim: int, mixer: nn.Module, drop_path: float = 0.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = nn.RMSNorm(dim, eps=eps)
        self.drop_path = DropPath(drop_path)

    def forward(self, hidden_BLC: Tensor, residual_BLC: Tensor | None, *context: Any) -> tuple[Tensor, Tensor]:
        """Return the output of the mixer and the sum that it joins; the first layer has no sum yet."""
        if residual_BLC is None:
            residual_BLC = hidden_BLC.to(torch.promote_types(hidden_BLC.dtype, torch.float32))
        else:
            residual_BLC = residual_BLC + self.drop_path(hidden_BLC)
        return self.mixer(self.norm(residual_BLC.to(self.norm.weight.dtype)), *context), residual_BLC


def init_stream(layers: nn.ModuleList) -> None:
    """Start layers as Mamba's language model does: biases of linear maps at 0, outputs divided by sqrt(depth).

    The bias of a step size that was drawn keeps its value. Only the first branch of Vim's mixer draws one: those of the
    others start at 0, a slip of the published code that all its descendants share.
    """
    for module in layers.modules():
        if isinstance(module, Branched):
            nn.init.zeros_(module.dt_bias[1:])
    for name, module in layers.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if module.bias is not None and not name.endswith("dt_proj"):
            nn.init.zeros_(module.bias)
        if name.endswith("out_proj"):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            with torch.no_grad():
                module.weight /= math.sqrt(len(layers))


def init_stream_linear(layers: nn.ModuleList) -> None:
    """Start all linear maps, step sizes too, by `init_linear`, then by `init_stream` (LocalVim, VideoMamba)."""
    for module in layers.modules():
        if isinstance(module, Branched):
            module.draw_linear()
    layers.apply(init_linear)
    init_stream(layers)
