"""The conventions behind published PSNR, SSIM and CIEDE2000 figures, each as a reading and a score.

Which repository uses which: `used_by` in conf/protocol. All but `ssim_y_float`, our own, are pinned by the
golden fixture `metrics_pairs`: numbers computed with the published metric functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.metrics.ciede import Ciede2000
from dehaze_bench.metrics.psnr import Psnr
from dehaze_bench.metrics.reading import Pooling, Reading
from dehaze_bench.metrics.ssim import Ssim
from dehaze_bench.metrics.volume import VolumeSsim

Score = Psnr | Ssim | VolumeSsim | Ciede2000


@dataclass(frozen=True)
class Convention:
    """One way to measure a restored image against its target."""

    name: str
    reading: Reading
    score: Score

    def __call__(self, restored_CHW: Tensor, target_CHW: Tensor) -> float:
        """Return the value for RGB images (3, H, W) in [0, 1]; nan where the image is too small.

        Raises UsageError where the two are not RGB images of equal size.
        """
        check_pair(restored_CHW, target_CHW)
        height, width = target_CHW.shape[-2:]
        if not self.fits(height, width):
            return math.nan
        return self.score(self.reading.read(restored_CHW, target_CHW))

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value means a better image."""
        return self.score.higher_is_better

    @property
    def smallest_side(self) -> int:
        """Smallest height and width that can be measured."""
        return next(side for side in range(1, 4096) if self.fits(side, side))

    def fits(self, height: int, width: int) -> bool:
        """Return whether an image of this size leaves at least one value to average."""
        return min(self.reading.size(height, width)) >= self.score.smallest_side


def check_pair(restored_CHW: Tensor, target_CHW: Tensor) -> None:
    """Raise UsageError unless both images are RGB (3, H, W) of equal size."""
    shapes = tuple(restored_CHW.shape), tuple(target_CHW.shape)
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] != 3:
        raise UsageError(
            f"cannot compare an image of shape {shapes[0]} with a target of shape {shapes[1]}: both must be "
            "RGB (3, height, width) of equal size; crop the target as the layout of the data set says"
        )


_both = Reading(clamp="both")
_unclamped = Reading(clamp="none")
_rounded = Reading(clamp="both", levels="rounded")
_rounded_border = Reading(clamp="both", levels="rounded", border=64)
_auto_peak = Reading(clamp="none", peak="auto")
_y_rounded = Reading(clamp="both", levels="rounded", colour="y")
_y_float = Reading(clamp="both", colour="y")
_gauss = Ssim()
_gauss_zero = Ssim(padding="zero")
_gauss_replicate = Ssim(padding="replicate")
_gauss_rim5 = Ssim(rim=5)
_skimage = Ssim(window="uniform", sample_covariance=True)

_TABLE: list[tuple[str, Reading, Score]] = [
    ("psnr_rgb_clamp", Reading(), Psnr()),
    ("psnr_rgb_clamp_ffa", _both, Psnr(identical=100.0)),
    ("psnr_rgb_8bit_round", _rounded, Psnr()),
    ("psnr_rgb_8bit_trunc", Reading(clamp="both", levels="truncated"), Psnr()),
    ("psnr_rgb_unclamped", _unclamped, Psnr()),
    ("psnr_rgb_unclamped_topleft16", Reading(crop="topleft16", clamp="none"), Psnr()),
    ("psnr_rgb_clamp_centre16", Reading(crop="centre16", clamp="both"), Psnr()),
    ("psnr_rgb_clamp_centre8", Reading(crop="centre8"), Psnr()),
    ("psnr_rgb_perchannel_border64", _rounded_border, Psnr(per_channel=True)),
    ("psnr_rgb_perchannel", _rounded, Psnr(per_channel=True)),
    ("psnr_y_8bit", _y_rounded, Psnr()),
    ("psnr_y_float", _y_float, Psnr()),
    ("psnr_mair_float", _auto_peak, Psnr()),
    ("ssim_gauss11_valid", Reading(), _gauss),
    ("ssim_gauss11_valid_8bit", _rounded, _gauss),
    ("ssim_gauss11_valid_8bit_border64", _rounded_border, _gauss),
    ("ssim_gauss11_valid_crop5", Reading(), _gauss_rim5),
    ("ssim_gauss11_zeropad", _both, _gauss_zero),
    ("ssim_pooled256", Reading(pooling=Pooling()), _gauss),
    ("ssim_pooled256_padded32", Reading(pooling=Pooling(pad_to=32)), _gauss),
    ("ssim_pooled256_padded8", Reading(pooling=Pooling(pad_to=8)), _gauss),
    ("ssim_pooled256_zeropad", Reading(pooling=Pooling()), _gauss_zero),
    ("ssim_pooled256_centre8", Reading(crop="centre8", pooling=Pooling()), _gauss),
    ("ssim_skimage7", _both, _skimage),
    ("ssim_skimage7_unclamped", _unclamped, _skimage),
    ("ssim_skimage7_centre16", Reading(crop="centre16", clamp="both"), _skimage),
    ("ssim_gauss3d", _rounded, VolumeSsim(levels=255.0)),
    ("ssim_gauss3d_float", _auto_peak, VolumeSsim()),
    ("ssim_y_valid_8bit", _y_rounded, _gauss),
    ("ssim_y_replicate_8bit", _y_rounded, _gauss_replicate),
    ("ssim_y_float_crop5", _y_float, _gauss_rim5),
    ("ssim_y_float", _y_float, _gauss),
    ("ciede2000", _both, Ciede2000()),
    ("ciede2000_8bit", _rounded, Ciede2000()),
]

CONVENTIONS: dict[str, Convention] = {name: Convention(name, reading, score) for name, reading, score in _TABLE}
