"""How steadily a restored video follows the true one, without optical flow.

From frame t to t + 1 the restored video R changes by R[t+1] - R[t] and the true one J by J[t+1] - J[t]; the error is

    255 * mean over colours and pixels of |(R[t+1] - R[t]) - (J[t+1] - J[t])|,

in grey levels, and that of a video is the mean over its transitions. It is the absolute form of what is published as a
root of squares, for mattes as dtSSD (Erofeev et al., Perceptually Motivated Benchmark for Video Matting, BMVC 2015) and
as a loss as temporal difference loss (Kim, Oh and Kim, FISR, AAAI 2020, arXiv 1912.07213); nobody printed dehazing
results with this form. Rearranged it is the change of the error R - J: an error that stays where it is costs nothing,
flicker does, and so does an error that moves along with the scene. The truth itself scores 0, and so does the hazy
input under haze that neither moves nor changes over a still scene, so it is to be read beside PSNR.
"""

from __future__ import annotations

from torch import Tensor


def change_error(
    restored_TCHW: Tensor, target_TCHW: Tensor, before: tuple[Tensor, Tensor] | None = None
) -> list[float]:
    """Return the error of each transition between consecutive frames (T, 3, H, W), restored ones clamped to [0, 1].

    `before` is the frame (restored, target), each (3, H, W), that the first one follows: with it there are T values,
    without it T - 1, so that a video may be read window by window and its seams count.
    """
    error_TCHW = restored_TCHW.double().clamp(0, 1) - target_TCHW.double()
    change_TCHW = error_TCHW[1:] - error_TCHW[:-1]
    values = (255 * change_TCHW.abs().flatten(1).mean(1)).tolist() if len(change_TCHW) else []
    if before is None:
        return values
    last_CHW = before[0].double().clamp(0, 1) - before[1].double()
    return [float(255 * (error_TCHW[0] - last_CHW).abs().mean()), *values]
