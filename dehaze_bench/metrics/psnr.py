"""Peak signal-to-noise ratio in dB."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dehaze_bench.metrics.reading import Pair


@dataclass(frozen=True)
class Psnr:
    """10 log10(peak^2 / mse) over all values, or per channel and then averaged; `identical` for mse 0."""

    per_channel: bool = False
    identical: float = math.inf
    higher_is_better: ClassVar[bool] = True
    smallest_side: ClassVar[int] = 1

    def __call__(self, pair: Pair) -> float:
        """Return the value in dB."""
        mse_C = (pair.restored_CHW - pair.target_CHW).square().mean(dim=(-2, -1))
        errors = mse_C.tolist() if self.per_channel else [mse_C.mean().item()]
        values = [10 * math.log10(pair.peak**2 / mse) if mse != 0 else self.identical for mse in errors]
        return sum(values) / len(values)

    def describe(self) -> str:
        """Return the variant in a few words."""
        limit = "" if math.isinf(self.identical) else f" ({self.identical:g} dB for identical images)"
        return ("PSNR averaged over channels" if self.per_channel else "PSNR") + limit


def psnr(restored: Tensor, target: Tensor) -> float:
    """Return the PSNR in dB of clamped RGB, averaged over a batch: a quick figure for training logs.

    Takes (C, H, W) or (B, C, H, W); reported numbers come from a protocol.
    """
    error = restored.detach().double().clamp(0.0, 1.0) - target.double()
    mse_B = error.square().flatten(-3).mean(dim=-1)
    return float((-10 * mse_B.log10()).mean())
