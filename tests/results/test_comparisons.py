from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dehaze_bench.results.comparisons import holm, intervals, paired_differences, seeds_p, verdict, wilcoxon

# AUC of C4.5 without and with a tuned m on 14 data sets: Demsar (JMLR 7, 2006), table 2.
C45 = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957]
C45_M = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978]


def one(row: list[float], baseline: list[float]):  # type: ignore[no-untyped-def]
    return paired_differences(np.array([row]), np.array(baseline))[0]


def test_wilcoxon_of_a_published_example() -> None:
    differences = np.subtract(C45_M, C45)
    assert wilcoxon(differences) == wilcoxon(-differences)
    # The paper finds min(R+, R-) = 12 over 14 sets with the two ties shared out, which is below 21: p < 0.05.
    assert 0.005 < wilcoxon(differences) < 0.05
    # Zeros are dropped first, and what is left is few enough for the exact distribution, ties and all.
    left = differences[differences != 0]
    assert wilcoxon(differences) == stats.wilcoxon(left).pvalue
    # Without ties and zeros the test is exact: all of five differences positive happens by chance twice in 32.
    assert wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_keeps_order_and_never_lowers(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_the_interval_of_many_normal_differences_is_that_of_the_normal_law() -> None:
    differences = np.random.default_rng(5).normal(0.3, 1.0, 800)
    ((low, high),) = intervals(differences[None])  # type: ignore[misc]
    error = differences.std(ddof=1) / math.sqrt(800)
    assert low == pytest.approx(differences.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(differences.mean() + 1.96 * error, abs=0.1 * error)


def test_intervals_are_seeded_and_no_row_changes_anothers() -> None:
    differences = np.random.default_rng(6).exponential(1.0, (3, 20))
    together = intervals(differences)
    assert together == intervals(differences)
    assert together[1] == pytest.approx(intervals(differences[1:2])[0])
    assert together[0] != together[1]


def test_a_shift_is_found_and_its_absence_is_not_called_one() -> None:
    rng = np.random.default_rng(7)
    hardness = rng.normal(20, 4, 200)
    noise = rng.normal(0, 0.5, 100)
    better, same = hardness + rng.normal(0.3, 0.5, 200), hardness + np.concatenate([noise, -noise])
    first, second = paired_differences(np.stack([better, same]), hardness)
    assert first.low is not None and first.high is not None
    assert 0 < first.low < first.mean < first.high
    assert verdict(first.low, first.high, first.p, True) == "better"
    assert verdict(first.low, first.high, first.p, False) == "worse"
    assert verdict(second.low, second.high, second.p, True) == "no difference shown"
    # Unpaired, the differences between images would hide it.
    assert stats.mannwhitneyu(better, hardness).pvalue > 0.3


@pytest.mark.parametrize(
    ("low", "high", "p"),
    [(0.1, 0.2, 0.05), (-0.1, 0.2, 0.01), (None, None, 0.001), (0.1, 0.2, math.nan), (0.0, 0.0, 0.01)],
)
def test_a_direction_needs_both_the_test_and_the_interval(low: float | None, high: float | None, p: float) -> None:
    assert verdict(low, high, p, True) == "no difference shown"


def test_all_equal_rows_differ_by_nothing() -> None:
    found = one([3.0, 4.0, 5.0], [3.0, 4.0, 5.0])
    assert (found.mean, found.low, found.high, found.p, found.n) == (0, 0, 0, 1, 3)
    shifted = one([4.0, 5.0, 6.0], [3.0, 4.0, 5.0])
    assert (shifted.mean, shifted.low, shifted.high) == (1, 1, 1)


def test_one_image_has_no_interval_and_proves_nothing() -> None:
    found = one([30.0], [20.0])
    assert (found.mean, found.low, found.high, found.p, found.n) == (10.0, None, None, 1.0, 1)


def test_two_images_have_an_interval_but_prove_nothing() -> None:
    found = one([30.0, 22.0], [20.0, 21.0])
    assert found.low is not None and found.high is not None
    assert found.low <= found.mean <= found.high
    assert verdict(found.low, found.high, found.p, True) == "no difference shown"


def test_equal_images_whose_psnr_is_infinite() -> None:
    both = one([math.inf, 31.0, 32.0], [math.inf, 30.0, 30.0])
    assert both.mean == 1.0
    assert both.low is not None
    better = one([math.inf, 31.0, 32.0], [40.0, 30.0, 30.0])
    assert (better.mean, better.low, better.high) == (math.inf, None, None)
    # The infinite difference has the largest rank, whatever the others are.
    assert better.p == wilcoxon(np.array([99.0, 1.0, 2.0]))
    assert math.isnan(one([math.inf, 31.0], [40.0, math.inf]).mean)
    assert verdict(better.low, better.high, 0.001, True) == "no difference shown"


@pytest.mark.parametrize(("row", "baseline"), [([1.0], [1.0, 2.0]), ([], []), ([math.nan, 1.0], [1.0, 1.0])])
def test_what_cannot_be_paired_is_refused(row: list[float], baseline: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot"):
        one(row, baseline)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=6))
def test_swapping_rows_mirrors_the_difference(pairs: list[tuple[float, float]]) -> None:
    row, baseline = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = one(row, baseline), one(baseline, row)
    assert there.mean == pytest.approx(-back.mean)
    assert there.p == pytest.approx(back.p)
    assert 0 <= there.p <= 1


def test_spread_over_seeds() -> None:
    a, b = np.array([20.0, 20.2, 20.4]), np.array([20.1, 20.3, 20.5])
    assert seeds_p(a, b, (False, False)) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert seeds_p(a, np.array([19.0]), (False, True)) == pytest.approx(stats.ttest_1samp(a, 19.0).pvalue)
    assert seeds_p(a, np.array([19.0]), (False, False)) is None
    assert seeds_p(np.array([20.0]), np.array([19.0]), (True, True)) == 0.0
    assert seeds_p(np.array([20.0, 20.0]), np.array([20.0, 20.0]), (False, False)) == 1.0
