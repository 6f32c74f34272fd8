"""Dark channel prior: haze removal from one image, without training.

He, Sun, Tang, CVPR 2009: dark channel, transmission and recovery. The transmission is refined with the guided
filter of the same authors (ECCV 2010) in place of the soft matting of the first paper. 0 parameters.

Two forms:

* "paper": the published definition. Box means cover the part of the (2 radius + 1)^2 window inside the image.
* "repository": the widely copied Python code He-Zhang/image_dehaze (MIT). It sums one colour too few for the
  atmospheric light (which is 0 below 2,000 pixels, where this class raises), takes box means over an even
  window of side `guided_radius` with mirrored borders, and guides with the 8-bit grey image of OpenCV. Its
  eps is 1e-4. It leaves the order of equal dark values to the sorting algorithm; here they keep raster order.

All steps run in float64. B batch, C channels, H rows, W columns, N pixels, K pixels of largest dark channel.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.errors import UsageError, nearest

_FORMS = ("paper", "repository")
# OpenCV's fixed-point weights of red, green and blue, in units of 2^-15.
_GREY_8BIT = (9798, 19235, 3735)
# Keeps a black image, whose light is 0, from becoming 0 / 0; far below one 8-bit level.
_DARKEST_LIGHT = 1e-6


class DarkChannelPrior(nn.Module):
    """Restore J from I = J t + A (1 - t), with t from the dark channel; any height and width.

    `patch` is the side of the minimum filter (odd), `omega` the share of haze removed, `t0` the smallest
    transmission divided by, `top_fraction` the share of pixels searched for the atmospheric light A. For
    form="repository" `guided_radius` is the side of the box window. Raises UsageError for an unknown form, an
    even patch, or a repository window wider than the mirrored border allows.
    """

    multiple: int = 1
    trainable: bool = False

    def __init__(
        self,
        patch: int = 15,
        omega: float = 0.95,
        t0: float = 0.1,
        top_fraction: float = 0.001,
        guided_radius: int = 60,
        guided_eps: float = 1e-3,
        form: Literal["paper", "repository"] = "paper",
    ) -> None:
        super().__init__()
        if form not in _FORMS:
            raise UsageError(f"unknown form '{form}' of the dark channel prior. {nearest(form, _FORMS)}")
        if patch % 2 == 0:
            raise UsageError(f"patch={patch} has no centre pixel: give an odd side, for example {patch + 1}")
        self.patch, self.omega, self.t0, self.top_fraction = patch, omega, t0, top_fraction
        self.guided_radius, self.guided_eps, self.form = guided_radius, guided_eps, form

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        """Return the restored scene J, which may leave [0, 1]."""
        return self.estimate(hazy_BCHW)["J"].to(hazy_BCHW.dtype)

    def estimate(self, hazy_BCHW: Tensor, A_BC: Tensor | None = None) -> dict[str, Tensor]:
        """Return the steps in float64: dark, t_raw, t (B, 1, H, W), A (B, C) and J (B, C, H, W).

        `A_BC` stands in for the estimated atmospheric light.
        """
        hazy_BCHW = hazy_BCHW.double()
        dark_B1HW = self.dark_channel(hazy_BCHW)
        A_BC = self.atmospheric_light(hazy_BCHW, dark_B1HW) if A_BC is None else A_BC.double()
        A_BC11 = A_BC[..., None, None]
        raw_B1HW = 1 - self.omega * self.dark_channel(hazy_BCHW / A_BC11.clamp(min=_DARKEST_LIGHT))
        t_B1HW = self.refine(self.guide(hazy_BCHW), raw_B1HW)
        scene_BCHW = (hazy_BCHW - A_BC11) / t_B1HW.clamp(min=self.t0) + A_BC11
        return {"dark": dark_B1HW, "A": A_BC, "t_raw": raw_B1HW, "t": t_B1HW, "J": scene_BCHW}

    def dark_channel(self, image_BCHW: Tensor) -> Tensor:
        """Return the minimum over channels and over the part of the patch inside the image."""
        least_B1HW = image_BCHW.amin(dim=1, keepdim=True)
        return -F.max_pool2d(-least_B1HW, self.patch, stride=1, padding=self.patch // 2)

    def atmospheric_light(self, hazy_BCHW: Tensor, dark_B1HW: Tensor) -> Tensor:
        """Return A (B, C): of the `top_fraction` pixels of largest dark channel, the colour of largest sum.

        Equal values count in raster order. The repository form divides the sum of all colours but the last by
        their number. Raises UsageError where that sum would be empty.
        """
        colours_BCN = hazy_BCHW.flatten(2)
        # The small term keeps products such as 0.001 * 29,000 from falling below the whole number.
        num = max(int(colours_BCN.shape[-1] * self.top_fraction + 1e-9), 1)
        order_BN = dark_B1HW.flatten(1).sort(dim=1, descending=True, stable=True).indices
        index_BCK = order_BN[:, None, :num].expand(-1, colours_BCN.shape[1], -1)
        top_BCK = colours_BCN.gather(2, index_BCK)
        if self.form == "repository":
            if num < 2:
                raise UsageError(
                    "the repository form of the dark channel prior finds no atmospheric light in an image of "
                    f"{colours_BCN.shape[-1]} pixels; use form=paper or larger images"
                )
            return top_BCK[..., :-1].sum(dim=2) / num
        brightest_B11 = top_BCK.sum(dim=1, keepdim=True).argmax(dim=2, keepdim=True)
        return top_BCK.gather(2, brightest_B11.expand(-1, top_BCK.shape[1], -1)).squeeze(2)

    def guide(self, hazy_BCHW: Tensor) -> Tensor:
        """Return the grey image (B, 1, H, W) in [0, 1] that guides the refinement."""
        if self.form == "paper":
            weights_C = hazy_BCHW.new_tensor((0.299, 0.587, 0.114))
            return torch.einsum("bchw,c->bhw", hazy_BCHW, weights_C).unsqueeze(1)
        weights_C = hazy_BCHW.new_tensor(_GREY_8BIT)
        levels_BCHW = (hazy_BCHW.clamp(0.0, 1.0) * 255).round()
        grey_BHW = torch.einsum("bchw,c->bhw", levels_BCHW, weights_C)
        return ((grey_BHW + 2**14) / 2**15).floor().unsqueeze(1) / 255

    def refine(self, guide_B1HW: Tensor, raw_B1HW: Tensor) -> Tensor:
        """Return the transmission after the guided filter (ECCV 2010, equations 5, 6 and 8)."""
        moments = guide_B1HW, raw_B1HW, guide_B1HW.square(), guide_B1HW * raw_B1HW
        mean_g, mean_t, mean_gg, mean_gt = (self.box_mean(x_B1HW) for x_B1HW in moments)
        slope_B1HW = (mean_gt - mean_g * mean_t) / (mean_gg - mean_g.square() + self.guided_eps)
        offset_B1HW = mean_t - slope_B1HW * mean_g
        return self.box_mean(slope_B1HW) * guide_B1HW + self.box_mean(offset_B1HW)

    def box_mean(self, x_B1HW: Tensor) -> Tensor:
        """Return the mean over the window of the form, one pass per axis."""
        radius = self.guided_radius
        if self.form == "paper":
            for side, padding in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
                x_B1HW = F.avg_pool2d(x_B1HW, side, stride=1, padding=padding, count_include_pad=False)
            return x_B1HW
        before, after = radius // 2, radius - radius // 2 - 1
        height, width = x_B1HW.shape[-2:]
        if min(height, width) <= before:
            raise UsageError(
                f"an image of {height} x {width} pixels cannot be mirrored for a window of {radius}: "
                f"use form=paper or guided_radius={2 * min(height, width) - 1} at most"
            )
        x_B1HW = F.pad(x_B1HW, (before, after, before, after), mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(x_B1HW, (radius, 1), stride=1), (1, radius), stride=1)
