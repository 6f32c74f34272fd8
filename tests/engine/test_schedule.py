"""Schedules are pure functions of the step."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from dehaze_bench.engine.schedule import Constant, Cosine, HeldCosine, MultiStep
from dehaze_bench.errors import UsageError


def test_cosine_starts_at_one_and_ends_at_the_floor() -> None:
    schedule = Cosine(floor=0.1)
    values = [schedule(step, 100) for step in range(100)]
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(values))


def test_warmup_rises_linearly_and_meets_the_cosine() -> None:
    schedule = Cosine(warmup=4, floor=0.0)
    assert [schedule(step, 50) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_constant_is_one_after_its_warmup() -> None:
    assert [Constant(warmup=2)(step, 9) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert Constant()(0, 1) == 1.0


def test_multistep_falls_at_its_shares_of_the_run() -> None:
    schedule = MultiStep(milestones=(0.5, 0.8, 0.9, 0.95), gamma=0.5)
    at = [0, 249_999, 250_000, 399_999, 400_000, 450_000, 474_999, 475_000, 499_999]
    assert [schedule(step, 500_000) for step in at] == [1, 1, 0.5, 0.5, 0.25, 0.125, 0.125, 0.0625, 0.0625]
    assert [MultiStep([0.5], 0.1, warmup=2)(step, 8) for step in range(5)] == [0.5, 1.0, 1.0, 1.0, 0.1]


@pytest.mark.parametrize("arguments", [{"milestones": [250_000]}, {"gamma": 0}, {"warmup": -1}])
def test_milestones_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="milestones must be shares"):
        MultiStep(**arguments)


def test_a_held_rate_falls_after_its_share_of_the_run() -> None:
    schedule = HeldCosine(hold=0.4, floor=0.05)
    values = [schedule(step, 100) for step in range(100)]
    assert values[:41] == [1.0] * 41
    assert all(a > b for a, b in itertools.pairwise(values[40:]))
    assert values[-1] == pytest.approx(0.05)
    assert HeldCosine(hold=0)(7, 20) == Cosine()(7, 20)


@pytest.mark.parametrize("arguments", [{"hold": 200_000}, {"hold": -0.1}, {"floor": 2.0}])
def test_a_hold_that_is_no_share_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="hold must be in"):
        HeldCosine(**arguments)


@pytest.mark.parametrize("arguments", [{"floor": 1.5}, {"warmup": -1}])
def test_values_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="schedule"):
        Cosine(**arguments)  # type: ignore[arg-type]
