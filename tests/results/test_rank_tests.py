"""Friedman's and Nemenyi's tests against the figures of Demsar, JMLR 7 (2006), 1-30."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dehaze_bench.results.rank_tests import RankTest, quantile, rank_test

NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
# Table 6, one data set a line; 0.9751 stands for a printed 0.975, whose printed rank shows that it was the higher one.
AUC = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def made(values: list[list[float]], alpha: float = 0.05) -> RankTest:
    array = np.array(values)
    return rank_test([f"r{i}" for i in range(array.shape[1])], array, True, "psnr", "images", alpha)


@pytest.mark.parametrize(
    ("alpha", "published"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_critical_values_of_table_5(alpha: float, published: list[float]) -> None:
    assert [quantile(k, alpha) for k in range(2, 11)] == pytest.approx(published, abs=1.1e-3)


def test_the_worked_example() -> None:
    found = rank_test(NAMES, AUC, True, "auc", "data sets")
    assert dict(zip(found.labels, found.ranks, strict=True)) == pytest.approx(
        {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, abs=5e-4
    )
    plain = 12 * 14 / 20 * (sum(rank**2 for rank in found.ranks) - 4 * 25 / 4)
    assert plain == pytest.approx(9.28, abs=5e-3), "the statistic as printed, without the correction for ties"
    assert found.statistic == pytest.approx(10.2283464566929)
    assert found.p == pytest.approx(0.0167215803284414)
    assert found.critical == pytest.approx(1.25, abs=5e-3)
    assert found.cliques == [(0, 3)], "at 5 % the test is not powerful enough to tell any two apart"


def test_the_worked_example_at_ten_percent_has_two_groups() -> None:
    found = rank_test(NAMES, AUC, True, "auc", "data sets", alpha=0.10)
    assert found.critical == pytest.approx(1.12, abs=5e-3)
    assert found.labels == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    apart = {(a, b) for a in range(4) for b in range(a) if found.differ(a, b)}
    assert apart == {(3, 0), (3, 1)}, "C4.5 is worse than C4.5+m and C4.5+m+cf; C4.5+cf belongs to neither"
    assert found.cliques == [(0, 2), (2, 3)]
    below = {(a, b) for a in range(4) for b in range(a) if found.ps[a][b] < 0.10}
    assert below == apart


def test_lower_is_better_turns_the_ranks() -> None:
    values = [[1.0, 2.0, 3.0]] * 8
    assert made(values).labels == ("r2", "r1", "r0")
    assert rank_test(["a", "b", "c"], np.array(values), False, "ciede2000", "images").labels == ("a", "b", "c")


def test_all_equal_rows_are_one_clique() -> None:
    found = made([[5.0, 5.0, 5.0, 5.0]] * 6)
    assert (found.statistic, found.p, found.rejects) == (0.0, 1.0, False)
    assert found.ranks == (2.5,) * 4
    assert found.cliques == [(0, 3)]
    assert "no difference between rows shown" in found.describe()


def test_without_friedman_no_pair_is_told_apart() -> None:
    rng = np.random.default_rng(2)
    found = next(
        made(values.tolist())
        for values in (rng.normal(size=(30, 8)) for _ in range(2000))
        if stats.friedmanchisquare(*values.T).pvalue > 0.05
        and max(r := stats.rankdata(-values, axis=1).mean(0)) - min(r) > quantile(8) * math.sqrt(72 / 180)
    )
    assert found.ranks[-1] - found.ranks[0] > found.critical
    assert not found.differ(0, 7)
    assert found.cliques == [(0, 7)]


def test_clearly_different_rows_share_no_clique_and_cliques_are_longest() -> None:
    rng = np.random.default_rng(3)
    levels = np.array([0.0, 0.05, 3.0, 3.05, 6.0])
    found = rank_test(list("abcde"), levels + rng.normal(0, 0.3, (200, 5)), True, "psnr", "images")
    assert found.cliques == [(1, 2), (3, 4)] or all(last - first == 1 for first, last in found.cliques)
    for one in found.cliques:
        assert not any(one != other and other[0] <= one[0] and one[1] <= other[1] for other in found.cliques)
        assert not found.differ(*one)


def test_infinite_values_are_ranked() -> None:
    found = made([[math.inf, 30.0, 20.0], [math.inf, math.inf, 20.0], [40.0, 30.0, 20.0]])
    assert dict(zip(found.labels, found.ranks, strict=True)) == {
        "r0": pytest.approx(3.5 / 3),
        "r1": pytest.approx(5.5 / 3),
        "r2": 3.0,
    }


@pytest.mark.parametrize("values", [[[1.0, 2.0]] * 3, [[1.0, 2.0, 3.0]], [[1.0, 2.0, math.nan]] * 3])
def test_too_little_is_refused(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="cannot rank"):
        made(values)
