"""GCANet: published size, edges, whole levels in evaluation, gradients in training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dehaze_bench.models.restorers.gcanet import GCANet, SharedConv
from tests.models.backbones.building import count, learns
from tests.models.restorers.building import dense_gmacs, restorer


def network(residual: bool = True) -> GCANet:
    torch.manual_seed(0)
    return GCANet(residual)


def test_published_size() -> None:
    assert count(restorer("gcanet")) == 702_818
    assert dense_gmacs("gcanet") == pytest.approx(15.58, rel=5e-4)


@pytest.mark.parametrize("size", [(16, 20), (24, 8)])
def test_multiples_of_four_go_through(size: tuple[int, int]) -> None:
    assert network()(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_edges_are_differences_to_the_four_neighbours() -> None:
    levels = torch.zeros(1, 3, 4, 5)
    levels[0, :, 1, 2] = torch.tensor([30.0, 60.0, 90.0])
    found = network().add_edges(levels) + 128
    torch.testing.assert_close(found[:, :3], levels)
    expected = torch.zeros(4, 5)
    expected[1, 2] = 60.0  # four differences of 60 on average
    for row, column in ((0, 2), (2, 2), (1, 1), (1, 3)):
        expected[row, column] = 15.0
    torch.testing.assert_close(found[0, 3], expected)
    levels = torch.full((1, 3, 4, 5), 7.0)  # beyond the border there is nothing to differ from
    assert (network().add_edges(levels)[:, 3] == -128).all()


def test_evaluation_gives_whole_levels_and_training_does_not() -> None:
    model, hazy = network(), torch.rand(1, 3, 16, 16)
    free = model.train()(hazy)
    assert torch.isfinite(free).all()
    levels = model.eval()(hazy) * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    torch.testing.assert_close(levels, (255 * free).round().clamp(0, 255), rtol=0, atol=1e-3)


def test_what_is_found_is_added_to_the_picture() -> None:
    model, hazy = network().train(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        model.deconv1.weight.zero_()
        model.deconv1.bias.copy_(torch.tensor([51.0, 0.0, -51.0]))
        torch.testing.assert_close(model(hazy) - hazy, torch.tensor([0.2, 0.0, -0.2])[:, None, None].expand(1, 3, 8, 8))


def test_the_deraining_network_answers_the_picture_itself() -> None:
    model, hazy = network(residual=False).train(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        model.deconv1.weight.zero_()
        model.deconv1.bias.copy_(torch.tensor([51.0, 0.0, -51.0]))
        torch.testing.assert_close(model(hazy), torch.tensor([0.2, 0.0, 0.0])[:, None, None].expand(1, 3, 8, 8))


@pytest.mark.parametrize("residual", [True, False])
def test_every_parameter_learns(residual: bool) -> None:
    model = network(residual).train()
    with torch.no_grad():
        model.deconv1.bias.fill_(300)  # the last ReLU is open
    learns(model, torch.rand(2, 3, 16, 16))


def test_a_shared_kernel_is_the_identity_first_and_the_same_for_all_channels() -> None:
    torch.manual_seed(1)
    conv, x_BCHW = SharedConv(7), torch.randn(2, 5, 9, 11)
    assert torch.equal(conv(x_BCHW), x_BCHW)
    nn.init.normal_(conv.weight)
    alone = torch.cat([F.conv2d(x_BCHW[:, i : i + 1], conv.weight, padding=3) for i in range(5)], dim=1)
    torch.testing.assert_close(conv(x_BCHW), alone)
