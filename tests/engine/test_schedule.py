"""Schedules are pure functions of the step."""

from __future__ import annotations

import itertools

import pytest

from dehaze_bench.engine.schedule import Constant, Cosine
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


@pytest.mark.parametrize("arguments", [{"floor": 1.5}, {"warmup": -1}])
def test_values_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="schedule"):
        Cosine(**arguments)  # type: ignore[arg-type]
