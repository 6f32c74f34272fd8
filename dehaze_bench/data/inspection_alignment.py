"""Does a hazy picture lie on its clear one: a search over shifts, in blocks, blind to haze.

Haze fades edges and adds a slow veil, but leaves edges where they are. Both pictures are therefore brought to
zero mean and unit variance in small neighbourhoods, and blocks of the hazy one are correlated with the clear
one over all shifts up to `REACH` (by FFT). One common shift is a wrong crop, shifts that grow across the
picture are a resize, no shift at all is another scene. A block counts only where its peak stands far above
the rest of its correlation surface, so that blank sky and dense haze say nothing rather than something wrong.

Shapes: H, W picture; S shifts along one axis. A shift (dy, dx) says that hazy[y, x] lies on clear[y + dy, x + dx].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import uniform_filter

REACH = 32  # pixels
RELATED = ("aligned", "shifted", "resized")
SMALLEST = 24  # pixels: below that nothing is decided
_BLOCK, _GRID = 224, 4
_WINDOW = 9  # side of the neighbourhood that is normalised
_FLOOR = 1.0 / 255  # a neighbourhood flatter than rounding is noise
_PEAK = 8.0  # robust standard deviations above its surface: chance reaches 5 over 65 x 65 shifts
_COARSER = (1, 2, 4)  # camera noise under dense haze averages out in smaller pictures
_AGREE = 0.75  # correlation coefficient
_DRIFT = 2.5  # pixels from one end of the picture to the other: less is no resize


@dataclass(frozen=True)
class Alignment:
    """How two pictures of one size lie on each other.

    `kind` is "aligned", "shifted", "resized", "unrelated" (both have structure, but not the same), or
    "unclear" (too small, or too little structure to say). `score` is the peak of the correlation over its
    surface in robust standard deviations. `contrast` is the local contrast of the hazy picture over that of the clear
    one and `veil` how much lighter its darkest twentieth is: haze makes them below 1 and above 0.
    """

    kind: str
    shift: tuple[int, int] = (0, 0)
    scale: tuple[float, float] = (1.0, 1.0)
    score: float = 0.0
    contrast: float = 0.0
    veil: float = 0.0

    @property
    def exchanged(self) -> bool:
        """Whether the hazy picture looks like the clear one of the two (a cloud has contrast, but is no darker)."""
        return self.contrast > 1.25 and self.veil < -0.02


def align(hazy_HW: np.ndarray, clear_HW: np.ndarray) -> Alignment:
    """Compare two grey pictures in [0, 1] of equal size."""
    contrast = _contrast(hazy_HW) / max(_contrast(clear_HW), 1e-6)
    veil = float(np.percentile(hazy_HW, 5) - np.percentile(clear_HW, 5))
    found = Alignment("unclear")
    for factor in _COARSER:
        if min(hazy_HW.shape) // factor < SMALLEST:
            break
        found = _align(_shrink(hazy_HW, factor), _shrink(clear_HW, factor), factor)
        if found.kind in RELATED:
            break
    return replace(found, contrast=contrast, veil=veil)


def to_grey(pixels_HWC: np.ndarray) -> np.ndarray:
    """Return the mean of the colours of uint8 pixels, float32 (H, W) in [0, 1]."""
    return pixels_HWC.mean(axis=2, dtype=np.float32) / np.float32(255)


def _align(hazy_HW: np.ndarray, clear_HW: np.ndarray, factor: int) -> Alignment:
    hazy_HW, clear_HW = _normalise(hazy_HW), _normalise(clear_HW)
    height, width = hazy_HW.shape
    reach = min(REACH, height // 3, width // 3)
    rows, columns = _cells(height), _cells(width)
    whole_SS = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    centres, shifts, textured = [], [], 0
    for top, bottom in rows:
        for left, right in columns:
            surface_SS = _correlate(hazy_HW, clear_HW, top, bottom, left, right, reach)
            whole_SS += surface_SS
            shift, score = _peak(surface_SS, reach)
            textured += score > 0
            if score >= _PEAK:
                centres.append(((top + bottom) / 2, (left + right) / 2))
                shifts.append(shift)
    common, score = _peak(whole_SS, reach)
    # A resize leaves no common shift but several trusted blocks; a single block may be chance in a large picture.
    if score < _PEAK and len(shifts) < 3:
        # A smooth picture has a broad peak, which does not stand out: it is taken for what agrees almost everywhere.
        here, there = _agree(hazy_HW, clear_HW, (0, 0)), _agree(hazy_HW, clear_HW, common)
        if here >= _AGREE and there < here + 0.02:
            return Alignment("aligned", score=score)
        if there >= _AGREE:
            return Alignment("shifted", (common[0] * factor, common[1] * factor), score=score)
        kind = "unrelated" if 2 * textured >= len(rows) * len(columns) else "unclear"
        return Alignment(kind, score=score)
    drift = _drift(np.array(centres), np.array(shifts, np.float64)) if len(shifts) >= 4 else (0.0, 0.0)
    if max(abs(drift[0]) * height, abs(drift[1]) * width) * factor >= _DRIFT:
        return Alignment("resized", scale=(1 + drift[0], 1 + drift[1]), score=score)
    if len(shifts) >= 3:
        common = (round(float(np.median([s[0] for s in shifts]))), round(float(np.median([s[1] for s in shifts]))))
    shift = (common[0] * factor, common[1] * factor)
    return Alignment("aligned" if shift == (0, 0) else "shifted", shift, score=score)


def _normalise(image_HW: np.ndarray) -> np.ndarray:
    mean_HW = uniform_filter(image_HW, _WINDOW, mode="nearest")
    high_HW = image_HW - mean_HW
    deviation_HW = np.sqrt(uniform_filter(high_HW * high_HW, _WINDOW, mode="nearest"))
    out: np.ndarray = high_HW / (deviation_HW + np.float32(_FLOOR)) * (deviation_HW > _FLOOR / 2)
    return out


def _contrast(image_HW: np.ndarray) -> float:
    high_HW = image_HW - uniform_filter(image_HW, _WINDOW, mode="nearest")
    return float(np.sqrt(np.mean(high_HW * high_HW)))


def _shrink(image_HW: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return image_HW
    height, width = (side // factor for side in image_HW.shape)
    cut_HW = image_HW[: height * factor, : width * factor]
    small: np.ndarray = cut_HW.reshape(height, factor, width, factor).mean(axis=(1, 3))
    return small


def _cells(side: int) -> list[tuple[int, int]]:
    """Split a side in up to four parts and take the middle of each, at most `_BLOCK` pixels."""
    num = min(max(side // 64, 1), _GRID)
    edges = [round(side * i / num) for i in range(num + 1)]
    cells = []
    for low, high in pairwise(edges):
        spare = max(high - low - _BLOCK, 0) // 2
        cells.append((low + spare, min(high - spare, low + spare + _BLOCK)))
    return cells


def _correlate(
    hazy_HW: np.ndarray, clear_HW: np.ndarray, top: int, bottom: int, left: int, right: int, reach: int
) -> np.ndarray:
    """Return the correlation of a hazy block with the clear picture, entry [dy + reach, dx + reach]."""
    height, width = bottom - top + 2 * reach, right - left + 2 * reach
    around = np.zeros((height, width), np.float32)
    y0, y1 = max(top - reach, 0), min(bottom + reach, clear_HW.shape[0])
    x0, x1 = max(left - reach, 0), min(right + reach, clear_HW.shape[1])
    around[y0 - top + reach : y1 - top + reach, x0 - left + reach : x1 - left + reach] = clear_HW[y0:y1, x0:x1]
    size = (next_fast_len(height, real=True), next_fast_len(width, real=True))
    product = rfft2(around, size) * np.conj(rfft2(hazy_HW[top:bottom, left:right], size))
    surface: np.ndarray = irfft2(product, size)[: 2 * reach + 1, : 2 * reach + 1]
    return surface


def _peak(surface_SS: np.ndarray, reach: int) -> tuple[tuple[int, int], float]:
    """Return the shift of the highest point and its height in robust deviations; 0 for a blank surface."""
    middle = float(np.median(surface_SS))
    deviation = 1.4826 * float(np.median(np.abs(surface_SS - middle)))
    row, column = np.unravel_index(int(np.argmax(surface_SS)), surface_SS.shape)
    # Below a thousandth of a pixel's worth of correlation the block is blank.
    score = (float(surface_SS[row, column]) - middle) / deviation if deviation > 1e-3 else 0.0
    return (int(row) - reach, int(column) - reach), score


def _agree(hazy_HW: np.ndarray, clear_HW: np.ndarray, shift: tuple[int, int]) -> float:
    """Return the correlation coefficient of what overlaps under a shift."""
    (y, x), (height, width) = shift, hazy_HW.shape
    one = hazy_HW[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    two = clear_HW[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)]
    norm = float(np.sqrt(np.sum(one * one) * np.sum(two * two)))
    return float(np.sum(one * two)) / norm if norm > 0 else 0.0


def _drift(centres: np.ndarray, shifts: np.ndarray) -> tuple[float, float]:
    """Return how the shift grows per pixel, down and across: the median slope over all pairs of blocks (Theil-Sen)."""
    slopes = []
    for axis in (0, 1):
        apart = centres[:, None, axis] - centres[None, :, axis]
        moved = shifts[:, None, axis] - shifts[None, :, axis]
        far = apart > 1
        slopes.append(float(np.median(moved[far] / apart[far])) if far.any() else 0.0)
    return slopes[0], slopes[1]
