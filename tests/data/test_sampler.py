from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_bench.data import indices

COUNTS = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), batch=COUNTS, num=COUNTS, epoch=st.integers(0, 3))
def test_every_epoch_is_a_permutation_whatever_the_batch(seed: int, batch: int, num: int, epoch: int) -> None:
    last = -(-((epoch + 1) * num) // batch)
    visited = [index for step in range(last) for index in indices(step, seed, batch, num)]
    assert sorted(visited[epoch * num : (epoch + 1) * num]) == list(range(num))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), batch=COUNTS, num=COUNTS, step=st.integers(0, 50))
def test_a_step_does_not_depend_on_earlier_calls_or_on_the_batch_size(
    seed: int, batch: int, num: int, step: int
) -> None:
    whole = indices(0, seed, (step + 1) * batch, num)
    assert indices(step, seed, batch, num) == whole[step * batch :]


def test_batches_straddle_epochs() -> None:
    three = [indices(step, 7, 4, 6) for step in range(3)]
    flat = [index for items in three for index in items]
    assert [len(items) for items in three] == [4, 4, 4]
    assert sorted(flat[:6]) == sorted(flat[6:]) == list(range(6))


def test_seeds_and_epochs_are_shuffled_differently() -> None:
    assert indices(0, 0, 50, 50) != indices(0, 1, 50, 50)
    assert indices(0, 0, 50, 50) != indices(1, 0, 50, 50)
    assert indices(0, 0, 50, 50) != list(range(50))


@pytest.mark.parametrize("bad", [(-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)])
def test_impossible_arguments_are_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="need step, seed >= 0"):
        indices(*bad)
