"""FFA-Net and C2PNet, which share a layout: sizes, the fusion of the groups, ranges, gradients, named faults."""

from __future__ import annotations

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.c2pnet import C2PNet, PhysicsUnit
from dehaze_bench.models.restorers.ffanet import FFANet
from dehaze_bench.nn.feature_attention import FeatureGroups, PixelGate
from tests.models.backbones.building import count, learns
from tests.models.restorers.building import dense_gmacs, restorer

NETWORKS = (FFANet, C2PNet)


def small(network: type[FFANet] | type[C2PNet]) -> FFANet | C2PNet:
    torch.manual_seed(0)
    return network(dim=16, blocks=2)


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"), [("ffanet", 4_455_913, 287.28), ("c2pnet", 7_169_327, 460.46)]
)
def test_published_size(name: str, parameters: int, gmacs: float) -> None:
    assert count(restorer(name)) == parameters
    assert dense_gmacs(name) == pytest.approx(gmacs, abs=0.005)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [(32, 48), (21, 30), (1, 3)])
def test_any_size_goes_through(network: type[FFANet] | type[C2PNet], size: tuple[int, int]) -> None:
    assert small(network)(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_learns(network: type[FFANet] | type[C2PNet]) -> None:
    built = small(network)
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, torch.nn.Conv2d) and module.out_channels <= 2:
                module.bias.add_(2)  # of so few hidden channels no ReLU may close
    learns(built, torch.rand(2, 3, 12, 16))


def test_what_is_added_to_is_the_normalised_picture_in_ffanet_and_the_picture_in_c2pnet() -> None:
    hazy = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.64, 0.6, 0.58), (0.14, 0.15, 0.152)))
    for network, start in ((small(FFANet), (hazy - mean) / std), (small(C2PNet), hazy)):
        with torch.no_grad():
            network.post[1].weight.zero_()
            network.post[1].bias.fill_(0.25)
            torch.testing.assert_close(network(hazy), start + 0.25)


def test_the_fusion_weighs_groups_and_channels() -> None:
    network = small(FFANet)
    with torch.no_grad():
        last = network.ca[3]
        last.weight.zero_()
        last.bias.copy_(torch.cat([torch.full((16,), -100.0), torch.zeros(16), torch.full((16,), 100.0)]))
    seen = []
    network.local.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found = []
    for group in network.groups:
        group.register_forward_hook(lambda module, inputs, output: found.append(output))
    network(torch.rand(1, 3, 8, 8))
    torch.testing.assert_close(seen[0], 0.5 * found[1] + found[2])


def test_a_physics_unit_is_the_scattering_model() -> None:
    torch.manual_seed(1)
    unit, x_BCHW = PhysicsUnit(16), torch.randn(2, 16, 5, 6)
    with torch.no_grad():
        unit.td[3].weight.zero_()
        unit.td[3].bias.fill_(100)
        torch.testing.assert_close(unit(x_BCHW), x_BCHW)  # all is transmitted
        unit.td[3].bias.fill_(-100)
        light = unit(x_BCHW)  # nothing is: the light alone, one value per channel
        torch.testing.assert_close(light, light[..., :1, :1].expand_as(light))


@pytest.mark.parametrize("dim", [0, 24])
def test_bad_arguments(dim: int) -> None:
    with pytest.raises(UsageError, match=f"dim={dim} must be a multiple of 16"):
        FeatureGroups(dim, 1, PixelGate)
