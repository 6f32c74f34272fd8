"""The frame of SwinIR: a convolution, groups of blocks that keep the resolution, a convolution, a reconstruction.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer", arXiv 2108.10257, figure 2; MambaIR and MambaIRv2 put
their own blocks into it. Tensor names are the published ones without the shells around them.

Shape legend: B batch, C channels, H and W size, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.normalisation import DIV2K_MEAN, Normalisation
from dehaze_bench.nn.reconstruction import make_reconstruction

# block(group, place, number): the place in its group, and the number in the network.
MakeBlock = Callable[[int, int, int], nn.Module]
CONNECTIONS = ("1conv", "3conv")


class ResidualGroups(nn.Module):
    """Groups of blocks on channels-last features (B, H, W, D), `depths` blocks each, a convolution after every group.

    `upsampler` is "" (a residual picture of the same size), "pixelshuffle" (classical super-resolution),
    "pixelshuffledirect" (lightweight) or "nearest+conv" (real-world); `connection` is the convolution after the groups,
    "1conv" or "3conv" (a bottleneck). The DIV2K mean is taken off the picture and put back, and it is scaled by
    `image_range` between; a grey picture has no mean. The output has `upscale` times the size, and is not clamped.
    """

    multiple = 1
    output_range = "[0, 1], not clamped"
    normalisation = Normalisation(DIV2K_MEAN)

    def __init__(
        self,
        make_block: MakeBlock,
        dim: int,
        depths: Sequence[int],
        upsampler: str = "",
        upscale: int = 1,
        connection: str = "1conv",
        channels: int = 3,
        image_range: float = 1.0,
    ) -> None:
        super().__init__()
        if connection not in CONNECTIONS:
            raise UsageError(f"Unknown connection '{connection}'. {nearest(connection, CONNECTIONS)}")
        if not depths or min(depths) < 1:
            raise UsageError(f"Every group needs a block or more: depths={list(depths)}")
        self.upscale = upscale
        mean = DIV2K_MEAN if channels == len(DIV2K_MEAN) else (0.0,) * channels
        self.normalisation = Normalisation(mean, (1 / image_range,) * channels)
        self.conv_first = nn.Conv2d(channels, dim, 3, padding=1)
        self.patch_embed = nn.LayerNorm(dim)  # a token is a pixel
        self.layers = nn.ModuleList()
        for group, depth in enumerate(depths):
            start = sum(depths[:group])
            blocks = [make_block(group, place, start + place) for place in range(depth)]
            self.layers.append(Group(blocks, _connection(connection, dim)))
        self.norm = nn.LayerNorm(dim)
        self.conv_after_body = _connection(connection, dim)
        self.reconstruction = make_reconstruction(upsampler, dim, channels, upscale)
        self.apply(init_linear)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        return self.normalisation.undo(self.restore(self.normalisation.apply(hazy_BCHW)))

    def restore(self, image_BCHW: Tensor) -> Tensor:
        """Map a normalised picture to a normalised picture."""
        shallow_BDHW = self.conv_first(image_BCHW)
        x_BHWD = self.patch_embed(shallow_BDHW.permute(0, 2, 3, 1))
        for group in self.layers:
            x_BHWD = group(x_BHWD)
        deep_BDHW = self.norm(x_BHWD).permute(0, 3, 1, 2)
        return self.reconstruction(self.conv_after_body(deep_BDHW) + shallow_BDHW, image_BCHW)


class Group(nn.Module):
    """x + convolution(blocks(x)), (B, H, W, D)."""

    def __init__(self, blocks: Sequence[nn.Module], conv: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.conv = conv

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return x_BHWD + convolve_picture(self.conv, self.blocks(x_BHWD))


def _connection(kind: str, dim: int) -> nn.Module:
    if kind == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    narrow = max(1, dim // 4)
    first, middle = nn.Conv2d(dim, narrow, 3, padding=1), nn.Conv2d(narrow, narrow, 1)
    return nn.Sequential(first, nn.LeakyReLU(0.2), middle, nn.LeakyReLU(0.2), nn.Conv2d(narrow, dim, 3, padding=1))
