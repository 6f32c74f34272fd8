"""SegMamba: a volume encoder with three-way Mamba layers, and a UNETR decoder for segmentation.

Xing et al., "SegMamba: Long-range Sequential Modeling Mamba for 3D Medical Image Segmentation", MICCAI 2024, arXiv
2401.13560. The published size for BraTS, four channels in and four classes out, has 67,416,196 parameters: widths 48,
96, 192, 384, two layers per stage, 768 channels in the deepest residual block. The decoder is MONAI's.

Deviations: numbers of tokens that `slices` does not divide are accepted. The published class fixes 48 channels in its
last convolution, so its first width must be 48; here it follows the first width.

Shape legend: B batch, C channels, D, H and W size, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.branched import Branched
from dehaze_bench.scans import Scan, volume

SLICES = (64, 32, 16, 8)


class SegMamba(nn.Module):
    """Class scores of voxels, (B, channels, D, H, W) to (B, num_classes, D, H, W); without classes a mean feature.

    `slices` is the number of pieces that the third route of each stage cuts the tokens into. `scan` replaces the
    routes of all layers. `features` are the four maps of the encoder, normalised and mapped, which is what the
    decoder sees; the sides of a volume must be multiples of 16.
    """

    multiple = 16
    strides = (2, 4, 8, 16)

    def __init__(
        self,
        channels: int = 4,
        num_classes: int = 4,
        depths: Sequence[int] = (2, 2, 2, 2),
        dims: Sequence[int] = (48, 96, 192, 384),
        hidden: int = 768,
        slices: Sequence[int] = SLICES,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        if not len(depths) == len(dims) == len(slices) == 4:
            raise UsageError(f"SegMamba has four stages, not depths={depths}, dims={dims} and slices={slices}")
        self.channels, self.widths = channels, tuple(dims)
        before = (channels, *dims[:-1])
        self.downs = nn.ModuleList(
            nn.Conv3d(before[0], dims[0], 7, stride=2, padding=3) if i == 0 else Down(before[i], dims[i])
            for i in range(4)
        )
        self.gscs = nn.ModuleList(GatedSpatialConv(dim) for dim in dims)
        number = 0
        self.stages = nn.ModuleList()
        for dim, depth, pieces in zip(dims, depths, slices, strict=True):
            native = Scan("tri_orientation", partial(volume.tri_orientation, slices=pieces), "sum")
            scans = [scan.for_block(number + i) if scan else native for i in range(depth)]
            self.stages.append(nn.ModuleList(ToM(dim, each, d_state, d_conv, expand) for each in scans))
            number += depth
        self.mlps = nn.ModuleList(VoxelMlp(dim) for dim in dims)
        self.decoder = Decoder(channels, num_classes, dims, hidden) if num_classes else None

    def features(self, volume_BCDHW: Tensor) -> list[Tensor]:
        """Return maps (B, C_i, D / s_i, H / s_i, W / s_i), finest first."""
        if volume_BCDHW.ndim != 5 or any(n % self.multiple for n in volume_BCDHW.shape[2:]):
            raise UsageError(
                f"SegMamba takes volumes (B, {self.channels}, D, H, W) with sides in multiples of {self.multiple}, not "
                f"{tuple(volume_BCDHW.shape)}"
            )
        if max(volume_BCDHW.shape[2:]) == self.multiple:
            raise UsageError(f"SegMamba needs more than one voxel in its last map: a side longer than {self.multiple}")
        x, found = volume_BCDHW, []
        for down, gsc, stage, mlp in zip(self.downs, self.gscs, self.stages, self.mlps, strict=True):
            x = gsc(down(x))
            for layer in stage:  # type: ignore[attr-defined]
                x = layer(x)
            found.append(mlp(F.instance_norm(x)))
        return found

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        maps = self.features(volume_BCDHW)
        return maps[-1].flatten(2).mean(2) if self.decoder is None else self.decoder(volume_BCDHW, maps)


class ToM(nn.Module):
    """Norm and a branched layer over the voxels, residual ("tri-orientated Mamba")."""

    def __init__(self, dim: int, scan: Scan, d_state: int, d_conv: int, expand: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mamba = Branched(dim, scan, d_state, d_conv, expand)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        grid = tuple(x_BCDHW.shape[2:])
        y_BLC = self.mamba(self.norm(x_BCDHW.flatten(2).transpose(1, 2)), grid)
        return x_BCDHW + y_BLC.transpose(1, 2).unflatten(2, grid)


class Down(nn.Module):
    """Normalise and halve the sides."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(dim, out, 2, stride=2)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        return self.conv(F.instance_norm(x_BCDHW))


class GatedSpatialConv(nn.Module):
    """Two 3x3x3 convolutions beside a pointwise one, summed, a pointwise one after; residual.

    Every convolution is normalised and rectified. The paper multiplies the two paths (a gate); the published code,
    which is followed here, adds them.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(dim, dim, 3, padding=1)
        self.proj2 = nn.Conv3d(dim, dim, 3, padding=1)
        self.proj3 = nn.Conv3d(dim, dim, 1)
        self.proj4 = nn.Conv3d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = _rectify(self.proj2, _rectify(self.proj, x))
        return x + _rectify(self.proj4, wide + _rectify(self.proj3, x))


def _rectify(conv: nn.Conv3d, x: Tensor) -> Tensor:
    return F.relu(F.instance_norm(conv(x)))


class VoxelMlp(nn.Module):
    """Two pointwise convolutions with a GELU between, twice as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv3d(dim, 2 * dim, 1)
        self.fc2 = nn.Conv3d(2 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Decoder(nn.Module):
    """UNETR: a residual block on the input and on every map, then up, one skip after the other."""

    def __init__(self, channels: int, num_classes: int, dims: Sequence[int], hidden: int) -> None:
        super().__init__()
        wide = (*dims, hidden)
        self.skips = nn.ModuleList(
            ResidualConv(before, dim) for before, dim in zip((channels, *dims), wide, strict=True)
        )
        self.ups = nn.ModuleList(UpBlock(wide[i + 1], wide[i]) for i in reversed(range(4)))
        self.last = ResidualConv(dims[0], dims[0])
        self.out = nn.Conv3d(dims[0], num_classes, 1)

    def forward(self, volume_BCDHW: Tensor, maps: Sequence[Tensor]) -> Tensor:
        skips = [skip(x) for skip, x in zip(self.skips, (volume_BCDHW, *maps), strict=True)]
        x = skips.pop()
        for up in self.ups:
            x = up(x, skips.pop())
        return self.out(self.last(x))


class ResidualConv(nn.Module):
    """Two 3x3x3 convolutions, normalised, added to the input or to a pointwise map of it; leaky ReLU (0.01)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(dim, out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv3d(out, out, 3, padding=1, bias=False)
        self.conv3 = None if dim == out else nn.Conv3d(dim, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.instance_norm(self.conv2(F.leaky_relu(F.instance_norm(self.conv1(x)))))
        return F.leaky_relu(y + (x if self.conv3 is None else F.instance_norm(self.conv3(x))))


class UpBlock(nn.Module):
    """Double the sides, put the skip beside, a residual block."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(dim, out, 2, stride=2, bias=False)
        self.conv = ResidualConv(2 * out, out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([self.up(x), skip], dim=1))
