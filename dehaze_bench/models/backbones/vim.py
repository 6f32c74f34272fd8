"""Vim: bidirectional Mamba over patches, with the class token in the middle.

Zhu et al., "Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model", ICML 2024,
arXiv 2401.09417.

| size   | D   | depth | stride | drop path | parameters | top-1 |
|--------|-----|-------|--------|-----------|------------|-------|
| Vim-Ti | 192 | 24    | 16     | 0         | 7,148,008  | 76.1  |
| Vim-Ti+| 192 | 24    | 8      | 0         | 7,250,344  | 78.3  |
| Vim-S  | 384 | 24    | 16     | 0.05      | 25,796,584 | 80.5  |
| Vim-S+ | 384 | 24    | 8      | 0.05      | 26,001,256 | 81.6  |
| Vim-B  | 768 | 24    | 16     | 0         | 97,598,440 | 81.9  |

Deviations: other sizes than the one built for are accepted, the position table is then resized with the row of the
class token kept where it stands (the published network refuses them, and the published loaders that resize take the
first row for it). Vim-B's drop path is not published; it is 0 here.
"""

from __future__ import annotations

import math

import torch.nn as nn

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.branched import Branched, SharedBranches
from dehaze_bench.nn.column import Column
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.residual import init_stream
from dehaze_bench.nn.tokens import Tokens
from dehaze_bench.scans import Scan, planar

MIXERS = ("v1", "v2")


class Vim(Column):
    """Patches of `patch` pixels every `stride`, `depth` layers of `dim` channels.

    `mixer` "v2" is what was released: a parameter set per route and the mean of the two; "v1" shares everything but the
    state matrix and sums. `scan` replaces the two routes over the raster sequence.
    """

    counting = "vim"

    def __init__(
        self,
        dim: int = 192,
        depth: int = 24,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        patch: int = 16,
        stride: int = 16,
        image_size: int = 224,
        mixer: str = "v2",
        class_token: str = "middle",
        position: str = "learned",
        num_classes: int = 1000,
        drop_path: float = 0.0,
        scan: Scan | None = None,
    ) -> None:
        if mixer not in MIXERS:
            raise UsageError(f"Unknown mixer '{mixer}' of Vim. {nearest(mixer, MIXERS)}")
        scan = scan or Scan("bidirectional", planar.bidirectional, "mean" if mixer == "v2" else "sum")
        tokens = Tokens(dim, patch, stride, image_size, class_token, position)
        layer = Branched if mixer == "v2" else SharedBranches
        mixers = [layer(dim, scan.for_block(i), d_state, d_conv, expand, class_token=class_token) for i in range(depth)]
        super().__init__(tokens, mixers, num_classes, drop_path)
        init_stream(self.layers)
        _init_patches(tokens.patch_embed.proj)
        self.head.apply(init_linear)
        if tokens.cls_token is not None:
            nn.init.trunc_normal_(tokens.cls_token, std=0.02)


def _init_patches(conv: nn.Conv2d) -> None:
    """LeCun's rule: normal numbers cut at two deviations, of variance 1 / fan in after the cut."""
    std = math.sqrt(1 / conv.weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
