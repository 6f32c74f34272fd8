"""How cost grows with the number of pixels: the exponent of a power law, fitted to logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """`value` grows as pixels to the power `exponent`, fitted over `num` sizes whose sides go from `low` to `high`."""

    exponent: float
    low: int
    high: int
    num: int

    def __str__(self) -> str:
        return f"{self.exponent:.2f} ({self.num} sizes, {self.low} to {self.high} pixels a side)"


def fit(sides: Sequence[int], values: Sequence[float | None]) -> Growth | None:
    """Return the least-squares slope of log value over log pixels; None with fewer than two sizes that have a value."""
    points = [(side, value) for side, value in zip(sides, values, strict=True) if value is not None and value > 0]
    known = {side for side, _ in points}
    if len(known) < 2:
        return None
    x = [2 * math.log(side) for side, _ in points]
    y = [math.log(value) for _, value in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    return Growth(slope, min(known), max(known), len(known))
