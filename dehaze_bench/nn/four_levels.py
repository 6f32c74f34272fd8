"""The U-shaped skeleton of Restormer: four levels, pixel (un)shuffle between them, joined skips, refinement.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError

MakeLevel = Callable[[int, int, int], nn.Module]


class FourLevels(nn.Module):
    """Features of a 3x3 convolution through encoder, latent, decoder and refinement, and a residual image out of them.

    Zamir et al., Restormer (arXiv 2111.09881), figure 2; VmambaIR, EAMamba, MaIR, Restore-RWKV and PromptIR share it.
    `make_level(level, dim, depth)` returns the blocks of a level: 1, 2, 3 and 4 (latent) on dim, 2 dim, 4 dim and 8 dim
    channels on the way down, 3, 2 and 1 on the way up, and 0 for the refinement; the decoder's first level and the
    refinement have 2 dim channels, since the last skip is joined without a map that halves it. `depths` are those of
    levels 1 to 4, and of the decoder too unless `decoder_depths` (levels 3, 2, 1) says otherwise. Where `residual`, the
    first three input channels are added to the output. H and W are multiples of 8. The tensor names are Restormer's.
    Raises `UsageError` unless there are four depths.
    """

    multiple = 8

    def __init__(
        self,
        make_level: MakeLevel,
        dim: int,
        depths: Sequence[int],
        refinement: int,
        in_channels: int = 3,
        out_channels: int = 3,
        bias: bool = False,
        residual: bool = True,
        decoder_depths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(depths) != 4:
            name = type(self).__name__
            raise UsageError(f"{name} has four levels and a depth for each, such as [4, 6, 6, 8], not {list(depths)}")
        up_depths = tuple(depths[2::-1] if decoder_depths is None else decoder_depths)
        self.residual = residual
        self.patch_embed = nn.Conv2d(in_channels, dim, 3, padding=1, bias=bias)
        self.encoder_level1 = make_level(1, dim, depths[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = make_level(2, 2 * dim, depths[1])
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = make_level(3, 4 * dim, depths[2])
        self.down3_4 = Downsample(4 * dim)
        self.latent = make_level(4, 8 * dim, depths[3])
        self.up4_3 = Upsample(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = make_level(3, 4 * dim, up_depths[0])
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = make_level(2, 2 * dim, up_depths[1])
        self.up2_1 = Upsample(2 * dim)
        self.decoder_level1 = make_level(1, 2 * dim, up_depths[2])
        self.refinement = make_level(0, 2 * dim, refinement)
        self.output = nn.Conv2d(2 * dim, out_channels, 3, padding=1, bias=bias)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        skip1 = self.encoder_level1(self.patch_embed(image_BCHW))
        skip2 = self.encoder_level2(self.down1_2(skip1))
        skip3 = self.encoder_level3(self.down2_3(skip2))
        x_BCHW = self.inject(4, self.latent(self.down3_4(skip3)))
        x_BCHW = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x_BCHW), skip3], 1)))
        x_BCHW = self.inject(3, x_BCHW)
        x_BCHW = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x_BCHW), skip2], 1)))
        x_BCHW = self.inject(2, x_BCHW)
        x_BCHW = self.decoder_level1(torch.cat([self.up2_1(x_BCHW), skip1], 1))
        out_BCHW = self.output(self.refinement(x_BCHW))
        return out_BCHW + image_BCHW[:, : out_BCHW.shape[1]] if self.residual else out_BCHW

    def inject(self, level: int, x_BCHW: Tensor) -> Tensor:
        """Change what the latent (4) and the decoder levels 3 and 2 hand on: nothing here, prompts in PromptIR."""
        return x_BCHW


class Downsample(nn.Module):
    """Half the channels by a 3x3 convolution, then pixel unshuffle: (B, C, H, W) to (B, 2 C, H / 2, W / 2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.body(x_BCHW)


class Upsample(nn.Module):
    """Twice the channels by a 3x3 convolution, then pixel shuffle: (B, C, H, W) to (B, C / 2, 2 H, 2 W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, 2 * dim, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.body(x_BCHW)
