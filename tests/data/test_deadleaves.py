from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dehaze_bench.data import DeadLeaves, Sample
from dehaze_bench.data.haze import transmit
from dehaze_bench.errors import UsageError


def draw(dataset: DeadLeaves, index: int, size: int = 96, key: int = 5) -> Sample:
    return dataset.sample(index, size, np.random.default_rng([key, index]))


def settings(sample: Sample) -> tuple[str, float, float, int, int]:
    """Read (kind, A, beta, top, left) from the name."""
    kind, _, airlight, beta, top, left = sample.name.split("_")
    return kind, float(airlight), float(beta), int(top), int(left)


def log_slope(grey: np.ndarray) -> float:
    """Slope of log power over log frequency, radially averaged under a Hann window."""
    size = grey.shape[0]
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(size), np.hanning(size)))) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    edges = np.geomspace(4 / size, 0.35, 12)
    means = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    return float(np.polyfit(np.log(edges[:-1]), np.log(means), 1)[0])


def test_a_sample_is_a_pure_function_of_its_arguments() -> None:
    first, again = DeadLeaves(), DeadLeaves()
    draw(again, 9)  # another call before it changes nothing
    one, two = draw(first, 4), draw(again, 4)
    assert one.name == two.name
    assert np.array_equal(one.hazy, two.hazy)
    assert np.array_equal(one.clear, two.clear)
    assert one.hazy.shape == one.clear.shape == (3, 96, 96)
    assert one.hazy.dtype == one.clear.dtype == np.float32


def test_seed_index_and_generator_each_change_the_sample() -> None:
    base = draw(DeadLeaves(), 4)
    assert not np.array_equal(base.clear, draw(DeadLeaves(), 5).clear)
    assert not np.array_equal(base.clear, draw(DeadLeaves(seed=1), 4).clear)
    assert not np.array_equal(base.hazy, draw(DeadLeaves(), 4, key=6).hazy)


def test_the_cache_changes_no_value() -> None:
    plain, cached = DeadLeaves(canvas=(160, 200)), DeadLeaves(canvas=(160, 200), cache_scenes=2)
    for index in (0, 1, 0, 2, 3, 0):
        one, two = draw(plain, index), draw(cached, index)
        assert np.array_equal(one.hazy, two.hazy)
        assert np.array_equal(one.clear, two.clear)
    assert len(cached._painted) == 2


def test_a_window_equals_the_same_part_of_the_canvas() -> None:
    dataset = DeadLeaves(canvas=(160, 200))
    scene, _ = dataset.scene(3)
    colour, depth = dataset.paint(scene, 0, 0, 160, 200)
    part, part_depth = dataset.paint(scene, 37, 61, 80, 96)
    assert np.array_equal(part, colour[:, 37:117, 61:157])
    assert np.array_equal(part_depth, depth[37:117, 61:157])


@pytest.mark.parametrize("haze", ["indoor", "outdoor"])
def test_haze_follows_the_depth_that_was_painted(haze: str) -> None:
    dataset = DeadLeaves(haze=haze)
    for index in range(6):
        sample = draw(dataset, index)
        _, airlight, beta, top, left = settings(sample)
        scene, outdoor = dataset.scene(index)
        _, depth = dataset.paint(scene, top, left, 96, 96)
        t = transmit(depth, beta if outdoor else beta / scene.far)
        clear_enough = np.abs(sample.clear - airlight) > 0.2
        estimated = ((sample.hazy - airlight) / np.where(clear_enough, sample.clear - airlight, 1))[clear_enough]
        expected = np.broadcast_to(t, clear_enough.shape)[clear_enough]
        # Half a level of rounding and the three decimals of the name, over a contrast of at least 0.2.
        assert np.abs(estimated - expected).max() < 0.02


@pytest.mark.parametrize("haze", ["indoor", "outdoor"])
def test_depth_is_positive_and_reaches_no_farther_than_the_background(haze: str) -> None:
    dataset = DeadLeaves(haze=haze)
    for index in range(5):
        scene, _ = dataset.scene(index)
        _, depth = dataset.paint(scene, 0, 0, *dataset.canvas)
        assert np.isfinite(depth).all()
        assert depth.min() > 0.2
        assert np.quantile(depth, 0.99) <= scene.far * 1.001
        assert np.ptp(depth) > 0.5


