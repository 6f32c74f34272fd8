"""Losses: values by hand or by an independent formula, gradients, float32 under autocast, presets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from skimage.metrics import structural_similarity
from torch import Tensor

from dehaze_bench.engine.losses import L1, L1FFT, L1SSIM, MSE, Charbonnier, SmoothL1, over_scales
from dehaze_bench.errors import UsageError

CONF = Path(__file__).parents[2] / "conf" / "loss"
# Those that compare features need a file of weights: tests/engine/test_perceptual.py.
PRESETS = sorted(path.stem for path in CONF.glob("*.yaml") if "features:" not in path.read_text())


def pair(shape: tuple[int, ...] = (2, 3, 24, 20)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    clear = torch.rand(shape, generator=generator)
    return clear + 0.1 * torch.randn(shape, generator=generator), clear


def test_pixel_losses_of_a_constant_difference() -> None:
    clear = torch.rand(1, 3, 8, 8)
    restored = clear + 0.5
    assert L1()(restored, clear).item() == pytest.approx(0.5)
    assert MSE()(restored, clear).item() == pytest.approx(0.25)
    assert Charbonnier(epsilon=0.5)(restored, clear).item() == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("width", [20, 21])
@pytest.mark.parametrize("height", [1, 24])
def test_spectrum_term_is_the_mean_over_the_full_transform(height: int, width: int) -> None:
    restored, clear = pair((2, 3, height, width))
    stacked = []
    for image in (restored, clear):
        spectrum = np.fft.fft2(image.double().numpy())
        stacked.append(np.stack([spectrum.real, spectrum.imag], axis=-1))
    expected = (restored - clear).abs().mean().item() + 0.1 * np.abs(stacked[0] - stacked[1]).mean()
    assert L1FFT(weight=0.1)(restored, clear).item() == pytest.approx(expected, rel=1e-5)


def test_ssim_term_agrees_with_scikit_image() -> None:
    restored, clear = pair((1, 3, 24, 20))
    _, full = structural_similarity(
        restored[0].double().numpy(),
        clear[0].double().numpy(),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    expected = (restored - clear).abs().mean().item() + 0.2 * (1 - full[:, 5:-5, 5:-5].mean())
    assert L1SSIM(weight=0.2)(restored, clear).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_gradient_and_is_small_for_equal_images(preset: str) -> None:
    loss = instantiate(OmegaConf.load(CONF / f"{preset}.yaml"))
    restored, clear = pair()
    restored.requires_grad_()
    value = loss(restored, clear)
    value.backward()
    assert value.shape == ()
    assert restored.grad is not None
    assert torch.isfinite(restored.grad).all()
    assert restored.grad.abs().max() > 0
    equal = clear.clone().requires_grad_()
    zero = loss(equal, clear)
    zero.backward()
    assert zero.item() < 2e-3 < value.item()
    assert equal.grad is not None
    assert torch.isfinite(equal.grad).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_computes_in_float32_under_autocast(preset: str) -> None:
    loss = instantiate(OmegaConf.load(CONF / f"{preset}.yaml"))
    restored, clear = pair()
    expected = loss(restored.bfloat16().float(), clear)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(restored.bfloat16(), clear)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_says_what_it_is_and_refuses_another_shape(preset: str) -> None:
    path = CONF / f"{preset}.yaml"
    assert path.read_text(encoding="utf-8").startswith("# ")
    restored, clear = pair()
    with pytest.raises(UsageError, match="keeps batch, channels and size"):
        instantiate(OmegaConf.load(path))(restored[:, :1], clear)


def test_errors_name_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"at least 11 pixels.*8 x 30"):
        L1SSIM()(*pair((1, 3, 8, 30)))
    with pytest.raises(UsageError, match="epsilon=0"):
        Charbonnier(epsilon=0)


def test_smooth_l1_is_quadratic_near_zero_and_linear_far_away() -> None:
    clear = torch.zeros(1, 3, 2, 2)
    near, far = torch.full_like(clear, 0.1), torch.full_like(clear, 3.0)
    assert SmoothL1()(near, clear).item() == pytest.approx(0.1**2 / 2)
    assert SmoothL1()(far, clear).item() == pytest.approx(3.0 - 0.5)
    with pytest.raises(UsageError, match=r"loss\.beta=0"):
        SmoothL1(0)


def test_a_loss_is_summed_over_the_scales_of_a_network() -> None:
    generator = torch.Generator().manual_seed(0)
    clear, hazy = torch.rand(2, 2, 3, 16, 24, generator=generator)
    outs = [torch.rand(2, 3, 16 // f, 24 // f, generator=generator) for f in (1, 2, 4)]
    loss = L1FFT(0.1)
    expected = sum(
        loss(out, torch.nn.functional.interpolate(clear, scale_factor=1 / f, mode="bilinear"))
        for out, f in zip(outs, (1, 2, 4), strict=True)
    )
    assert over_scales(loss, outs, clear, hazy).item() == pytest.approx(float(expected))
    assert over_scales(loss, outs[0], clear, hazy).item() == pytest.approx(loss(outs[0], clear).item())


def test_the_haze_is_reduced_like_the_truth() -> None:
    hazy = torch.rand(1, 3, 8, 8)
    seen = []

    def keep(restored: Tensor, clear: Tensor, hazy: Tensor) -> Tensor:
        seen.append((restored.shape, clear.shape, hazy.shape))
        return (restored - hazy).mean()

    over_scales(keep, [hazy, hazy[..., ::2, ::2]], hazy, hazy)
    assert all(a == b == c for a, b, c in seen)
