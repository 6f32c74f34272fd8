"""AOD-Net: size, formula, any image size, preset. Its golden fixture is checked in tests/verify."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dehaze_bench.models.restorers.aodnet import AODNet

PRESET = Path(__file__).parents[2] / "conf" / "model" / "aodnet.yaml"


def test_parameters_equal_the_published_count() -> None:
    assert sum(parameter.numel() for parameter in AODNet().parameters()) == 1761


def test_preset_builds_it() -> None:
    assert isinstance(instantiate(OmegaConf.load(PRESET)), AODNet)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (32, 48)])
def test_keeps_any_size_and_is_never_negative(size: tuple[int, int]) -> None:
    restored = AODNet()(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, *size)
    assert restored.min() >= 0


def test_a_constant_k_gives_the_formula() -> None:
    model = AODNet()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.conv5.bias.fill_(1.5)
    hazy = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(model(hazy), (1.5 * hazy - 0.5).clamp(min=0))


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(1)
    model = AODNet()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()  # no ReLU may close
    model(torch.rand(1, 3, 16, 16)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
