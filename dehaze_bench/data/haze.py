"""The atmospheric scattering model: I = J t + A (1 - t) with t = exp(-beta d).

Koschmieder 1924; Narasimhan and Nayar, IJCV 2002.

Shapes: C colour, H and W picture. J is the clear picture, I the hazy one, A the airlight, d the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Airlight = Sequence[float] | np.ndarray | float


@dataclass(frozen=True)
class Veil:
    """Haze that is still to be added to a picture, which is first darkened by the power `gamma`.

    The distance is float32, in units of 1 / beta; a density that drifts is in it already.
    """

    distance_HW: np.ndarray
    beta: float
    airlight: tuple[float, float, float]
    gamma: float = 1.0


def transmit(depth_HW: np.ndarray, beta: float) -> np.ndarray:
    """Return the transmission t (H, W) in (0, 1]; `beta` is per unit of depth."""
    return np.exp(depth_HW * np.float32(-beta)).astype(np.float32)


def add_haze(clear_CHW: np.ndarray, t_HW: np.ndarray, airlight: Airlight) -> np.ndarray:
    """Return I = J t + A (1 - t), float32 (C, H, W); `airlight` is one grey value or one per colour."""
    airlight_C11 = np.asarray(airlight, np.float32).reshape(-1, 1, 1)
    return (clear_CHW - airlight_C11) * t_HW + airlight_C11


def remove_haze(hazy_CHW: np.ndarray, t_HW: np.ndarray, airlight: Airlight) -> np.ndarray:
    """Return J = (I - A) / t + A, the inverse of `add_haze` where t is known."""
    airlight_C11 = np.asarray(airlight, np.float32).reshape(-1, 1, 1)
    return (hazy_CHW - airlight_C11) / t_HW + airlight_C11


def round_to_8bit(image: np.ndarray) -> np.ndarray:
    """Return the nearest of the 256 levels that a PNG can hold, float32 in [0, 1]."""
    return np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.float32) / np.float32(255)
