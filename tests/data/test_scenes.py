"""Test scenes: the same at every size, and other ones than those of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dehaze_bench.data import DeadLeaves, Scenes
from dehaze_bench.errors import UsageError


def _halve(image_CHW: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.avg_pool2d(image_CHW, 2).numpy()


def test_a_finer_grid_shows_the_same_scenes() -> None:
    coarse, fine = Scenes(count=3, size=(96, 128)), Scenes(count=3, size=(192, 256))
    for index in range(3):
        small, large = coarse[index], fine[index]
        assert small.name == large.name
        assert small.hazy.shape == (3, 96, 128) and large.hazy.shape == (3, 192, 256)
        for a, b in ((small.clear, large.clear), (small.hazy, large.hazy)):
            # Edges fall between other pixels, so single pixels differ; the pictures do not.
            assert np.corrcoef(a.numpy().ravel(), _halve(b).ravel())[0, 1] > 0.9
            assert abs(a.mean() - b.mean()) < 0.02


def test_scenes_are_repeatable_in_8_bits_and_hazier_than_clear() -> None:
    first, again = Scenes(count=2, size=(64, 64)), Scenes(count=2, size=(64, 64))
    for index in range(2):
        pair = first[index]
        assert torch.equal(pair.hazy, again[index].hazy) and torch.equal(pair.clear, again[index].clear)
        assert torch.equal(pair.hazy * 255, (pair.hazy * 255).round())
        assert pair.hazy.std() < pair.clear.std()


def test_scenes_are_not_those_of_training() -> None:
    test, train = Scenes(count=4).made, DeadLeaves()
    assert not any(np.array_equal(test.scene(i)[0].light, train.scene(j)[0].light) for i in range(4) for j in range(50))


def test_a_bad_size_is_named() -> None:
    with pytest.raises(UsageError, match=r"size=\[32, 256\]"):
        Scenes(size=(32, 256))
