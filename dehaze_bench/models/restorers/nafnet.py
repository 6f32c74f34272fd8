"""NAFNet: simple baselines for image restoration.

Chen, Chu, Zhang, Sun, ECCV 2022 (arXiv 2204.04676). A U-Net without activation functions: half of the channels gate the
other half.

| size | width | encoder, middle, decoder | parameters | MACs at 256 x 256 |
|---|---|---|---|---|
| w32 | 32 | 1 1 1 28, 1, 1 1 1 1 | 17,111,907 | 15.96 G |
| w64 | 64 | 1 1 1 28, 1, 1 1 1 1 | 67,888,835 | 63.06 G |

Any height and width: as published, zeros are added at the right and bottom inside and cut off at the end. Deviation:
none; the variant with local statistics for large test pictures (TLC) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.norms import LayerNorm2d


class NAFNet(nn.Module):
    """The U-Net; skips are added, the output is added to the input."""

    multiple = 1
    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        width: int = 32,
        encoder: Sequence[int] = (1, 1, 1, 28),
        middle: int = 1,
        decoder: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder):
            raise UsageError(f"NAFNet needs as many decoder stages as encoder stages: {list(encoder)}, {list(decoder)}")
        self.side = 2 ** len(encoder)
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        widths = [width * 2**i for i in range(len(encoder) + 1)]
        self.encoders = nn.ModuleList(_stage(dim, depth) for dim, depth in zip(widths, encoder, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(dim, 2 * dim, 2, 2) for dim in widths[:-1])
        self.middle_blks = _stage(widths[-1], middle)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, 2 * dim, 1, bias=False), nn.PixelShuffle(2)) for dim in widths[:0:-1]
        )
        self.decoders = nn.ModuleList(_stage(dim, depth) for dim, depth in zip(widths[-2::-1], decoder, strict=True))

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        height, width = hazy_BCHW.shape[2:]
        padded_BCHW = F.pad(hazy_BCHW, (0, -width % self.side, 0, -height % self.side))
        x_BCHW = self.intro(padded_BCHW)
        skips = []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            skips.append(blocks(x_BCHW))
            x_BCHW = down(skips[-1])
        x_BCHW = self.middle_blks(x_BCHW)
        for blocks, up in zip(self.decoders, self.ups, strict=True):
            x_BCHW = blocks(up(x_BCHW) + skips.pop())
        return (self.ending(x_BCHW) + padded_BCHW)[..., :height, :width]


class NAFBlock(nn.Module):
    """Gated convolutions with channel attention, then a gated pointwise layer; both residual, scaled from 0 on.

    Section 3.4 and figure 3(c) of the paper; the tensor names are theirs.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(dim, eps=1e-6)
        self.conv1 = nn.Conv2d(dim, 2 * dim, 1)
        self.conv2 = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, dim, 1))
        self.conv3 = nn.Conv2d(dim, dim, 1)
        self.norm2 = LayerNorm2d(dim, eps=1e-6)
        self.conv4 = nn.Conv2d(dim, 2 * dim, 1)
        self.conv5 = nn.Conv2d(dim, dim, 1)
        self.beta = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = gate(self.conv2(self.conv1(self.norm1(x_BCHW))))
        x_BCHW = x_BCHW + self.conv3(y_BCHW * self.sca(y_BCHW)) * self.beta
        return x_BCHW + self.conv5(gate(self.conv4(self.norm2(x_BCHW)))) * self.gamma


def gate(x_BCHW: Tensor) -> Tensor:
    """Multiply one half of the channels by the other: SimpleGate."""
    first, second = x_BCHW.chunk(2, dim=1)
    return first * second


def _stage(dim: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(dim) for _ in range(depth)))
