"""RSDehamba: a small U-Net of four-direction selective scans for satellite pictures.

Zhou, Wu, Chen, Chen, He, "RSDehamba: Lightweight Vision Mamba for Remote Sensing Satellite Image Dehazing", arXiv
2405.10030. No code was ever published: this is a new implementation from the paper's facts, and no weights fit it.

|            | parameters | MACs at 256 x 256    |
|------------|------------|----------------------|
| the paper  | 1.80 M     | not known to us      |
| this file  | 1,802,563  | 19.2 G + 18.7 G scan |

What is known of it, in part by way of a third party's notes: a U-Net of three levels with 2, 3 and 3 Vision Dehamba
Blocks (VDB); a VDB is an SSM branch, then a feed-forward network; the branch is a projection, a depthwise convolution,
SiLU, the direction-aware scan module (four directions), a norm, a gate and a projection out. It is trained with Adam
from 2e-4 to 1e-6 (cosine) on patches of 256.

Open points, and what is done here:
1. Widths: 32, 64 and 128. With the next three choices this is the width that meets 1.80 M (0.1 % above).
2. Inside the branch: 16 states, twice the width, rank ceil(width / 16), a 3x3 convolution, as in VMamba.
3. The directions: rows, columns and the reverses of both, each with a parameter set, added up (VMamba's cross-scan);
   the paper's "dynamic" aggregation is read as the input-dependent parameters of the scan. `scan` changes both.
4. The feed-forward network: two linear maps with a GELU between them, three times the width inside.
5. LayerNorm before branch and feed-forward network, and both are residual.
6. The decoder mirrors the encoder (3, then 2 blocks) and has no refinement stage behind it; skips are joined and halved
   by a pointwise convolution.
7. Levels are linked by 3x3 convolutions with pixel (un)shuffle, the image by a 3x3 convolution at either end, and what
   comes out is added to the hazy input: as in Restormer.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.ffn import Mlp
from dehaze_bench.nn.four_levels import Downsample, Upsample
from dehaze_bench.nn.ss2d import SS2D, check_planar
from dehaze_bench.nn.vss import TO_FIRST, TO_LAST, Permute, VSSBlock
from dehaze_bench.scans import Scan
from dehaze_bench.scans.planar import cross

CROSS = Scan("cross", cross, merge="sum")


class RSDehamba(nn.Module):
    """Restores images in [0, 1]; `depths` are those of the levels, finest first, and the decoder's in reverse.

    `scan=None` is the cross-scan; any other scan over rows and columns is taken, with a parameter set for each route.
    """

    multiple = 4
    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 32,
        depths: Sequence[int] = (2, 3, 3),
        d_state: int = 16,
        expand: float = 2.0,
        ffn_ratio: float = 3.0,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        if len(depths) != 3 or min(depths) < 1 or dim < 2 or dim % 2:
            raise UsageError(
                f"RSDehamba has three levels of at least one block and an even width, not depths={list(depths)} and "
                f"dim={dim}"
            )
        walked = check_planar(CROSS if scan is None else scan)
        widths = [dim, 2 * dim, 4 * dim]
        numbers = count()

        def level(i: int) -> nn.Sequential:
            blocks = [
                VSSBlock(
                    widths[i],
                    SS2D(widths[i], walked.for_block(next(numbers)), d_state, expand),
                    Mlp(widths[i], int(widths[i] * ffn_ratio)),
                )
                for _ in range(depths[i])
            ]
            return nn.Sequential(Permute(*TO_LAST), *blocks, Permute(*TO_FIRST))

        self.embed = nn.Conv2d(3, dim, 3, padding=1)
        self.encoder = nn.ModuleList(level(i) for i in range(3))
        self.downs = nn.ModuleList(Downsample(widths[i]) for i in (0, 1))
        self.ups = nn.ModuleList(Upsample(widths[i]) for i in (2, 1))
        self.joins = nn.ModuleList(nn.Conv2d(2 * widths[i], widths[i], 1) for i in (1, 0))
        self.decoder = nn.ModuleList(level(i) for i in (1, 0))
        self.unembed = nn.Conv2d(dim, 3, 3, padding=1)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        x_BCHW = self.encoder[0](self.embed(hazy_BCHW))
        skips = []
        for down, level in zip(self.downs, self.encoder[1:], strict=True):
            skips.append(x_BCHW)
            x_BCHW = level(down(x_BCHW))
        for up, join, level in zip(self.ups, self.joins, self.decoder, strict=True):
            x_BCHW = level(join(torch.cat([up(x_BCHW), skips.pop()], dim=1)))
        return self.unembed(x_BCHW) + hazy_BCHW
