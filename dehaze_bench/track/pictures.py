"""Which test images to show, and how an error looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

ERROR_RANGE = 64  # of 255: larger differences all look the same


def choose(values: Sequence[float], higher: bool, fixed: int = 4, extreme: int = 2) -> list[int]:
    """Indices of the images to show: a fixed, evenly spaced sample, then worst and best by one metric.

    The fixed sample depends on the number of images alone, so it can be compared between runs. No index
    repeats; NaN counts as worst.
    """
    num = len(values)
    sample = np.linspace(0, num - 1, min(fixed, num)).round().astype(int).tolist() if fixed and num else []
    score = np.asarray(values, dtype=np.float64) * (1 if higher else -1)
    order = np.argsort(np.where(np.isnan(score), -np.inf, score), kind="stable").tolist()
    worst, best = order[:extreme], order[::-1][:extreme]
    return list(dict.fromkeys([*sample, *worst, *best]))


def error_map(restored: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Mean absolute difference over the channels, as a (H, W, 3) picture: black, red, yellow, white.

    White means 64 of 255 or more.
    """
    apart = np.maximum(restored, truth) - np.minimum(restored, truth)
    first, second, third = np.moveaxis(apart, -1, 0).astype(np.int16)
    sums = np.arange(3 * 255 + 1)  # there are few of them, so each has its colour worked out once
    heat = np.clip(sums / 3 / ERROR_RANGE, 0, 1)[:, None] * 3 - np.arange(3)
    colours = (np.clip(heat, 0, 1) * 255).round().astype(np.uint8)
    return colours[first + second + third]
