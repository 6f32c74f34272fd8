"""CasDyF-Net: Image Dehazing via Cascaded Dynamic Filters.

Wang, He, 2024 (arXiv 2409.08510).

| size | parameters | MACs at 256 x 256 |
|---|---|---|
| the only one | 6,228,179 | 37.10 G |

Deviations from dauing/CasDyF-Net (MIT): none known.

Shape legend: B batch, C channels, H and W size, M channels of the joined bands, K of one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mimo import ThreeScales
from dehaze_bench.nn.pooled_filter import PooledFilter

# For each of the eight bands, the two that it is fused with. The last has one neighbour, and takes the next one too.
NEIGHBOURS = ((1, 2), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 5))


class CasDyFNet(ThreeScales):
    """One block per level, which splits the features into eight bands, refines, fuses and joins them."""

    multiple = 8

    def __init__(self, base: int = 32) -> None:
        if base % len(NEIGHBOURS):
            raise UsageError(f"base={base} does not form eight bands: use a multiple of 8, 32 as published.")

        def make_level(level: int, dim: int) -> nn.Module:
            return CascadedFilters(dim)

        super().__init__(make_level, base, nn.LeakyReLU)


class CascadedFilters(nn.Module):
    """Take off low-pass bands one after another, fuse neighbouring bands, join all by channel and pixel attention."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        band = dim // len(NEIGHBOURS)
        self.frequency_enlarge = TwoScales(dim)
        self.blocks = nn.ModuleList([BandSplit(band * left, band) for left in range(len(NEIGHBOURS), 1, -1)])
        self.local = nn.ModuleList([NeighbourFusion(band) for _ in NEIGHBOURS])
        self.merger = widened_map(dim, dim)
        self.synthesizer = TripleAttention(dim)
        self.merger2 = widened_map(dim, dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.frequency_enlarge(x_BCHW)
        rest, bands = x_BCHW, []
        for block in self.blocks:
            rest, band = block(rest)
            bands.append(band)
        bands.append(rest)
        fused = [
            fuse(bands[i], bands[first], bands[second]) + bands[i]
            for i, (fuse, (first, second)) in enumerate(zip(self.local, NEIGHBOURS, strict=True))
        ]
        y_BCHW = self.merger(torch.cat(fused, dim=1)) + x_BCHW
        return self.merger2(self.synthesizer(y_BCHW)) + y_BCHW


class BandSplit(nn.Module):
    """Split features by a low-pass of their own: the refined low band, and the rest with a band fewer channels."""

    def __init__(self, dim: int, band: int) -> None:
        super().__init__()
        self.low_pass_filter = PooledFilter(dim, groups=dim)
        self.enlarger = nn.Sequential(nn.BatchNorm2d(dim), nn.LeakyReLU(), nn.Conv2d(dim, dim - band, 3, padding=1))
        self.fe = nn.Sequential(
            nn.BatchNorm2d(dim), nn.LeakyReLU(), nn.Conv2d(dim, band, 1), ThreeDilations(band), ThreeDilations(band)
        )

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        low_BCHW = self.low_pass_filter(x_BCHW)
        return self.enlarger(x_BCHW - low_BCHW), self.fe(low_BCHW)


class ThreeDilations(nn.Module):
    """3x3 convolutions of dilation 5, 1 and 3 in a row, each added to its input; all four results are merged."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=5, dilation=5), nn.PReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.PReLU())
        self.conv3 = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=3, dilation=3), nn.PReLU())
        self.merge = widened_map(4 * dim, dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        steps = [x_BCHW]
        for conv in (self.conv1, self.conv2, self.conv3):
            steps.append(conv(steps[-1]) + steps[-1])
        return x_BCHW + self.merge(torch.cat(steps, dim=1))


class TwoScales(nn.Module):
    """x and a pointwise network of the sum of two 3x3 convolutions, of dilation 4 and 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=4, dilation=4)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.merge = widened_map(dim, dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.merge(self.conv1(x_BCHW) + self.conv2(x_BCHW))


class NeighbourFusion(nn.Module):
    """Mix three bands into one by a matrix made of their means: every output channel is a mean of all inputs."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * dim, 3 * dim * dim)
        self.conv1d = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, *bands: Tensor) -> Tensor:
        joined_BMHW = torch.cat(bands, dim=1)
        mean_BM = joined_BMHW.mean((2, 3))
        weights_BMK = self.conv1d(self.fc(mean_BM)[:, None]).reshape(*mean_BM.shape, -1).softmax(1)
        return torch.einsum("bmhw,bmk->bkhw", joined_BMHW, weights_BMK)


class TripleAttention(nn.Module):
    """x and a pointwise network of three weighings of BN(x): a gated depthwise one, by channel, by pixel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)
        self.Wv = nn.Sequential(
            nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 3, padding=1, groups=dim, padding_mode="reflect")
        )
        self.Wg = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, dim, 1), nn.Sigmoid())
        self.ca = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, dim, 1), nn.LeakyReLU(), nn.Conv2d(dim, dim, 1), nn.Sigmoid()
        )
        self.pa = nn.Sequential(nn.Conv2d(dim, dim // 8, 1), nn.LeakyReLU(), nn.Conv2d(dim // 8, 1, 1), nn.Sigmoid())
        self.mlp = nn.Sequential(nn.Conv2d(3 * dim, 4 * dim, 1), nn.LeakyReLU(), nn.Conv2d(4 * dim, dim, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.norm(x_BCHW)
        weighed = self.Wv(y_BCHW) * self.Wg(y_BCHW), self.ca(y_BCHW) * y_BCHW, self.pa(y_BCHW) * y_BCHW
        return x_BCHW + self.mlp(torch.cat(weighed, dim=1))


def widened_map(in_dim: int, dim: int) -> nn.Sequential:
    """Return a pointwise network, twice as wide inside as its output."""
    return nn.Sequential(nn.Conv2d(in_dim, 2 * dim, 1), nn.GELU(), nn.Conv2d(2 * dim, dim, 1))
