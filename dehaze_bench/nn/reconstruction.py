"""How the features of a super-resolution network become a picture, enlarged or of the same size.

The tensor names are those of SwinIR (Liang et al., arXiv 2108.10257) and its descendants.

Shape legend: B batch, C channels, H and W size, h and w size of the features, D features.
"""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest

WIDTH = 64  # of the features between enlargement and picture, where they are mapped first
REAL_SCALE = 4


class SubPixel(nn.Sequential):
    """Enlarge by a power of two or by three: convolutions to more channels, pixel shuffles (arXiv 1609.05158)."""

    def __init__(self, scale: int, dim: int) -> None:
        if scale < 1 or (scale & (scale - 1) and scale != 3):
            raise UsageError(f"Pictures are enlarged by a power of two or by 3, not by upscale={scale}")
        steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for step in steps:
            layers += [nn.Conv2d(dim, step**2 * dim, 3, padding=1), nn.PixelShuffle(step)]
        super().__init__(*layers)


class Residual(nn.Module):
    """One convolution to a picture that is added to the input; of the same size."""

    def __init__(self, dim: int, channels: int, scale: int) -> None:
        super().__init__()
        if scale != 1:
            raise UsageError(
                f"Without an upsampler a picture keeps its size: upscale={scale} needs upsampler=pixelshuffle"
            )
        self.conv_last = nn.Conv2d(dim, channels, 3, padding=1)

    def forward(self, x_BDhw: Tensor, image_BChw: Tensor) -> Tensor:
        return image_BChw + self.conv_last(x_BDhw)


class Direct(nn.Module):
    """One convolution to all pixels of the picture, shuffled into place; the input is not added."""

    def __init__(self, dim: int, channels: int, scale: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(nn.Conv2d(dim, scale**2 * channels, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x_BDhw: Tensor, image_BChw: Tensor) -> Tensor:
        return self.upsample(x_BDhw)


class Shuffled(nn.Module):
    """A convolution, enlargement by sub-pixels, a convolution to the picture; the input is not added."""

    def __init__(self, dim: int, channels: int, scale: int) -> None:
        super().__init__()
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(dim, WIDTH, 3, padding=1), nn.LeakyReLU())
        self.upsample = SubPixel(scale, WIDTH)
        self.conv_last = nn.Conv2d(WIDTH, channels, 3, padding=1)

    def forward(self, x_BDhw: Tensor, image_BChw: Tensor) -> Tensor:
        return self.conv_last(self.upsample(self.conv_before_upsample(x_BDhw)))


class Repeated(nn.Module):
    """Twice repeat every pixel and convolve, which leaves fewer patterns on real pictures; four times larger."""

    def __init__(self, dim: int, channels: int, scale: int) -> None:
        super().__init__()
        if scale != REAL_SCALE:
            raise UsageError(f"upsampler=nearest+conv enlarges by {REAL_SCALE}, not by upscale={scale}")
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(dim, WIDTH, 3, padding=1), nn.LeakyReLU())
        self.conv_up1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.conv_up2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.conv_hr = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.conv_last = nn.Conv2d(WIDTH, channels, 3, padding=1)

    def forward(self, x_BDhw: Tensor, image_BChw: Tensor) -> Tensor:
        x_BDHW = self.conv_before_upsample(x_BDhw)
        for conv in (self.conv_up1, self.conv_up2):
            x_BDHW = F.leaky_relu(conv(F.interpolate(x_BDHW, scale_factor=2.0, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x_BDHW), 0.2))


UPSAMPLERS: dict[str, type[nn.Module]] = {
    "": Residual,
    "pixelshuffledirect": Direct,
    "pixelshuffle": Shuffled,
    "nearest+conv": Repeated,
}


def make_reconstruction(upsampler: str, dim: int, channels: int, scale: int) -> nn.Module:
    """Return the module (features, image) -> picture; raises `UsageError` for an unknown name or an unfit scale."""
    if upsampler not in UPSAMPLERS:
        raise UsageError(f"Unknown upsampler '{upsampler}'. {nearest(upsampler, UPSAMPLERS)}")
    return UPSAMPLERS[upsampler](dim, channels, scale)
