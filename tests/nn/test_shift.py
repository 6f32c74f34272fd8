"""Token shifts against the fixture and against loops over tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.shift import q_shift, route_shift


def test_q_shift_is_the_published_one(golden: Path) -> None:
    arrays = np.load(golden / "ops_q_shift" / "out.npz")
    out = q_shift(torch.from_numpy(arrays["x"]), (5, 7))
    assert torch.equal(out, torch.from_numpy(arrays["out"]))


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (6, 1), (3, 4)])
@pytest.mark.parametrize(("shift", "fraction"), [(1, 0.25), (2, 0.2), (1, 0.125)])
def test_q_shift_by_hand(grid: tuple[int, int], shift: int, fraction: float) -> None:
    height, width = grid
    x = torch.randn(2, height * width, 10)
    out = q_shift(x, grid, shift, fraction).view(2, height, width, 10)
    part = int(10 * fraction)
    for row in range(height):
        for column in range(width):
            sources = [(row, column - shift), (row, column + shift), (row - shift, column), (row + shift, column)]
            for group, (r, c) in enumerate(sources):
                channels = slice(group * part, (group + 1) * part)
                inside = 0 <= r < height and 0 <= c < width
                expected = x[:, r * width + c, channels] if inside else torch.zeros(2, part)
                assert torch.equal(out[:, row, column, channels], expected)
            assert torch.equal(out[:, row, column, 4 * part :], x[:, row * width + column, 4 * part :])


def test_q_shift_faults() -> None:
    with pytest.raises(UsageError, match="12 tokens for a grid of 3x5"):
        q_shift(torch.zeros(1, 12, 8), (3, 5))
    with pytest.raises(UsageError, match="fraction"):
        q_shift(torch.zeros(1, 15, 8), (3, 5), fraction=0.3)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_route_shift_by_hand(length: int) -> None:
    x = torch.randn(2, length, 7)
    out = route_shift(x)
    for t in range(length):
        assert torch.equal(out[:, t, :3], x[:, t - 1, :3] if t else torch.zeros(2, 3))
        assert torch.equal(out[:, t, 3:], x[:, t + 1, 3:] if t + 1 < length else torch.zeros(2, 4))
