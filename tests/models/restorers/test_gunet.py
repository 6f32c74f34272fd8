"""gUNet: the units of its paper, the block against its formula, gradients, scales, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.gunet import Block, GUNet
from tests.models.backbones.building import count, learns
from tests.models.restorers.building import dense_gmacs, restorer


def small(**arguments: Any) -> GUNet:
    torch.manual_seed(0)
    return GUNet(**{"depths": (1, 1, 1, 2, 1, 1, 1), "width": 4, **arguments})


@pytest.mark.parametrize(("name", "parameters", "gmacs"), [("gunet_t", 0.805, 2.595), ("gunet_s", 1.408, 4.579)])
def test_the_paper_prints_binary_units(name: str, parameters: float, gmacs: float) -> None:
    """Its MACs hold a little more than convolutions: 1.1 %."""
    assert count(restorer(name)) / 2**20 == pytest.approx(parameters, abs=1e-3)
    assert dense_gmacs(name) * 1e9 / 2**30 == pytest.approx(gmacs, rel=0.015)


@pytest.mark.parametrize(("depths", "multiple"), [((1, 1, 1, 2, 1, 1, 1), 8), ((1, 1, 1, 1, 1), 4), ((2,), 1)])
def test_every_parameter_learns_at_any_number_of_scales(depths: tuple[int, ...], multiple: int) -> None:
    network = small(depths=depths)
    assert network.multiple == multiple
    for fusion in network.fusions:
        fusion.weigh[1] = torch.nn.LeakyReLU()  # of four squeezed channels all may be closed
    learns(network, torch.rand(2, 3, 27, 40))
    assert network(torch.rand(1, 3, 27, 40)).shape == (1, 3, 27, 40)


def test_the_gate_is_not_convolved() -> None:
    torch.manual_seed(0)
    block, x = Block(4, 5, 1).eval(), torch.randn(1, 4, 8, 8)
    y = block.norm(x)
    expected = x + block.conv.proj(block.conv.value(y) * torch.sigmoid(block.conv.gate(y)))
    torch.testing.assert_close(block(x), expected)
    assert block.conv.value[1].groups == 4 and block.conv.gate.kernel_size == (1, 1)


def test_statistics_are_those_of_the_batch_in_training_alone() -> None:
    network, image = small(), torch.rand(2, 3, 24, 24)
    first = network.eval()(image)
    network.train()(image)
    assert not torch.allclose(network.eval()(image), first)  # the running statistics have moved
    torch.testing.assert_close(network(image)[:1], network(image[:1]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"depths": (1, 1)}, "odd number of stages"), ({"kernel": 4}, "kernel=4"), ({"depths": (1, -1, 1)}, "-1")],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)
