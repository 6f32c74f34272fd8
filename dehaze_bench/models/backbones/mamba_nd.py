"""Mamba-ND: layers that walk along another axis, or back along it, in turn.

Li et al., "Mamba-ND: Selective State Space Modeling for Multi-Dimensional Data", ECCV 2024, arXiv 2402.05892, table
2. Patches of 8 pixels; halved once, after the tenth layer, at the same width.

| size        | D   | depth | parameters | top-1 |
|-------------|-----|-------|------------|-------|
| Mamba2D-S/8 | 384 | 24    | 24,505,192 | 81.7  |
| Mamba2D-B/8 | 768 | 24    | 94,425,832 | 83.0  |

The paper prints 24 and 92 million, which is what the networks have without the layer that halves the grid.

The norm of a layer is applied to the stream itself, as published: what the mixer makes is added to normalised tokens.

Deviation: the published blocks take the square root of the number of tokens for the side of the grid, so they need
squares; rectangles are fine here.

Shape legend: B batch, L tokens, C channels, H and W grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.patch import PatchMerging
from dehaze_bench.nn.tokens import Tokens
from dehaze_bench.scans import Grid, Scan, planar

AXES = Scan("mamba_nd", planar.mamba_nd, "sum", mode="alternate")


class MambaND(nn.Module):
    """Layer i walks along route i mod 4 (rows, rows back, columns, columns back), or of another `scan`.

    `merge_after` lists the layers, from 0, after which the grid is halved. `drop` is the rate of dropout after the
    positions. `features` are the maps before each halving, as they are, and the last one, normalised.
    """

    def __init__(
        self,
        dim: int = 384,
        depth: int = 24,
        patch: int = 8,
        image_size: int = 224,
        merge_after: Sequence[int] = (9,),
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        num_classes: int = 1000,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        if list(merge_after) != sorted(set(merge_after)) or not all(0 <= i < depth - 1 for i in merge_after):
            raise UsageError(
                f"Mamba-ND of {depth} layers can halve after layers 0 to {depth - 2}, not {list(merge_after)}"
            )
        num_maps = len(merge_after) + 1
        self.widths, self.strides = (dim,) * num_maps, tuple(patch * 2**i for i in range(num_maps))
        self.multiple = self.strides[-1]
        self.tokens = Tokens(dim, patch, patch, image_size, corner_pad=True)
        self.drop = nn.Dropout(drop)
        self.layers = nn.ModuleList(
            MambaNDLayer(dim, (scan or AXES).for_block(i), d_state, d_conv, expand, rate)
            for i, rate in enumerate(drop_rates(drop_path, depth))
        )
        self.merging = nn.ModuleDict({str(i): PatchMerging(dim, dim) for i in merge_after})
        self.ln1 = nn.LayerNorm(dim, eps=1e-6)
        self.ln2 = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        if isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=2e-5)
            nn.init.zeros_(self.head.bias)

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H / s_i, W / s_i), finest first."""
        x_BLC, grid = self.tokens(image_BCHW)
        x_BLC, found = self.drop(x_BLC), []
        for i, layer in enumerate(self.layers):
            x_BLC = layer(x_BLC, grid)
            if str(i) in self.merging:
                found.append(x_BLC.transpose(1, 2).unflatten(2, grid))
                x_BHWC = self.merging[str(i)](x_BLC.unflatten(1, grid))
                x_BLC, grid = x_BHWC.flatten(1, 2), (x_BHWC.shape[1], x_BHWC.shape[2])
        return [*found, self.ln1(x_BLC).transpose(1, 2).unflatten(2, grid)]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.ln2(self.features(image_BCHW)[-1].flatten(2).mean(2)))


class MambaNDLayer(nn.Module):
    """Normalise the tokens and add what the mixer makes of them, over any grid that its scan takes."""

    def __init__(
        self,
        dim: int,
        scan: Scan,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mixer = Branched(dim, scan, d_state, d_conv, expand)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BLC: Tensor, grid: Grid) -> Tensor:
        x_BLC = self.norm(x_BLC)
        return x_BLC + self.drop_path(self.mixer(x_BLC, grid))
