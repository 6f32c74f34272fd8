"""SSIM with a Gaussian window over rows, columns and channels, as the Restormer fork of BasicSR and MaIR compute it.

The published metric is a float32 convolution that adds up its 1,331 products one after the other, and its rounding is
part of its values: in bright, flat areas the local variance is a small difference of large moments, so that exact
arithmetic gives an SSIM up to 1.4e-4 lower on indoor pictures. The type and the order of the sum are therefore kept.

Shape legend: M local moments, C channels, H rows, W columns.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.metrics.reading import Pair
from dehaze_bench.metrics.ssim import local_ssim
from dehaze_bench.ops.jobs import run_jobs

TAPS = 11
SIGMA = 1.5
ROWS = 16  # of one moment at a time


@dataclass(frozen=True)
class VolumeSsim:
    """Mean of the local SSIM over pixels and channels, the window an 11 x 11 x 11 Gaussian with sigma 1.5.

    Edge values are repeated on all three axes. `levels` is the largest value of the scale that the float32 arithmetic
    runs on: 255 for images of 8-bit levels, so that their squares are exact, 1 for float images.
    """

    levels: float = 1.0
    higher_is_better: ClassVar[bool] = True
    smallest_side: ClassVar[int] = 1

    def __call__(self, pair: Pair) -> float:
        """Return the mean SSIM."""
        x, y = (self.levels * image_CHW.double() for image_CHW in (pair.restored_CHW, pair.target_CHW))
        x, y = x.float(), y.float()
        moments_MCHW = smooth_volume(torch.stack((x, y, x * x, y * y, x * y)))
        return float(local_ssim(moments_MCHW, self.levels * pair.peak).mean())

    def describe(self) -> str:
        """Return the variant in a few words."""
        return f"SSIM (gauss {TAPS}, edges repeated, over channels too, float32)"


def smooth_volume(x_MCHW: Tensor) -> Tensor:
    """Return the float32 means under the window, edge values repeated on all three axes; as large as the input."""
    from dehaze_bench.metrics.volume_kernel import add_up  # Numba: half a second to import, and only needed here

    half = TAPS // 2
    padded = F.pad(x_MCHW.float().cpu().unsqueeze(1), (half,) * 6, mode="replicate").squeeze(1).contiguous()
    out = torch.zeros(x_MCHW.shape)
    rows = range(0, out.shape[2], ROWS)
    jobs = [np.array((m, row, min(row + ROWS, out.shape[2]))) for m in range(len(out)) for row in rows]
    run_jobs(add_up, jobs, (padded.numpy(), gaussian_volume(), out.numpy()), work=out.numel() * TAPS**3)
    return out


@functools.cache
def gaussian_volume() -> np.ndarray:
    """Return the window (rows, columns, channels): rounded to float32 after the product, not before."""
    taps = np.exp(-((np.arange(TAPS) - TAPS // 2) ** 2) / (2 * SIGMA**2))
    taps /= taps.sum()
    return np.einsum("i,j,k->ijk", taps, taps, taps).astype(np.float32)
