"""RSMamba: one Mamba mixer per layer for three paths over the tokens, weighed by a gate.

Chen et al., "RSMamba: Remote Sensing Image Classification with State Space Model", IEEE GRSL 2024, arXiv 2403.19654,
section II-C. Patches of 16 pixels every 8. Sizes of the published code; parameters at 224 without a classifier, whose
size depends on the data set (21, 30 or 45 classes).

| size      | D   | depth | parameters |
|-----------|-----|-------|------------|
| RSMamba-s | 192 | 16    | 4,351,104  |
| RSMamba-b | 192 | 24    | 6,377,088  |
| RSMamba-l | 256 | 36    | 16,241,152 |
| RSMamba-h | 320 | 48    | 33,046,400 |

Deviation: the third path is a shuffle drawn once per layer, grid and `seed`. The published code draws it anew in
every layer of every forward pass, also in evaluation, so its outputs do not repeat; that is `fresh=True`. The
position table is resized for other sizes, which the published network refuses.

Shape legend: B batch, L tokens, C channels, H and W grid, K routes.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch.nn as nn
from torch import Tensor

from dehaze_bench.nn.branched import walk_shared
from dehaze_bench.nn.merge import Merge
from dehaze_bench.nn.mixers.mamba import Mamba
from dehaze_bench.nn.tokens import Tokens
from dehaze_bench.nn.tracks import check_walks
from dehaze_bench.scans import Grid, Order, Scan, Walk, planar
from dehaze_bench.scans.dynamic import Shuffle


class RSMamba(nn.Module):
    """`scan` replaces the paths of all layers. `features` is one map, normalised; patches reach over the border."""

    def __init__(
        self,
        dim: int = 192,
        depth: int = 24,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        dt_rank: int | None = None,
        patch: int = 16,
        stride: int = 8,
        image_size: int = 224,
        position: str = "learned",
        seed: int = 0,
        fresh: bool = False,
        conv_bias: bool = True,
        proj_bias: bool = False,
        patch_bias: bool = False,
        num_classes: int = 1000,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        self.widths, self.strides, self.multiple = (dim,), (stride,), stride
        self.tokens = Tokens(dim, patch, stride, image_size, position=position, patch_bias=patch_bias, corner_pad=True)
        scans = [_paths(seed + i, fresh) if scan is None else scan.for_block(i) for i in range(depth)]
        self.layers = nn.ModuleList(
            GatedPaths(dim, Mamba(dim, d_state, d_conv, expand, dt_rank, conv_bias, proj_bias), each) for each in scans
        )
        self.pre_norm = nn.LayerNorm(dim, eps=1e-6)  # of all layers
        self.ln1 = nn.LayerNorm(dim, eps=1e-6)
        self.ln2 = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        nn.init.kaiming_normal_(self.tokens.patch_embed.proj.weight, mode="fan_in", nonlinearity="linear")

    def run(self, image_BCHW: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens after the last layer, normalised, and their grid."""
        x_BLC, grid = self.tokens(image_BCHW)
        for layer in self.layers:
            x_BLC = x_BLC + layer(self.pre_norm(x_BLC), grid)
        return self.ln1(x_BLC), grid

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return one map (B, C, H / stride, W / stride)."""
        return [self.tokens.to_map(*self.run(image_BCHW))]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.ln2(self.run(image_BCHW)[0].mean(1)))


class GatedPaths(nn.Module):
    """One mixer along every route; the outputs are merged as the scan says, here by a gate."""

    def __init__(self, dim: int, mixer: Mamba, scan: Scan) -> None:
        super().__init__()
        self.scan, self.mixer = check_walks(scan, "RSMamba"), mixer
        self.merge = Merge(scan.merge, scan.num_routes, dim)
        mixer.dt_proj.reset_parameters()  # as any linear map: the published mixer is used without its model's start

    def forward(self, x_BLC: Tensor, grid: Grid) -> Tensor:
        return self.merge(*walk_shared(self.mixer, x_BLC, self.scan, grid))


def _paths(seed: int, fresh: bool) -> Scan:
    """Forwards, backwards, shuffled."""
    if fresh:
        return Scan("multipath_shuffle", (Walk(planar.bidirectional), Walk(cast(Order, Shuffle()))), "gate")
    return Scan("multipath", partial(planar.multipath, seed=seed), "gate")
