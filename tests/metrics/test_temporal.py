"""The temporal error against plain loops, and what it does and does not punish."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dehaze_bench.metrics.temporal import change_error


def slowly(restored: Tensor, target: Tensor) -> list[float]:
    """Return the error of every transition, one value after the other."""
    errors = []
    num, colours, height, width = restored.shape
    for t in range(num - 1):
        total = 0.0
        for c in range(colours):
            for y in range(height):
                for x in range(width):
                    was, now = (min(max(float(restored[i, c, y, x]), 0.0), 1.0) for i in (t, t + 1))
                    total += abs((now - was) - (float(target[t + 1, c, y, x]) - float(target[t, c, y, x])))
        errors.append(255 * total / (colours * height * width))
    return errors


@pytest.fixture
def video() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 5, 6, generator=draw) * 1.4 - 0.2, torch.rand(4, 3, 5, 6, generator=draw)


def test_it_is_the_mean_of_absolute_differences_of_changes(video: tuple[Tensor, Tensor]) -> None:
    assert change_error(*video) == pytest.approx(slowly(*video), rel=1e-9)
    assert len(change_error(*video)) == 3
    assert change_error(video[0][:1], video[1][:1]) == []


def test_windows_with_their_seams_are_the_whole(video: tuple[Tensor, Tensor]) -> None:
    restored, target = video
    first = change_error(restored[:2], target[:2])
    rest = change_error(restored[2:], target[2:], (restored[1], target[1]))
    assert [*first, *rest] == pytest.approx(change_error(restored, target), rel=1e-12)


def test_a_constant_error_costs_nothing_and_flicker_its_height(video: tuple[Tensor, Tensor]) -> None:
    _, target = video
    target = 0.25 + 0.5 * target
    assert change_error(target, target) == [0.0] * 3
    assert change_error(target + 0.1, target) == pytest.approx([0.0] * 3, abs=1e-4)
    flicker = torch.tensor([0.0, 0.1, 0.0, 0.1]).reshape(4, 1, 1, 1)
    assert change_error(target + flicker, target) == pytest.approx([25.5] * 3, rel=1e-5)


def test_values_beyond_the_range_count_as_what_is_shown(video: tuple[Tensor, Tensor]) -> None:
    restored, target = video
    assert change_error(restored, target) == change_error(restored.clamp(0, 1), target)
