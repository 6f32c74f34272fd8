"""GridDehazeNet: published size, any image size, range, gradients, channel weights, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.griddehazenet import GridDehazeNet
from tests.models.backbones.building import count, learns
from tests.models.restorers.building import dense_gmacs, restorer


def small(**arguments: Any) -> GridDehazeNet:
    torch.manual_seed(0)
    return GridDehazeNet(**{"height": 3, "width": 4, "dim": 4, "layers": 2, "growth": 3, **arguments})


def test_parameters_are_the_published_ones() -> None:
    assert count(restorer("griddehazenet")) == 958_051


def test_macs_are_the_published_ones_where_transposed_convolutions_count_at_their_output() -> None:
    ours = dense_gmacs("griddehazenet")
    transposed = 6 * 64 * 64 * 9 * 64 * 64 / 1e9  # six of equal cost, counted at the pixels that they read
    assert ours == pytest.approx(18.71, rel=5e-3)
    assert ours + 3 * transposed == pytest.approx(21.49, rel=5e-3)  # four pixels are written for one that is read


@pytest.mark.parametrize("size", [(32, 48), (21, 30), (7, 5), (1, 3)])
def test_any_size_goes_through_and_is_never_negative(size: tuple[int, int]) -> None:
    restored = small()(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, *size)
    assert restored.min() >= 0


def test_the_network_sees_minus_one_to_one_and_answers_zero_to_one() -> None:
    network, hazy = small(), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(network(hazy), network.restore(2 * hazy - 1))


@pytest.mark.parametrize(("height", "width"), [(2, 4), (3, 5), (4, 6)])
def test_every_parameter_learns(height: int, width: int) -> None:
    network = small(height=height, width=width)
    with torch.no_grad():
        network.conv_out.bias.fill_(5)  # the last ReLU is open
    learns(network, torch.rand(2, 3, 32, 24))
    learnt = network.coefficient.grad
    assert learnt is not None
    # The first row has four channels and joins from the middle column on, the second has eight and joins before, too.
    assert learnt[0, : width // 2].abs().sum() == 0 and learnt[0, :, :, 4:].abs().sum() == 0
    assert (learnt[0, width // 2 :, :, :4].abs().sum(2) > 0).all()
    assert (learnt[1, 1 : width // 2, :, :8].abs().sum(2) > 0).all()


def test_weights_of_one_and_nought_cut_the_rows_apart() -> None:
    network, hazy = small(), torch.rand(1, 3, 16, 16)
    before = network(hazy)
    with torch.no_grad():
        network.coefficient[0, 2:, 1] = 0  # nothing comes up into the first row
        cut = network(hazy)
        for parameter in network.downsample_module.parameters():
            parameter.zero_()
        assert torch.equal(network(hazy), cut)
    assert not torch.allclose(before, cut)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"height": 1}, "at least two rows"), ({"width": 2}, "four columns"), ({"growth": 0}, "growth")],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)
