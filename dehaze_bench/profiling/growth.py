"""How cost grows with the number of pixels: the exponent of a power law, fitted to logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """A value grows as pixels to the power `exponent`, fitted over `num` sizes whose sides go from `low` to `high`.

    `last` is the exponent between the two largest sizes alone: what a call costs at any size flattens the fit.
    """

    exponent: float
    last: float
    low: int
    high: int
    num: int

    def __str__(self) -> str:
        return f"{self.exponent:.2f}" + (f" (last two sizes {self.last:.2f})" if self.num > 2 else "")


def fit(sides: Sequence[int], values: Sequence[float | None]) -> Growth | None:
    """Return the least-squares slope of log value over log pixels; None with fewer than two sizes that have a value."""
    known = {side: value for side, value in zip(sides, values, strict=True) if value is not None and value > 0}
    points = sorted(known.items())
    if len(points) < 2:
        return None
    x = [2 * math.log(side) for side, _ in points]
    y = [math.log(value) for _, value in points]
    return Growth(_slope(x, y), _slope(x[-2:], y[-2:]), points[0][0], points[-1][0], len(points))


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
