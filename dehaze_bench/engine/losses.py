"""Training losses: callables (restored_BCHW, clear_BCHW, hazy_BCHW) -> scalar, always computed in float32.

The hazy image matters to contrastive terms alone, for which it is what to move away from. `over_scales` sums any loss
over the outputs of a network that restores at several scales.

Shapes: B batch, C channel, H height, W width, F frequency column of the half spectrum. Autocast is switched
off inside, because half-precision Fourier transforms and squared differences of nearly equal images lose the
signal they measure. Restored images are not clamped: a clamp would remove the gradient of every overshooting
pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import kornia.metrics
import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def over_scales(loss: Loss, restored: Tensor | Sequence[Tensor], clear_BCHW: Tensor, hazy_BCHW: Tensor) -> Tensor:
    """Return the loss of a restored image, or its sum over images of several sizes (full size first).

    Truth and haze are reduced to a smaller output by bilinear interpolation, as SFNet, FSNet, OKNet, IRNeXt and ConvIR
    reduce them for the three outputs of a MIMO network.
    """
    if isinstance(restored, Tensor):
        return loss(restored, clear_BCHW, hazy_BCHW)
    losses = [
        loss(
            out,
            *(
                image if image.shape == out.shape else F.interpolate(image, size=out.shape[-2:], mode="bilinear")
                for image in (clear_BCHW, hazy_BCHW)
            ),
        )
        for out in restored
    ]
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class L1:
    """Mean absolute difference: DehazeFormer, gUNet, EAMamba, MaIR, RSDformer and most others."""

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            return _difference(restored_BCHW, clear_BCHW).abs().mean()


@dataclass(frozen=True)
class MSE:
    """Mean squared difference: AOD-Net, MSBDN."""

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            return _difference(restored_BCHW, clear_BCHW).square().mean()


@dataclass(frozen=True)
class SmoothL1:
    """Mean of d^2 / (2 beta) where |d| < beta, else |d| - beta / 2: GridDehazeNet (beta 1)."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"loss.beta={self.beta} must be above 0: use 1, or loss=l1 for the limit.")

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            difference_BCHW = _difference(restored_BCHW, clear_BCHW)
            return F.smooth_l1_loss(difference_BCHW, torch.zeros_like(difference_BCHW), beta=self.beta)


@dataclass(frozen=True)
class Charbonnier:
    """Mean of sqrt(d^2 + epsilon^2), a smooth L1 (Charbonnier et al., ICIP 1994): the MambaIR line."""

    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if self.epsilon <= 0:
            raise UsageError(f"loss.epsilon={self.epsilon} must be above 0: use 1e-3, or loss=l1 for the limit.")

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            squared_BCHW = _difference(restored_BCHW, clear_BCHW).square()
            return (squared_BCHW + self.epsilon**2).sqrt().mean()


@dataclass(frozen=True)
class L1FFT:
    """L1 plus `weight` times the mean absolute difference of the spectra, real and imaginary parts apart.

    The spectrum term of SFNet, FSNet, IRNeXt, OKNet and ConvIR (weight 0.1): the mean runs over the full
    unnormalised 2-D transform. Those networks add both terms at three
    output scales, which is `over_scales`.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise UsageError(f"loss.weight={self.weight} would reward a wrong spectrum: use 0 or more.")

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            difference_BCHW = _difference(restored_BCHW, clear_BCHW)
            return difference_BCHW.abs().mean() + self.weight * spectrum_l1(difference_BCHW)


@dataclass(frozen=True)
class L1SSIM:
    """L1 plus `weight` times (1 - SSIM), SSIM with an 11 x 11 Gaussian of sigma 1.5 and no padding.

    Raises UsageError where a side is shorter than `window`.
    """

    weight: float = 0.2
    window: int = 11

    def __post_init__(self) -> None:
        if self.weight < 0 or self.window < 1 or self.window % 2 == 0:
            raise UsageError(
                f"loss needs weight >= 0 and an odd window, not weight={self.weight}, window={self.window}."
            )

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            l1 = _difference(restored_BCHW, clear_BCHW).abs().mean()
            if min(restored_BCHW.shape[-2:]) < self.window:
                height, width = restored_BCHW.shape[-2:]
                raise UsageError(
                    f"loss=l1_ssim needs crops of at least {self.window} pixels per side, "
                    f"these have {height} x {width}: raise train.crop or set loss=l1."
                )
            ssim_BCHW = kornia.metrics.ssim(restored_BCHW.float(), clear_BCHW.float(), self.window, padding="valid")
            return l1 + self.weight * (1.0 - ssim_BCHW.mean())


def spectrum_l1(difference_BCHW: Tensor) -> Tensor:
    """Return the mean absolute value of real and imaginary parts over the full spectrum of a real image.

    By linearity the spectrum of the difference is the difference of the spectra, and a real image has a
    conjugate symmetric spectrum: half of it is computed, and the columns that stand for two count twice.
    """
    width = difference_BCHW.shape[-1]
    magnitude_BCHF2 = torch.view_as_real(torch.fft.rfft2(difference_BCHW.float())).abs()
    alone = magnitude_BCHF2[..., 0, :].sum()
    if width % 2 == 0:
        alone = alone + magnitude_BCHF2[..., -1, :].sum()
    return (2 * magnitude_BCHF2.sum() - alone) / (2 * difference_BCHW.numel())


def _difference(restored_BCHW: Tensor, clear_BCHW: Tensor) -> Tensor:
    if restored_BCHW.shape != clear_BCHW.shape:
        raise UsageError(
            f"The model returned {tuple(restored_BCHW.shape)} for clear images of {tuple(clear_BCHW.shape)}: "
            f"a restorer keeps batch, channels and size."
        )
    return restored_BCHW.float() - clear_BCHW.float()
