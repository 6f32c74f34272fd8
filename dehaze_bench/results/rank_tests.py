"""Do rows differ at all, and which of them: Friedman's test over blocks, Nemenyi's after it (Demsar, JMLR 7, 2006).

K rows, N blocks (images, or scenes by seeds); rank 1 is best, equal values share the mean of their ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dehaze_bench.results.comparisons import ALPHA
from dehaze_bench.results.figures import p_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEAST_ROWS, LEAST_BLOCKS = 3, 2


@dataclass(frozen=True)
class RankTest:
    """Rows from the best mean rank to the worst, and what the tests say of them.

    `statistic` is Friedman's chi-square with K - 1 degrees of freedom (corrected for ties), `critical` the difference
    of mean ranks from which on Nemenyi's test tells two rows apart at `alpha`, `ps[i][j]` the p of that test.
    """

    labels: tuple[str, ...]
    metric: str
    ranks: tuple[float, ...]
    num_blocks: int
    blocks: str
    statistic: float
    p: float
    critical: float
    ps: tuple[tuple[float, ...], ...]
    alpha: float = ALPHA

    @property
    def rejects(self) -> bool:
        """Whether Friedman's test finds a difference at all; without it no pair is told apart."""
        return self.p < self.alpha

    def differ(self, first: int, second: int) -> bool:
        """Whether two rows (by their place) are told apart."""
        return self.rejects and abs(self.ranks[first] - self.ranks[second]) >= self.critical

    @property
    def cliques(self) -> list[tuple[int, int]]:
        """Longest stretches (first, last) of two rows or more within which no pair is told apart."""
        found: list[tuple[int, int]] = []
        last = -1
        for first in range(len(self.ranks)):
            end = max(place for place in range(first, len(self.ranks)) if not self.differ(first, place))
            if end > first and end > last:
                found.append((first, end))
            last = max(last, end)
        return found

    def describe(self) -> str:
        """One line for the small print."""
        test = f"Friedman over {len(self.labels)} rows and {self.num_blocks} {self.blocks}"
        said = f"{test}: chi-square {self.statistic:.2f}, p {p_text(self.p)}"
        if not self.rejects:
            return f"{said}: no difference between rows shown"
        return f"{said}; Nemenyi at {self.alpha:g}: rows whose mean ranks differ by {self.critical:.2f} or more differ"


def rank_test(
    labels: Sequence[str], values_NK: Floats, higher: bool, metric: str, blocks: str, alpha: float = ALPHA
) -> RankTest:
    """Rank the rows within every block and test the mean ranks.

    Raises:
        ValueError: fewer than three rows or two blocks, or a value that is not a number.
    """
    import numpy as np
    from scipy import stats

    num_blocks, num_rows = values_NK.shape
    if num_rows < LEAST_ROWS or num_blocks < LEAST_BLOCKS:
        raise ValueError(f"cannot rank {num_rows} rows over {num_blocks} blocks: 3 rows and 2 blocks are needed")
    if np.isnan(values_NK).any():
        raise ValueError("cannot rank values that are not numbers")
    ranks_NK = stats.rankdata(-values_NK if higher else values_NK, axis=1)
    means = ranks_NK.mean(axis=0)
    if (ranks_NK == ranks_NK[:, :1]).all():  # every block is one tie: the statistic would be 0 / 0
        statistic, p = 0.0, 1.0
    else:
        statistic, p = map(float, stats.friedmanchisquare(*ranks_NK.T))
    order = sorted(range(num_rows), key=lambda row: means[row])
    error = math.sqrt(num_rows * (num_rows + 1) / (6 * num_blocks))
    apart = np.abs(means[:, None] - means[None, :])[np.ix_(order, order)] / error * math.sqrt(2)
    ps = stats.studentized_range.sf(apart, num_rows, math.inf)
    return RankTest(
        labels=tuple(labels[row] for row in order),
        metric=metric,
        ranks=tuple(float(means[row]) for row in order),
        num_blocks=num_blocks,
        blocks=blocks,
        statistic=statistic,
        p=p,
        critical=quantile(num_rows, alpha) * error,
        ps=tuple(tuple(map(float, line)) for line in np.clip(ps, 0.0, 1.0)),
        alpha=alpha,
    )


def quantile(num_rows: int, alpha: float = ALPHA) -> float:
    """The factor q of Nemenyi's critical difference: the studentized range over the square root of 2."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - alpha, num_rows, math.inf)) / math.sqrt(2)