def test_parameters_fill_the_ranges_of_reside() -> None:
    for haze, kind, betas, airlights in (
        ("indoor", "room", (0.6, 1.8), (0.7, 1.0)),
        ("outdoor", "street", (0.04, 0.2), (0.8, 1.0)),
    ):
        dataset = DeadLeaves(haze=haze, canvas=(64, 64))
        drawn = [settings(draw(dataset, index, size=16)) for index in range(120)]
        assert {d[0] for d in drawn} == {kind}
        for values, (low, high) in (([d[2] for d in drawn], betas), ([d[1] for d in drawn], airlights)):
            margin = 0.05 * (high - low)
            assert low - 5e-4 <= min(values) < low + margin
            assert high - margin < max(values) <= high + 5e-4


def test_mixed_holds_both_kinds_and_the_ranges_can_be_set() -> None:
    dataset = DeadLeaves(canvas=(64, 64), indoor_beta=(1, 1), outdoor_beta=(0.1, 0.1), indoor_airlight=(0.9, 0.9))
    drawn = [settings(draw(dataset, index, size=16)) for index in range(60)]
    assert {(d[0], d[2]) for d in drawn} == {("room", 1.0), ("street", 0.1)}
    assert 15 < sum(d[0] == "room" for d in drawn) < 45
    assert {d[1] for d in drawn if d[0] == "room"} == {0.9}


def test_the_airlight_is_grey_unless_a_tint_is_asked_for() -> None:
    thick = {"canvas": (64, 64), "haze": "outdoor", "outdoor_beta": (1e4, 1e4), "outdoor_airlight": (0.85, 0.85)}
    grey = draw(DeadLeaves(**thick), 0, size=16).hazy[:, 0, 0]
    tinted = draw(DeadLeaves(**thick, airlight_tint=0.1), 0, size=16).hazy[:, 0, 0]
    assert np.ptp(grey) == 0
    assert 0.004 < np.ptp(tinted) <= 0.2 + 1 / 255


def test_statistics_are_those_of_photographs() -> None:
    dataset = DeadLeaves()
    samples = [draw(dataset, index, size=192) for index in range(40)]
    clear = np.stack([sample.clear for sample in samples])
    psnr = [-10 * np.log10(np.mean((s.hazy - s.clear) ** 2)) for s in samples]
    slopes = [log_slope(picture.mean(0)) for picture in clear]
    # RESIDE's own clear pictures: slope -3.0 and -3.1, mean 0.41 to 0.57, deviation 0.24 to 0.31.
    assert -3.1 < np.mean(slopes) < -1.5
    assert 0.38 < clear.mean() < 0.62
    assert 0.15 < clear.std(axis=(1, 2, 3)).mean() < 0.3
    assert 11 < np.mean(psnr) < 17
    darkest, brightest = clear.min(axis=1), clear.max(axis=1)
    assert np.mean(darkest < 0.05) > 0.01  # there are shadows
    assert np.mean(darkest > 0.9) > 0.01  # and whites, which haze resembles
    assert np.mean((brightest - darkest) < 0.05) > 0.05  # and greys


def test_both_pictures_are_rounded_to_8_bits() -> None:
    sample = draw(DeadLeaves(), 2)
    for picture in (sample.hazy, sample.clear):
        levels = picture * 255
        assert np.abs(levels - np.rint(levels)).max() < 1e-4
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_bad_arguments_are_named_with_a_remedy() -> None:
    with pytest.raises(UsageError, match=r"haze=indor.*Did you mean 'indoor'"):
        DeadLeaves(haze="indor")
    with pytest.raises(UsageError, match=r"scenes=0"):
        DeadLeaves(scenes=0)
    with pytest.raises(UsageError, match=r"indoor_beta=\[2, 1\].*0 <= low <= high\."):
        DeadLeaves(indoor_beta=(2, 1))
    with pytest.raises(UsageError, match=r"outdoor_airlight=\[0.8, 1.2\].*<= 1"):
        DeadLeaves(outdoor_airlight=(0.8, 1.2))
    with pytest.raises(UsageError, match=r"crop of 512 x 512.*dataset.canvas=\[512,640\]"):
        draw(DeadLeaves(), 0, size=512)
    with pytest.raises(IndexError):
        draw(DeadLeaves(scenes=3), 3)
