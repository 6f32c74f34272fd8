from __future__ import annotations

import numpy as np
import pytest

from dehaze_bench.data.haze import add_haze, remove_haze, round_to_8bit, transmit


def test_haze_has_the_values_of_the_scattering_model() -> None:
    clear = np.array([0.2, 0.5, 1.0], np.float32).reshape(3, 1, 1)
    depth = np.array([[0.0, 2.0]], np.float32)
    t = transmit(depth, 0.5)
    assert t[0] == pytest.approx([1.0, np.exp(-1.0)], rel=1e-6)
    hazy = add_haze(clear, t, 0.8)
    assert hazy[:, 0, 0] == pytest.approx([0.2, 0.5, 1.0], abs=1e-7)  # no depth, no haze
    assert hazy[:, 0, 1] == pytest.approx([v * np.exp(-1) + 0.8 * (1 - np.exp(-1)) for v in (0.2, 0.5, 1.0)], abs=1e-6)


def test_far_away_only_the_airlight_is_left() -> None:
    clear = np.random.default_rng(0).random((3, 4, 4), np.float32)
    hazy = add_haze(clear, transmit(np.full((4, 4), 1e3, np.float32), 1.0), (0.7, 0.8, 0.9))
    assert hazy[:, 0, 0] == pytest.approx([0.7, 0.8, 0.9])
    assert np.ptp(hazy, axis=(1, 2)).max() == 0


def test_haze_can_be_inverted_where_t_is_known() -> None:
    rng = np.random.default_rng(1)
    clear = rng.random((3, 16, 16), np.float32)
    t = transmit(rng.uniform(0.5, 3, (16, 16)).astype(np.float32), 0.8)
    back = remove_haze(add_haze(clear, t, (0.8, 0.9, 1.0)), t, (0.8, 0.9, 1.0))
    assert back.dtype == np.float32
    assert np.abs(back - clear).max() < 3e-6


def test_rounding_lands_on_8_bit_levels() -> None:
    rounded = round_to_8bit(np.array([-0.2, 0.1, 0.4999, 1.3], np.float32))
    assert (rounded * 255) == pytest.approx([0, 26, 127, 255], abs=1e-4)
