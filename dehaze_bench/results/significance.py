"""The rows of a table against each other: each against a baseline, and all by rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dehaze_bench.results.comparisons import ALPHA, CONFIDENCE, RESAMPLES, Comparison, holm, paired_differences, seeds_p
from dehaze_bench.results.rank_tests import LEAST_BLOCKS, LEAST_ROWS, RankTest, rank_test
from dehaze_bench.results.samples import Sample, Unit, check_same_images


def compare_rows(baseline: Sample, others: Sequence[Sample], higher: bool, unit: Unit) -> dict[str, Comparison]:
    """Compare every row with the baseline, and correct for all of them; answers by label.

    Raises:
        UsageError: a row was measured on other images.
    """
    import numpy as np

    if not others:
        return {}
    for row in others:
        check_same_images(baseline, row)
    differences = paired_differences(np.stack([row.blocks(unit) for row in others]), baseline.blocks(unit))
    adjusted = holm([difference.p for difference in differences])
    return {
        row.label: Comparison(
            baseline=baseline.label,
            metric=row.metric,
            higher=higher,
            unit=unit,
            n=found.n,
            seeds=(len(row.seeds), len(baseline.seeds)),
            difference=found.mean,
            low=found.low,
            high=found.high,
            p=found.p,
            adjusted=p,
            family=len(others),
            p_seeds=seeds_p(
                row.values_SN.mean(axis=1), baseline.values_SN.mean(axis=1), (not row.trained, not baseline.trained)
            ),
        )
        for row, found, p in zip(others, differences, adjusted, strict=True)
    }


def rank_rows(rows: Sequence[Sample], higher: bool, unit: Unit) -> RankTest | None:
    """Rank rows over images (averaged over seeds), or over scenes by seeds; None where there is too little to rank.

    Scenes are taken by seed only where all rows have the same seeds.

    Raises:
        UsageError: rows were measured on different images.
    """
    import numpy as np

    if len(rows) < LEAST_ROWS:
        return None
    for row in rows[1:]:
        check_same_images(rows[0], row)
    by_seed = unit == "scenes" and len({row.seeds for row in rows}) == 1 and len(rows[0].seeds) > 1
    values = np.stack([row.blocks_by_seed(unit) if by_seed else row.blocks(unit) for row in rows], axis=1)
    if len(values) < LEAST_BLOCKS:
        return None
    blocks = f"blocks (scenes x {len(rows[0].seeds)} seeds)" if by_seed else unit
    return rank_test([row.label for row in rows], values, higher, rows[0].metric, blocks)


def explain(comparisons: Mapping[str, Comparison]) -> str:
    """One line for the small print: what was compared, how, over how many."""
    first = next(iter(comparisons.values()))
    counts = sorted({c.n for c in comparisons.values()})
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    rows = f"{first.family} row{'s' if first.family != 1 else ''}"
    return (
        f"Against {first.baseline}, paired over n = {n} {first.unit} (means over seeds first): mean difference with "
        f"its {CONFIDENCE:.0%} interval (BCa bootstrap, {RESAMPLES} resamples), p of Wilcoxon's signed-rank test after "
        f"Holm's correction over {rows}. Better or worse is said only where p < {ALPHA:g} and the interval excludes "
        f"zero. That speaks of other {first.unit}; of other seeds speaks Welch's t-test between the means of the "
        f"seeds: 'within seed spread' where its p is not below {ALPHA:g}, 'one seed' where there is none."
    )
