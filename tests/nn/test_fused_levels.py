"""The skeleton of the DehazeFormer line: what joins what, sizes, both reconstructions, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.fused_levels import FusedLevels, check_stages
from dehaze_bench.nn.fusion import SelectiveKernelFusion


class Scale(nn.Module):
    """A stage that can be told from the others."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.factor * x_BCHW


def small(**arguments: Any) -> FusedLevels:
    torch.manual_seed(0)
    return FusedLevels((4, 6, 8), [Scale(1 + i / 10) for i in range(5)], **arguments)


@pytest.mark.parametrize("add", [True, False])
def test_stages_and_skips_in_their_places(add: bool) -> None:
    network, x = small(add=add), torch.randn(1, 3, 16, 24)
    first = network.layers[0](network.patch_embed(x))
    second = network.layers[1](network.downs[0](first))
    y = network.layers[2](network.downs[1](second))
    for level, stage, skip in ((1, 3, second), (0, 4, first)):
        up = network.ups[level](y)
        y = network.layers[stage](network.fusions[level](up, skip) + (up if add else 0))
    torch.testing.assert_close(network.maps(x), network.patch_unembed(y))


def test_soft_reconstruction_or_a_residual() -> None:
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    soft, residual = small(), small(soft=False)
    gain, offset = soft.maps(x).split([1, 3], dim=1)
    torch.testing.assert_close(soft.restore(x), gain * x - offset + x)
    torch.testing.assert_close(residual.restore(x), residual.maps(x) + x)


@pytest.mark.parametrize("size", [(9, 9), (16, 20), (21, 30)])
def test_any_size_is_reflected_and_cut_back(size: tuple[int, int]) -> None:
    network, x = small(), torch.rand(2, 3, *size)
    padded = nn.functional.pad(x, (0, -size[1] % 4, 0, -size[0] % 4), mode="reflect")
    restored = network.restore(x)
    assert restored.shape == x.shape
    assert torch.equal(restored, network.restore(padded)[..., : size[0], : size[1]])


def test_the_network_sees_minus_one_to_one() -> None:
    network, hazy = small(), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(network(hazy), (network.restore(2 * hazy - 1) + 1) / 2)
    nn.init.zeros_(network.patch_unembed.weight)
    nn.init.zeros_(network.patch_unembed.bias)
    torch.testing.assert_close(network(hazy), hazy)


def test_the_multiple_follows_the_scales() -> None:
    assert small().multiple == 4
    assert FusedLevels((4, 4), [nn.Identity()] * 3).multiple == 2


def test_an_image_that_cannot_be_reflected_is_refused_by_name() -> None:
    network = small(reach=3)
    assert network(torch.rand(1, 3, 13, 13)).shape == (1, 3, 13, 13)
    with pytest.raises(UsageError, match="at least 13x13, not 12x40"):
        network(torch.rand(1, 3, 12, 40))


def test_fusion_without_a_map_of_the_skip() -> None:
    torch.manual_seed(0)
    fusion = SelectiveKernelFusion(8, project=False)
    assert sum(parameter.numel() for parameter in fusion.parameters()) == 8 * 4 + 4 * 16
    x, skip = torch.randn(16, 8, 5, 5), torch.randn(16, 8, 5, 5)
    weights = fusion.weigh((x + skip).mean((2, 3))).view(16, 2, 8, 1, 1).softmax(1)
    fused = fusion(x, skip)
    torch.testing.assert_close(fused, weights[:, 0] * x + weights[:, 1] * skip)
    fused.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in fusion.parameters())


@pytest.mark.parametrize(
    ("dims", "stages", "words"),
    [
        ((4, 8), {"depths": [1, 1]}, r"2 scales has 3 stages.*depths=\[1, 1\]"),
        ((4, 0, 8), {"depths": [1] * 5}, r"dims=\[4, 0, 8\]"),
        ((), {}, r"dims=\[\]"),
    ],
)
def test_lists_that_do_not_fit(dims: tuple[int, ...], stages: dict[str, list[int]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_stages("A network", dims, stages)
