"""How a pair of images is read before it is scored: crop, clamp, 8-bit step, border, colour, pooling, peak.

Every value is kept on the scale [0, 1], the 8-bit ones as k/255: PSNR and SSIM do not change when images and
peak are scaled together. C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.metrics.colour import luma
from dehaze_bench.metrics.crop import crop_box, cut


@dataclass(frozen=True)
class Pair:
    """A restored image and its target in float64, as a score sees them, with the peak value of the scale."""

    restored_CHW: Tensor
    target_CHW: Tensor
    peak: float = 1.0


@dataclass(frozen=True)
class Pooling:
    """Adaptive average pooling by r = max(1, round(min(H, W) / 256)) to (int(H / r), int(W / r)).

    H and W are the image size for `pad_to` 0. Otherwise they are the size padded for the network, which is
    ((side + pad_to) // pad_to) * pad_to: a side that is a multiple already grows by one more `pad_to`.
    """

    pad_to: int = 0

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size after pooling."""
        if self.pad_to:
            height, width = ((side + self.pad_to) // self.pad_to * self.pad_to for side in (height, width))
        ratio = max(1, round(min(height, width) / 256))  # half to even: sides of 384 and 640 both give 2
        return int(height / ratio), int(width / ratio)

    def describe(self) -> str:
        """Return the rule in a few words."""
        padded = f" (ratio from the size padded by {self.pad_to})" if self.pad_to else ""
        return f"pooled to about 256 px{padded}"


@dataclass(frozen=True)
class Reading:
    """The steps between two float images and the values that a score compares, in the order of the fields.

    `levels` other than "float" clamps both images and makes 8-bit levels of them, x*255 taken in float32:
    "rounded" rounds half to even, "truncated" takes the floor of the restored image and rounds the target.
    `peak` "auto" is 255 as soon as one restored value exceeds 1, as in MaIR.
    """

    crop: Literal["centre8", "centre16", "topleft16"] | None = None
    clamp: Literal["restored", "both", "none"] = "restored"
    levels: Literal["float", "rounded", "truncated"] = "float"
    border: int = 0
    colour: Literal["rgb", "y"] = "rgb"
    pooling: Pooling | None = None
    peak: Literal["one", "auto"] = "one"

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that is scored for an image of this size; zero or less where nothing is left."""
        _, _, height, width = crop_box(height, width, self.crop)
        height, width = height - 2 * self.border, width - 2 * self.border
        if self.pooling and min(height, width) > 0:
            return self.pooling.size(height, width)
        return height, width

    def read(self, restored_CHW: Tensor, target_CHW: Tensor) -> Pair:
        """Return the pair to score; both images RGB (3, H, W) with values about [0, 1]."""
        target_levels = "float" if self.levels == "float" else "rounded"
        restored = self._apply(restored_CHW, self.clamp != "none", self.levels)
        target = self._apply(target_CHW, self.clamp == "both", target_levels)
        peak = 255.0 if self.peak == "auto" and float(restored.max()) > 1.0 else 1.0
        return Pair(restored, target, peak)

    def _apply(self, image_CHW: Tensor, clamp: bool, levels: str) -> Tensor:
        image = cut(image_CHW.detach(), self.crop)
        if levels == "float":
            image = image.double()
            image = image.clamp(0.0, 1.0) if clamp else image
        else:
            image = image.float().clamp(0.0, 1.0) * 255
            image = (image.round() if levels == "rounded" else image.floor()).double() / 255
        if self.border:
            image = image[..., self.border : -self.border, self.border : -self.border]
        if self.colour == "y":
            image = luma(image)
        if self.pooling:
            size = self.pooling.size(image.shape[-2], image.shape[-1])
            image = image if size == image.shape[-2:] else F.adaptive_avg_pool2d(image, size)
        return image

    def describe(self) -> str:
        """Return the steps in a few words."""
        clamped = "not clamped" if self.clamp == "none" else "clamped"
        levels = {
            "float": f"{clamped}, not rounded",
            "rounded": "8-bit rounded",
            "truncated": "8-bit with the restored image truncated",
        }
        parts = ["RGB" if self.colour == "rgb" else "Y (BT.601 limited)", levels[self.levels]]
        parts += [f"{self.crop} crop"] if self.crop else []
        parts += [f"{self.border} px border removed"] if self.border else []
        parts += [self.pooling.describe()] if self.pooling else []
        parts += ["peak 255 once a value exceeds 1"] if self.peak == "auto" else []
        return ", ".join(parts)
