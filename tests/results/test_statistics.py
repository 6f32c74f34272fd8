from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dehaze_bench.results.statistics import summarise


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_agrees_with_the_standard_library(values: list[float]) -> None:
    summary = summarise(values)
    assert summary.n == len(values)
    assert summary.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert summary.std == pytest.approx(statistics.stdev(values), abs=1e-6)
    assert summarise(values[::-1]) == summary


def test_one_value_has_no_deviation() -> None:
    assert summarise([3.5]).std is None


def test_infinite_values_have_a_mean_but_no_deviation() -> None:
    summary = summarise([math.inf, 30.0])
    assert (summary.mean, summary.std, summary.n) == (math.inf, None, 2)


def test_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        summarise([])
