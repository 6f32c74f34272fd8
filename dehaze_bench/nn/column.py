"""A network of one width: tokens, layers over a separate residual stream, a class token or a mean, a head.

The skeleton of Vim and of the networks that followed it; they differ in their tokens and in their mixers.

Shape legend: B batch, L tokens, C channels, T frames, H and W size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.positions import rotary_tables, rotate
from dehaze_bench.nn.residual import ResidualLayer
from dehaze_bench.nn.tokens import Tokens
from dehaze_bench.scans import Grid


class Column(nn.Module):
    """`mixers` are called with the tokens and their grid. What is classified is the class token, else the mean token.

    `rotary` turns the hidden state and the residual before every layer (LocalVim). Stochastic depth rises from 0 to
    `drop_path`, which is also the rate of the last sum, as published. `features` is one map, normalised.
    """

    def __init__(
        self,
        tokens: Tokens,
        mixers: Sequence[nn.Module],
        num_classes: int = 1000,
        drop_path: float = 0.0,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.tokens, self.rotary = tokens, rotary
        self.widths, self.strides = (tokens.dim,), (tokens.patch_embed.stride,)
        self.multiple = tokens.patch_embed.stride
        rates = [0.0, *drop_rates(drop_path, len(mixers))]
        self.layers = nn.ModuleList(
            ResidualLayer(tokens.dim, mixer, rate) for mixer, rate in zip(mixers, rates, strict=False)
        )
        self.drop_path = DropPath(drop_path)
        self.norm_f = nn.RMSNorm(tokens.dim, eps=1e-5)
        self.head = nn.Linear(tokens.dim, num_classes) if num_classes else nn.Identity()

    def run(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens after the last norm and their grid."""
        hidden_BLC, grid = self.tokens(image)
        residual_BLC = None
        turn = None
        if self.rotary:
            turn = [table.to(hidden_BLC) for table in rotary_tables((grid[-2], grid[-1]), hidden_BLC.shape[2])]
        for layer in self.layers:
            if turn is not None:
                hidden_BLC = rotate(hidden_BLC, *turn)
                residual_BLC = None if residual_BLC is None else rotate(residual_BLC, *turn)
            hidden_BLC, residual_BLC = layer(hidden_BLC, residual_BLC, grid)
        if residual_BLC is not None:
            hidden_BLC = residual_BLC + self.drop_path(hidden_BLC)
        return self.norm_f(hidden_BLC.to(self.norm_f.weight.dtype)), grid

    def features(self, image: Tensor) -> list[Tensor]:
        """Return one map (B, C, [T,] H / stride, W / stride)."""
        return [self.tokens.to_map(*self.run(image))]

    def forward(self, image: Tensor) -> Tensor:
        tokens_BLC, class_BC = self.tokens.split(*self.run(image))
        return self.head(tokens_BLC.mean(1) if class_BC is None else class_BC)
