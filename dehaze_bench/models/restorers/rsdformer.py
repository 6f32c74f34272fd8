"""RSDformer: an effective transformer for remote sensing satellite image dehazing.

Song, Fan, Li, Jin, Jin, Fan, IEEE Geoscience and Remote Sensing Letters 20, 2023 (doi 10.1109/LGRS.2023.3319832).
Restormer's attention across channels beside a branch of convolutions that keeps details, feed-forward layers that
filter by pooling, and skips that a learned gate mixes in.

| size | dim | blocks | heads | parameters | MACs at 256 x 256 |
|---|---|---|---|---|---|
| the published one | 24 | 4, 8, 8 | 2, 4, 8 | 5,354,138 | 61.92 G |

The published code takes four levels and builds three; its decoder's first level and the refinement have the heads of
level 2. A norm in each feed-forward layer and one convolution are part of its checkpoints and never used; they are kept
under `unused`, so that counts and files agree. Deviation: none in the network. The published test restores tiles of 128
that overlap by 32 and weighs them by the distance to their centres; a whole picture comes out differently, since the
attention and the pooling see all of what they are given.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.four_levels import Downsample, Upsample
from dehaze_bench.nn.norms import LayerNorm2d
from dehaze_bench.nn.prenorm import NORMS
from dehaze_bench.nn.transposed_attention import TransposedAttention

# Bins per side of the pooled maps, one for each quarter of the channels.
LOW_BINS = (1, 2, 3, 6)
HIGH_BINS = (1, 4, 8, 16)
# Where the gates of the skips start, before the sigmoid.
GATES = {1: -0.6, 2: -1.0}


class RSDformer(nn.Module):
    """Three levels on dim, 2 dim and 4 dim channels, gated skips, refinement; H and W are multiples of 4.

    `depths` and `heads` are those of the levels; the refinement is as deep as level 1. The norms are "withbias" or
    "biasfree" (see `nn/prenorm.py`). Raises `UsageError` for widths that heads, halves or quarters do not divide.
    """

    multiple = 4
    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 24,
        depths: Sequence[int] = (4, 8, 8),
        heads: Sequence[int] = (2, 4, 8),
        expansion: float = 3,
        bias: bool = False,
        norm: str = "withbias",
    ) -> None:
        super().__init__()
        check(dim, depths, heads, expansion, norm)

        def make_level(level: int, width: int, depth: int) -> nn.Module:
            return nn.Sequential(*(Block(width, heads[level - 1], expansion, bias, norm) for _ in range(depth)))

        self.patch_embed = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.encoder_level1 = make_level(1, dim, depths[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = make_level(2, 2 * dim, depths[1])
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = make_level(3, 4 * dim, depths[2])
        self.up3_2 = Upsample(4 * dim)
        self.gate_level2 = Gate(GATES[2])
        self.decoder_level2 = make_level(2, 2 * dim, depths[1])
        self.up2_1 = Upsample(2 * dim)
        self.gate_level1 = Gate(GATES[1])
        self.decoder_level1 = make_level(2, dim, depths[0])
        self.refinement = make_level(2, dim, depths[0])
        self.output = nn.Conv2d(dim, 3, 3, padding=1, bias=bias)
        self.unused = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias).requires_grad_(False)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        skip1 = self.encoder_level1(self.patch_embed(hazy_BCHW))
        skip2 = self.encoder_level2(self.down1_2(skip1))
        x_BCHW = self.encoder_level3(self.down2_3(skip2))
        x_BCHW = self.decoder_level2(self.gate_level2(self.up3_2(x_BCHW), skip2))
        x_BCHW = self.decoder_level1(self.gate_level1(self.up2_1(x_BCHW), skip1))
        return hazy_BCHW + self.output(self.refinement(x_BCHW))


def check(dim: int, depths: Sequence[int], heads: Sequence[int], expansion: float, norm: str) -> None:
    """Raise `UsageError` unless an RSDformer can have these sizes."""
    if len(depths) != 3 or len(heads) != 3:
        raise UsageError(f"RSDformer has three levels: give three depths and heads, not {list(depths)}, {list(heads)}")
    if norm not in NORMS:
        raise UsageError(f"RSDformer knows no norm '{norm}'. {nearest(norm, NORMS)}")
    if dim % 2:
        raise UsageError(f"RSDformer halves its channels: give an even dim, not {dim}")
    for width, count in ((dim, heads[0]), (dim, heads[1]), (2 * dim, heads[1]), (4 * dim, heads[2])):
        if width % count:
            raise UsageError(f"RSDformer cannot split {width} channels into {count} heads; change dim or heads")
        if int(width * expansion) % 4:
            raise UsageError(
                f"RSDformer pools quarters of its {int(width * expansion)} hidden channels: "
                f"{width} channels times expansion must be a multiple of 4"
            )


class Block(nn.Module):
    """Pre-norm attention, then the feed-forward layer, both residual."""

    def __init__(self, dim: int, heads: int, expansion: float, bias: bool, norm: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = NORMS[norm](dim), NORMS[norm](dim)
        self.attn = DetailAttention(dim, heads, bias)
        self.ffn = DualFrequencyFFN(dim, int(dim * expansion), norm)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW + self.attn(self.norm1(x_BCHW))
        return x_BCHW + self.ffn(self.norm2(x_BCHW))


class DetailAttention(TransposedAttention):
    """Attention across channels, joined with three `Coupling` layers on the same features before the last map."""

    def __init__(self, dim: int, heads: int, bias: bool = False) -> None:
        super().__init__(dim, heads, bias)
        self.project_out = nn.Conv2d(2 * dim, dim, 1)
        self.detail = nn.Sequential(*(Coupling(dim) for _ in range(3)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.project_out(torch.cat([self.attend(x_BCHW), self.detail(x_BCHW)], dim=1))


class Coupling(nn.Module):
    """A pointwise mix of all channels, then an affine coupling of the two halves, first one way, then the other.

    The second half gets phi(first) added; the first is then multiplied by exp(rho(second)) and gets eta(second) added.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shuffle = nn.Conv2d(dim, dim, 1)
        self.phi, self.rho, self.eta = (bottleneck(dim // 2) for _ in range(3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        first, second = self.shuffle(x_BCHW).chunk(2, dim=1)
        second = second + self.phi(first)
        first = first * self.rho(second).exp() + self.eta(second)
        return torch.cat([first, second], dim=1)


def bottleneck(dim: int) -> nn.Sequential:
    """Return an inverted bottleneck: twice the channels, depthwise 3x3, back, each normalised over the channels."""
    return nn.Sequential(
        nn.Conv2d(dim, 2 * dim, 1, bias=False),
        LayerNorm2d(2 * dim),
        nn.ReLU(),
        nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim, bias=False),
        LayerNorm2d(2 * dim),
        nn.ReLU(),
        nn.Conv2d(2 * dim, dim, 1, bias=False),
        LayerNorm2d(dim),
    )


class DualFrequencyFFN(nn.Module):
    """Pointwise maps to `hidden` channels and back; between them what pooling finds is mixed and added.

    Low frequencies are means and high frequencies are maxima over bins, laid over the features again.
    """

    def __init__(self, dim: int, hidden: int, norm: str = "withbias") -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fusion = nn.Conv2d(2 * hidden, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.unused = NORMS[norm](dim).requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.fc1(x_BCHW)
        low = pool_quarters(x_BCHW, F.adaptive_avg_pool2d, LOW_BINS)
        high = pool_quarters(x_BCHW, F.adaptive_max_pool2d, HIGH_BINS)
        return self.fc2(x_BCHW + self.fusion(torch.cat([low, high], dim=1)).relu())


def pool_quarters(x_BCHW: Tensor, pool: Callable[[Tensor, int], Tensor], bins: Sequence[int]) -> Tensor:
    """Pool each quarter of the channels to its number of bins, resize it to the features, and cut it at zero."""
    parts = zip(x_BCHW.chunk(len(bins), dim=1), bins, strict=True)
    size = x_BCHW.shape[2:]
    return torch.cat([F.interpolate(pool(part, side), size, mode="bilinear") for part, side in parts], dim=1).relu()


class Gate(nn.Module):
    """A learned share of the decoder's features, the rest of the skip's: one number for all channels and pixels."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([start]))

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        share = self.weight.sigmoid()
        return share * x_BCHW + (1 - share) * skip_BCHW
