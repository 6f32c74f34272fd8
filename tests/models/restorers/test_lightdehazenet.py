"""Light-DehazeNet: published size, formula, any image size, gradients."""

from __future__ import annotations

import pytest
import torch

from dehaze_bench.models.restorers.lightdehazenet import LightDehazeNet
from tests.models.backbones.building import count
from tests.models.restorers.building import dense_gmacs, restorer


def test_published_size() -> None:
    assert count(restorer("lightdehazenet")) == 30_187
    assert dense_gmacs("lightdehazenet") == pytest.approx(1.97, abs=0.005)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (32, 48)])
def test_keeps_any_size_and_is_never_negative(size: tuple[int, int]) -> None:
    restored = LightDehazeNet()(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, *size)
    assert restored.min() >= 0


def test_a_constant_k_gives_the_formula() -> None:
    model = LightDehazeNet()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.convs[7].bias.fill_(1.5)
    hazy = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(model(hazy), (1.5 * hazy - 0.5).clamp(min=0))


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(1)
    model = LightDehazeNet()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()  # no ReLU may close
    (model(torch.rand(1, 3, 16, 16)) * torch.rand(3, 16, 16)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
