"""nnMamba: a residual network over volumes in which one Mamba layer per stage looks around, and a U-Net decoder.

Gong et al., "nnMamba: 3D Biomedical Image Segmentation, Classification and Landmark Detection with State Space
Model", ISBI 2025, arXiv 2402.03526. The published size, one channel in and six classes out, has 15,944,958
parameters: 32 channels, three blocks per stage.

The Mamba layer of a stage is one module that all its blocks but the first share. Published state dicts list its tensors
once per block.

Shape legend: B batch, C channels, D, H and W size, L tokens, K routes.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.branched import walk_shared
from dehaze_bench.nn.merge import Merge
from dehaze_bench.nn.mixers.mamba import Mamba
from dehaze_bench.nn.tracks import check_walks
from dehaze_bench.scans import Scan, planar

BIDIRECTIONAL = Scan("bidirectional", planar.bidirectional, "mean")


class NnMamba(nn.Module):
    """Class scores of voxels, (B, channels, D, H, W) to (B, num_classes, D, H, W); without classes a mean feature.

    `features` are the maps after the stem and the three stages, not normalised; the sides of a volume must be
    multiples of 16. `scan` replaces the two routes of the Mamba layers; each route is walked twice, the second time
    with the channels in reverse order.
    """

    multiple = 16
    strides = (2, 4, 8, 16)

    def __init__(
        self,
        channels: int = 1,
        dim: int = 32,
        blocks: int = 3,
        num_classes: int = 6,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.widths = channels, tuple(dim * 2**i for i in range(4))
        self.stem = DoubleConv(channels, dim, stride=2)
        self.stages = nn.ModuleList(
            Stage(width, blocks, (scan or BIDIRECTIONAL).for_block(i), d_state, d_conv, expand)
            for i, width in enumerate(self.widths[:-1])
        )
        self.decoder = Decoder(dim, num_classes) if num_classes else None

    def features(self, volume_BCDHW: Tensor) -> list[Tensor]:
        """Return maps (B, C_i, D / s_i, H / s_i, W / s_i), finest first."""
        if volume_BCDHW.ndim != 5 or any(n % self.multiple for n in volume_BCDHW.shape[2:]):
            raise UsageError(
                f"nnMamba takes volumes (B, {self.channels}, D, H, W) with sides in multiples of {self.multiple}, not "
                f"{tuple(volume_BCDHW.shape)}"
            )
        found = [self.stem(volume_BCDHW)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        maps = self.features(volume_BCDHW)
        return maps[-1].flatten(2).mean(2) if self.decoder is None else self.decoder(maps)


class Stage(nn.Module):
    """Residual blocks at half the resolution, twice as wide; those after the first add what the Mamba layer sees."""

    def __init__(self, dim: int, blocks: int, scan: Scan, d_state: int, d_conv: int, expand: float) -> None:
        super().__init__()
        out = 2 * dim
        self.blocks = nn.ModuleList(
            Residual(dim if i == 0 else out, out, stride=2 if i == 0 else 1) for i in range(blocks)
        )
        self.mamba_layer = MambaLayer(out, scan, d_state, d_conv, expand) if blocks > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, self.mamba_layer(x) if i and self.mamba_layer is not None else None)
        return x


class Residual(nn.Module):
    """Two 3x3x3 convolutions, normalised, plus what is given, plus the input or a pointwise map of it."""

    def __init__(self, dim: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(dim, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(out)
        self.conv2 = nn.Conv3d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv3d(dim, out, 1, stride=stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = y if seen is None else y + seen
        return F.relu(y + self.downsample(x))


class MambaLayer(nn.Module):
    """A Mamba mixer along every route, over the channels in both orders, between two pointwise convolutions."""

    def __init__(self, dim: int, scan: Scan, d_state: int = 16, d_conv: int = 4, expand: float = 2.0) -> None:
        super().__init__()
        self.scan = check_walks(scan, "nnMamba")
        self.nin = nn.Conv3d(dim, dim, 1, bias=False)
        self.norm = nn.BatchNorm3d(dim)
        self.mamba = Mamba(dim, d_state, d_conv, expand)
        self.merge = Merge(scan.merge, 2 * scan.num_routes, dim)
        self.nin2 = nn.Conv3d(dim, dim, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(dim)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        x_BCDHW = F.relu(self.norm(self.nin(x_BCDHW)))
        grid = tuple(x_BCDHW.shape[2:])
        x_BLC = x_BCDHW.flatten(2).transpose(1, 2)
        there_BKLC, visits_T = walk_shared(self.mamba, x_BLC, self.scan, grid)
        back_BKLC, _ = walk_shared(self.mamba, x_BLC.flip(2), self.scan, grid)
        both_BKLC = torch.cat([there_BKLC, back_BKLC.flip(3)], dim=1)
        y_BLC = self.merge(both_BKLC, None if visits_T is None else 2 * visits_T)
        return F.relu(self.norm2(self.nin2(y_BLC.transpose(1, 2).unflatten(2, grid) + x_BCDHW)))


class DoubleConv(nn.Module):
    """Two 3x3x3 convolutions with bias, each normalised and rectified."""

    def __init__(self, dim: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(dim, out, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm3d(out)
        self.conv2 = nn.Conv3d(out, out, 3, padding=1)
        self.bn2 = nn.BatchNorm3d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Decoder(nn.Module):
    """Up to the full resolution, with the finer maps beside, each scaled by an attention over its channels."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        widths = [dim * 2**i for i in range(4)]
        self.scales = nn.ModuleList(ChannelScale(width) for width in widths[:-1])
        self.convs = nn.ModuleList(DoubleConv(widths[i + 1] + widths[i], widths[i]) for i in reversed(range(3)))
        self.last = DoubleConv(dim, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        scaled = [scale(x) for scale, x in zip(self.scales, maps[:-1], strict=True)]
        x = maps[-1]
        for conv in self.convs:
            x = conv(torch.cat([_double(x), scaled.pop()], dim=1))
        return self.last(_double(x))


class ChannelScale(nn.Module):
    """Every channel times a gate made of all channel means, a sixteenth as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(dim, dim // 16)
        self.layer2 = nn.Linear(dim // 16, dim)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        gate_BC = torch.sigmoid(self.layer2(F.relu(self.layer1(x_BCDHW.flatten(2).mean(2)))))
        return x_BCDHW * gate_BC[:, :, None, None, None]


def _double(x_BCDHW: Tensor) -> Tensor:
    return F.interpolate(x_BCDHW, scale_factor=2, mode="trilinear", align_corners=False)
