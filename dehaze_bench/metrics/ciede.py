"""Colour difference CIEDE2000 (Sharma et al. 2005), through scikit-image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dehaze_bench.metrics.reading import Pair


@dataclass(frozen=True)
class Ciede2000:
    """Mean Delta E 2000 (kL = kC = kH = 1) over pixels, in CIELAB of sRGB under D65, 2 degree observer."""

    higher_is_better: ClassVar[bool] = False
    smallest_side: ClassVar[int] = 1

    def __call__(self, pair: Pair) -> float:
        """Return the mean difference."""
        from skimage.color import deltaE_ciede2000, rgb2lab  # 0.3 s to import, needed by this score only

        restored, target = (
            rgb2lab(image.permute(1, 2, 0).cpu().numpy()) for image in (pair.restored_CHW, pair.target_CHW)
        )
        return float(deltaE_ciede2000(restored, target).mean())

    def describe(self) -> str:
        """Return the variant in a few words."""
        return "CIEDE2000"
