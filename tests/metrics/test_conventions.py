"""Every convention against numbers of the published functions, and properties that hold for all of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.metrics import CONVENTIONS, psnr

FOLDER = Path(__file__).parents[1] / "golden" / "metrics_pairs"
SPEC: dict[str, Any] = json.loads((FOLDER / "spec.json").read_text())
OUT = np.load(FOLDER / "out.npz")["out"]
PAIRS = list(SPEC["build"]["pairs"])
PINNED = list(SPEC["build"]["conventions"])
SSIM = [name for name in CONVENTIONS if name.startswith("ssim")]
# Truncates one image and rounds the other, so swapping them changes the value.
ASYMMETRIC = {"psnr_rgb_8bit_trunc"}


def smooth_image(seed: int, height: int, width: int) -> np.ndarray:
    """Return the fixture's float32 test image (3, H, W): six cosines per channel, squashed, plus noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    image = np.zeros((3, height, width))
    for channel in image:
        for _ in range(6):
            fy, fx = rng.uniform(0, 4, 2)
            phase, gain = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1)
            channel += gain * np.cos(2 * np.pi * (fy * rows / height + fx * columns / width) + phase)
    image = 1.0 / (1.0 + np.exp(-image)) + 0.02 * rng.standard_normal(image.shape)
    return np.clip(image, 0.0, 1.0).astype(np.float32)


def load_pair(name: str) -> tuple[Tensor, Tensor]:
    """Return (restored, target) of a fixture pair, float32 (3, H, W): stored, or rebuilt by its formula."""
    arrays = np.load(FOLDER / "out.npz")
    if f"{name}_pred" in arrays:
        restored, target = (torch.from_numpy(arrays[f"{name}_{which}"]) for which in ("pred", "target"))
        scale = 255 if target.dtype == torch.uint8 else 1
        return restored.permute(2, 0, 1) / scale, target.permute(2, 0, 1) / scale
    seed, height, width = {"c": (811, 400, 500), "d": (821, 640, 653), "e": (831, 460, 620)}[name]
    clear, other, shift = (smooth_image(seed + i, height, width) for i in range(3))
    half = np.float32(0.5)
    blend = np.float32(0.93) * clear + np.float32(0.05) * other + np.float32(0.10) * (shift - half)
    # First 256 values of the restored image in (row, column, channel) order, and its mean.
    values = np.moveaxis(blend, 0, -1).astype(np.float64).ravel()
    np.testing.assert_allclose([*values[:256], values.mean()], arrays[f"{name}_check"], atol=1e-7)
    return torch.from_numpy(blend), torch.from_numpy(clear)


@pytest.mark.parametrize("pair", PAIRS)
def test_equals_the_published_functions(pair: str) -> None:
    restored, target = load_pair(pair)
    expected = dict(zip(PINNED, OUT[PAIRS.index(pair)], strict=True))
    wrong = {}
    for name, definition in SPEC["build"]["conventions"].items():
        value = CONVENTIONS[name](restored, target)
        both_nan = math.isnan(value) and math.isnan(expected[name])
        if not (both_nan or abs(value - expected[name]) <= definition["tolerance"]):
            wrong[name] = (value, expected[name])
    assert not wrong


def test_the_fixture_pins_all_conventions_but_our_own() -> None:
    assert set(CONVENTIONS) - set(PINNED) == {"ssim_y_float"}
    assert set(PINNED) <= set(CONVENTIONS)


def test_float_luma_ssim_equals_the_8_bit_one_on_8_bit_images() -> None:
    restored, target = load_pair("b")
    expected = CONVENTIONS["ssim_y_valid_8bit"](restored, target)
    assert CONVENTIONS["ssim_y_float"](restored, target) == pytest.approx(expected, abs=1e-6)
    overshooting, target = load_pair("a")
    rounded = CONVENTIONS["ssim_y_valid_8bit"](overshooting, target)
    assert 0 < abs(CONVENTIONS["ssim_y_float"](overshooting, target) - rounded) < 1e-3


@pytest.mark.parametrize("name", CONVENTIONS)
def test_identical_images(name: str) -> None:
    convention = CONVENTIONS[name]
    side = convention.smallest_side + 3
    picture = torch.from_numpy(smooth_image(5, side, side + 7)).mul(255).round().div(255)
    value = convention(picture, picture)
    if name == "psnr_rgb_8bit_trunc":  # k/255*255 may fall below k in float32, then truncation loses one level
        assert value > 48
    elif name.startswith("psnr"):
        assert value == (100.0 if name.endswith("_ffa") else math.inf)
    elif name.startswith("ssim"):
        assert value == pytest.approx(1.0, abs=1e-12)
    else:
        assert value == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 9))
def test_any_size_is_nan_or_within_bounds_and_symmetric(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    restored, target = torch.rand(2, 3, height, width, generator=generator)
    for name, convention in CONVENTIONS.items():
        value = convention(restored, target)
        fits = convention.fits(height, width)
        assert math.isnan(value) is not fits, name
        if fits and name in SSIM:
            assert -1 <= value <= 1, name
        if fits and name not in ASYMMETRIC:
            assert convention(target, restored) == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("name", CONVENTIONS)
def test_smallest_side_is_the_first_that_is_not_nan(name: str) -> None:
    convention = CONVENTIONS[name]
    side = convention.smallest_side
    assert not math.isnan(convention(torch.rand(3, side, side), torch.rand(3, side, side)))
    if side > 1:
        assert math.isnan(convention(torch.rand(3, side - 1, side), torch.rand(3, side - 1, side)))


def test_overshoot_counts_only_where_nothing_is_clamped() -> None:
    target = torch.from_numpy(smooth_image(3, 32, 48)).clamp(max=0.9)
    restored = target.clone()
    restored[0, 4, 5] = 1.5
    clamped, unclamped = restored.clamp(0, 1), restored
    for name in ("psnr_rgb_clamp", "psnr_y_float", "ssim_gauss11_valid", "ssim_skimage7", "ciede2000"):
        assert CONVENTIONS[name](unclamped, target) == CONVENTIONS[name](clamped, target)
    for name in ("psnr_rgb_unclamped", "ssim_skimage7_unclamped"):
        assert CONVENTIONS[name](unclamped, target) < CONVENTIONS[name](clamped, target)
    without_jump = CONVENTIONS["psnr_rgb_unclamped"](unclamped, target)
    jump = CONVENTIONS["psnr_mair_float"](unclamped, target) - without_jump
    assert jump == pytest.approx(20 * math.log10(255))


def test_shapes_that_cannot_be_compared_name_the_remedy() -> None:
    measure = CONVENTIONS["psnr_rgb_clamp"]
    with pytest.raises(UsageError, match=r"\(3, 460, 620\).*\(3, 480, 640\).*crop the target"):
        measure(torch.zeros(3, 460, 620), torch.zeros(3, 480, 640))
    with pytest.raises(UsageError, match="RGB"):
        measure(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))


def test_quick_psnr_averages_images_of_a_batch() -> None:
    restored, target = torch.rand(2, 4, 3, 9, 7) * 1.2 - 0.1
    target = target.clamp(0, 1)
    singles = [CONVENTIONS["psnr_rgb_clamp"](x, y) for x, y in zip(restored, target, strict=True)]
    assert psnr(restored, target) == pytest.approx(sum(singles) / 4)
    assert psnr(restored[1], target[1]) == pytest.approx(singles[1])
