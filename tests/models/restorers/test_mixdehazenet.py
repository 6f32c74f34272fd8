"""MixDehazeNet: the block against its formula, gradients, the smallest image, faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.mixdehazenet import MixBlock, MixDehazeNet
from tests.models.backbones.building import learns


def small(**arguments: Any) -> MixDehazeNet:
    torch.manual_seed(0)
    return MixDehazeNet(**{"depths": (1, 1, 1, 1, 1), "dims": (8, 8, 16), **arguments})


def test_every_parameter_learns() -> None:
    network = small()
    learns(network, torch.rand(2, 3, 40, 53))
    assert network(torch.rand(1, 3, 37, 40)).shape == (1, 3, 37, 40)


def test_both_halves_of_the_block() -> None:
    torch.manual_seed(0)
    block, x = MixBlock(8).eval(), torch.randn(1, 8, 12, 14)
    y = block.conv2(block.conv1(block.norm1(x)))
    kinds = [(conv.kernel_size[0], conv.dilation[0], conv.groups) for conv in block.large]
    assert kinds == [(7, 3, 8), (5, 3, 8), (3, 3, 8)]
    x1 = x + block.mlp(torch.cat([conv(y) for conv in block.large], 1))
    y = block.norm2(x1)
    pooled = y.mean((2, 3), keepdim=True)
    simple = block.value(y) * torch.sigmoid(block.value_gate(pooled))
    channel, pixel = torch.sigmoid(block.channel_gate(pooled)), torch.sigmoid(block.pixel_gate(y))
    assert channel.shape == (1, 8, 1, 1) and pixel.shape == (1, 1, 12, 14)
    torch.testing.assert_close(block(x), x1 + block.mlp2(torch.cat([simple, channel * y, pixel * y], 1)))


def test_a_small_image_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"MixDehazeNet .* at least 37x37, not 36x64"):
        small()(torch.rand(1, 3, 36, 64))


@pytest.mark.parametrize(
    ("arguments", "words"), [({"depths": (1, 1)}, r"depths=\[1, 1\]"), ({"dims": (4, 8, 16)}, "at least 8 channels")]
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)
