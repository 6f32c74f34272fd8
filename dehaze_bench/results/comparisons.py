"""Is a row better than a baseline on the same images? Paired bootstrap, Wilcoxon, Holm, and one wording.

What is compared are differences per block: an image, or a scene where several images show it. They say what other
images of this kind would have shown; what other seeds would have shown is for the spread over seeds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ALPHA = 0.05
CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 0
BATCH = 400_000  # values that are resampled at a time: what a cache holds
Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its confidence interval (None where there is none) and Wilcoxon's p."""

    mean: float
    low: float | None
    high: float | None
    p: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """A row against the baseline: `difference` is the row minus the baseline in the unit of `metric`.

    `n` counts `unit` ("images" or "scenes"), `seeds` the runs averaged in the row and in the baseline. `adjusted` is
    Wilcoxon's `p` after Holm's correction over `family` rows. `p_seeds` asks whether the spread over seeds alone could
    make the difference of the means (`seeds_p`); None where a trained row has one seed.
    """

    baseline: str
    metric: str
    higher: bool
    unit: str
    n: int
    seeds: tuple[int, int]
    difference: float
    low: float | None
    high: float | None
    p: float
    adjusted: float
    family: int
    p_seeds: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What may be said of the row: a direction only where the corrected test and the interval agree on it."""
        return verdict(self.low, self.high, self.adjusted, self.higher)

    @property
    def words(self) -> str:
        """The verdict with its limits: what one seed, or the spread over several, leaves open."""
        if self.verdict == "no difference shown":
            return self.verdict
        if self.p_seeds is None:
            return f"{self.verdict} (one seed)"
        return self.verdict if self.p_seeds < ALPHA else f"{self.verdict} (within seed spread)"


def verdict(low: float | None, high: float | None, adjusted: float, higher: bool, alpha: float = ALPHA) -> Verdict:
    """The only words for a difference: all that render a comparison take them from here.

    A direction needs both: a corrected p below `alpha`, and an interval on one side of zero.
    """
    if low is None or high is None or not adjusted < alpha or low <= 0 <= high:
        return "no difference shown"
    return "better" if (low > 0) == higher else "worse"


def paired_differences(rows_KN: Floats, baseline_N: Floats, seed: int = SEED) -> list[Difference]:
    """Compare rows with a baseline block by block; what both measured as infinite (equal images) is no difference.

    An infinite difference has the largest rank in the test, and leaves the mean without an interval.

    Raises:
        ValueError: no blocks, unequal numbers of them, or a value that is not a number.
    """
    import numpy as np

    rows, baseline = np.asarray(rows_KN, dtype=float), np.asarray(baseline_N, dtype=float)
    if rows.ndim != 2 or rows.shape[1:] != baseline.shape or baseline.size == 0:
        raise ValueError(f"cannot pair values of shapes {rows.shape} and {baseline.shape}")
    if np.isnan(rows).any() or np.isnan(baseline).any():
        raise ValueError("cannot compare values that are not numbers")
    differences = np.subtract(rows, baseline, out=np.zeros_like(rows), where=rows != baseline)
    finite = np.isfinite(differences).all(axis=1)
    found = iter(intervals(differences[finite], seed))
    bounds = [(next(found) if usable else None) or (None, None) for usable in finite]
    return [
        Difference(_mean(line), low, high, wilcoxon(line), baseline.size)
        for line, (low, high) in zip(differences, bounds, strict=True)
    ]


def _mean(differences_N: Floats) -> float:
    """The mean; infinite where a difference is, not a number where they are so in both directions."""
    signs = {float(value) for value in differences_N if math.isinf(value)}
    if len(signs) == 2:
        return math.nan
    return signs.pop() if signs else float(differences_N.mean())


def intervals(differences_KN: Floats, seed: int = SEED) -> list[tuple[float, float] | None]:
    """Confidence intervals of means: bias-corrected and accelerated bootstrap (Efron 1987); None below two blocks.

    All rows are resampled alike, and no row changes what another gets. Where the correction does not exist the
    interval is that of percentiles; differences that are all equal have one without width.
    """
    import numpy as np
    from scipy.stats import bootstrap

    num_rows, num_blocks = differences_KN.shape
    if num_rows == 0 or num_blocks < 2:
        return [None] * num_rows
    low, high = np.full(num_rows, np.nan), np.full(num_rows, np.nan)
    flat = np.ptp(differences_KN, axis=1) == 0
    low[flat] = high[flat] = differences_KN[flat, 0]
    for method in ("BCa", "percentile"):
        left = np.flatnonzero(np.isnan(low) | np.isnan(high))
        if left.size == 0:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of degenerate data, which the next round sees
            found = bootstrap(
                (differences_KN[left],),
                np.mean,
                axis=-1,
                confidence_level=CONFIDENCE,
                n_resamples=RESAMPLES,
                method=method,
                rng=np.random.default_rng(seed),
                batch=max(1, BATCH // (left.size * num_blocks)),
            ).confidence_interval
        low[left], high[left] = found.low, found.high
    return list(zip(low.tolist(), high.tolist(), strict=True))


def wilcoxon(differences_N: Floats) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (zeros dropped, exact for small samples); 1 where all are zero."""
    import numpy as np
    from scipy import stats

    differences = np.asarray(differences_N, dtype=float)
    finite = differences[np.isfinite(differences)]
    largest = 1 + np.abs(finite).max(initial=0)
    differences = np.clip(differences, -largest, largest)
    differences = differences[differences != 0]
    if differences.size == 0:
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="wilcox").pvalue)


def seeds_p(row_S: Floats, baseline_S: Floats, fixed: tuple[bool, bool]) -> float | None:
    """Two-sided p of Welch's t-test between the means of the seeds; None where a row has one seed and is not `fixed`.

    A fixed row (nothing in it was trained) has no spread, and its value is taken as known.
    """
    import numpy as np
    from scipy import stats

    samples = [np.asarray(values, dtype=float) for values in (row_S, baseline_S)]
    loose = [values for values, known in zip(samples, fixed, strict=True) if not known]
    if any(values.size < 2 for values in loose):
        return None
    difference = float(samples[0].mean() - samples[1].mean())
    errors = [float(values.var(ddof=1)) / values.size for values in loose]
    if not math.isfinite(difference) or not sum(errors) > 0:
        return 1.0 if difference == 0 or math.isnan(difference) else 0.0
    freedom = sum(errors) ** 2 / sum(e**2 / (v.size - 1) for e, v in zip(errors, loose, strict=True))
    return float(2 * stats.t.sf(abs(difference) / math.sqrt(sum(errors)), freedom))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p values for being several (Holm 1979, step down), in the order given; ties and the end at 1 are kept."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted, least = [0.0] * len(ps), 0.0
    for position, index in enumerate(order):
        least = max(least, min(1.0, (len(ps) - position) * ps[index]))
        adjusted[index] = least
    return adjusted
