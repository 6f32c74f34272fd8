"""A restorer from any backbone: its feature pyramid, a light decoder, soft reconstruction.

What the surveys do for classification, detection and segmentation (one head, many backbones), for dehazing. The decoder
follows feature pyramid networks (Lin et al., arXiv 1612.03144) with the skip fusion and the soft reconstruction of the
DehazeFormer line (arXiv 2204.03883); backbones of a single stride get the simple pyramid of ViTDet (Li et al., arXiv
2203.16527, figure 2). The decoder has no sequence model: what looks far is the backbone.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.fusion import SelectiveKernelFusion, reconstruct
from dehaze_bench.nn.norms import LayerNorm2d
from dehaze_bench.scans import Scan

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FINEST = 4  # stride of the finest map of a simple pyramid


class Encoder(Protocol):
    """What a backbone offers: maps (B, C_i, H / s_i, W / s_i), finest first."""

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int

    def features(self, image_BCHW: Tensor) -> list[Tensor]: ...


class Pyramid(nn.Module):
    """Restorer of images (B, 3, H, W) in [0, 1]; the output is not clamped.

    `backbone(num_classes=0)` makes a network with `features`, `widths`, `strides` and `multiple`; `scan` replaces the
    one that it was published with. `dim` is the number of channels of the decoder, `detail` that of the full-resolution
    path which keeps edges. Starts as the identity. H and W must be multiples of `multiple`.
    """

    trainable = True
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Callable[..., nn.Module], scan: Scan | None = None, dim: int = 64, detail: int = 16
    ) -> None:
        super().__init__()
        if dim < 8 or detail < 1:
            raise UsageError(f"The pyramid needs dim >= 8 and detail >= 1, not {dim} and {detail}")
        self.backbone = make_backbone(partial(backbone, num_classes=0), scan)
        # What every published backbone was trained with.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        encoder = cast(Encoder, self.backbone)
        widths, strides = encoder.widths, encoder.strides
        self.spread: SimplePyramid | None = None
        if len(strides) == 1:
            self.spread = SimplePyramid(widths[0], strides[0], dim)
            widths, strides = self.spread.widths, self.spread.strides
        self.strides = strides
        self.multiple = math.lcm(encoder.multiple, *strides)
        self.laterals = nn.ModuleList(nn.Sequential(nn.Conv2d(width, dim, 1), LayerNorm2d(dim)) for width in widths)
        self.fusions = nn.ModuleList(SelectiveKernelFusion(dim) for _ in strides[1:])
        self.smooth = nn.ModuleList(Smooth(dim) for _ in strides[1:])
        self.lift = nn.Conv2d(dim, detail * strides[0] ** 2, 1)
        self.detail = nn.Conv2d(3, detail, 3, padding=1, padding_mode="reflect")
        self.head = nn.Sequential(
            nn.Conv2d(2 * detail, detail, 3, padding=1, padding_mode="reflect"),
            nn.GELU(),
            nn.Conv2d(detail, 4, 3, padding=1, padding_mode="reflect"),
        )
        # Gain and offset start at zero, so training starts from the hazy input instead of from noise.
        for parameter in self.head[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        normalised = (image_BCHW - self.mean) / self.std
        maps = cast(Encoder, self.backbone).features(normalised)
        if self.spread is not None:
            maps = self.spread(maps[0])
        levels = [lateral(found) for lateral, found in zip(self.laterals, maps, strict=True)]
        x = levels.pop()
        for fusion, smooth, skip in zip(self.fusions, self.smooth, reversed(levels), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = smooth(fusion(x, skip))
        coarse = F.pixel_shuffle(self.lift(x), self.strides[0])
        return reconstruct(self.head(torch.cat([coarse, self.detail(normalised)], dim=1)), image_BCHW)


class SimplePyramid(nn.Module):
    """Maps at strides 4, 8, ... up to the backbone's from its one map, by transposed convolutions."""

    def __init__(self, width: int, stride: int, dim: int) -> None:
        super().__init__()
        steps = int(math.log2(stride / FINEST)) if stride > FINEST else 0
        if FINEST * 2**steps != stride and stride != FINEST:
            raise UsageError(f"A simple pyramid needs a stride of 4, 8, 16 or 32, not {stride}")
        self.strides = tuple(stride // 2**k for k in range(steps, -1, -1))
        self.widths = (dim,) * steps + (width,)
        self.ups = nn.ModuleList()
        for k in range(steps, 0, -1):
            layers: list[nn.Module] = []
            for i in range(k):
                layers += [nn.ConvTranspose2d(width if i == 0 else dim, dim, 2, stride=2), LayerNorm2d(dim), nn.GELU()]
            self.ups.append(nn.Sequential(*layers))

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        return [*(up(x_BCHW) for up in self.ups), x_BCHW]


class Smooth(nn.Module):
    """Residual 3x3 depthwise and pointwise convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, padding_mode="reflect"), nn.Conv2d(dim, dim, 1), nn.GELU()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.layers(x_BCHW)


def make_backbone(backbone: Callable[..., nn.Module], scan: Scan | None) -> nn.Module:
    """Return the backbone with this scan, or with its own for None; raises `UsageError` where it takes none."""
    if scan is None:
        return backbone()
    made: Any = backbone
    while isinstance(made, partial):
        made = made.func
    if "scan" not in inspect.signature(made).parameters:
        raise UsageError(
            f"Backbone '{made.__name__}' takes no scan, but scan={scan.name} was asked for. Leave scan out, or choose "
            "a sequence backbone: `dehaze-bench ls backbones` lists them."
        )
    return backbone(scan=scan)
