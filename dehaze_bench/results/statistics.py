"""Statistics over seeds: small samples, exact sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation (n - 1 in the denominator; None below two values) and count."""

    mean: float
    std: float | None
    n: int


def summarise(values: Sequence[float]) -> Summary:
    """Summarise a non-empty sample; the order of the values does not change a bit of the answer.

    The standard deviation is None where it does not exist: for one value, or when a value is not finite.

    Raises:
        ValueError: the sample is empty.
    """
    n = len(values)
    if n == 0:
        raise ValueError("cannot summarise an empty sample")
    if not all(map(math.isfinite, values)):
        return Summary(sum(values) / n, None, n)
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(mean, None, n)
    return Summary(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)), n)
