"""MMA: blocks of bidirectional Mamba beside convolutional channel attention, for super-resolution.

Cheng et al., "Activating Wider Areas in Image Super-Resolution", arXiv 2403.08330.

| build       | C   | blocks | parameters | MACs at 256 + scan |
| ----------- | --- | ------ | ---------- | ------------------ |
| x2          | 192 | 24     | 19,824,627 | 1268.2 + 173.9 G   |
| x1 residual | 192 | 24     | 18,496,755 | 1180.2 + 173.9 G   |

No build of the same size was published: `upscale=1` leaves the enlargement out, and `residual` adds the input to the
picture, which the published network does not do.

Deviations: none else.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.channel_attention import ChannelAttentionBlock
from dehaze_bench.nn.gated_ffn import GatedDepthwiseFFN
from dehaze_bench.nn.normalisation import DIV2K_MEAN, Normalisation
from dehaze_bench.nn.norms import LayerNorm2d
from dehaze_bench.nn.reconstruction import SubPixel
from dehaze_bench.scans import Scan
from dehaze_bench.scans.planar import bidirectional

BIDIRECTIONAL = Scan("bidirectional", bidirectional, merge="sum")


class MMA(nn.Module):
    """A convolution, blocks that keep the resolution, a convolution, sub-pixel enlargement, a convolution.

    `scan=None` is the raster sequence there and back, summed; any other scan over tokens is taken, with a branch for
    each route. The output has `upscale` times the size and is not clamped.
    """

    multiple = 1
    output_range = "[0, 1], not clamped"
    normalisation = Normalisation(DIV2K_MEAN)

    def __init__(
        self,
        dim: int = 192,
        num_blocks: int = 24,
        upscale: int = 1,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        image_range: float = 1.0,
        residual: bool = False,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        if residual and upscale != 1:
            raise UsageError(f"MMA adds its input at the same size alone: upscale={upscale} needs residual=false")
        self.normalisation = Normalisation(DIV2K_MEAN, (1 / image_range,) * 3)
        self.residual = residual
        walked = BIDIRECTIONAL if scan is None else scan
        self.conv_first = nn.Conv2d(3, dim, 3, padding=1)
        self.body = nn.Sequential(
            *(Block(dim, Branched(dim, walked.for_block(i), d_state, d_conv, expand)) for i in range(num_blocks))
        )
        self.conv_after_body = nn.Conv2d(dim, dim, 3, padding=1)
        self.upsample = SubPixel(upscale, dim)
        self.conv_last = nn.Conv2d(dim, 3, 3, padding=1)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        return self.normalisation.undo(self.restore(self.normalisation.apply(hazy_BCHW)))

    def restore(self, image_BCHW: Tensor) -> Tensor:
        """Map a normalised picture to a normalised picture."""
        shallow_BCHW = self.conv_first(image_BCHW)
        deep_BCHW = self.conv_after_body(self.body(shallow_BCHW)) + shallow_BCHW
        out_BCHW = self.conv_last(self.upsample(deep_BCHW))
        return out_BCHW + image_BCHW if self.residual else out_BCHW


class Block(nn.Module):
    """Mamba plus channel attention, then a gated feed-forward layer, both residual; (B, C, H, W) to the same shape.

    `mixer` is called with tokens (B, L, C) and their grid.
    """

    def __init__(self, dim: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(dim)
        self.mixer = mixer
        self.channel_attention = ChannelAttentionBlock(dim, compress=4)
        self.norm2 = LayerNorm2d(dim)
        self.ffn = GatedDepthwiseFFN(dim, bias=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        normalised = self.norm1(x_BCHW)
        grid = (x_BCHW.shape[2], x_BCHW.shape[3])
        mixed_BLC = self.mixer(normalised.flatten(2).transpose(1, 2), grid)
        x_BCHW = x_BCHW + mixed_BLC.transpose(1, 2).unflatten(2, grid) + self.channel_attention(normalised)
        return x_BCHW + self.ffn(self.norm2(x_BCHW))
