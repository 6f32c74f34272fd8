"""DEA-Net: sizes of both forms, the same outputs from both, its kernels one by one, gradients, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.deanet import CGAFusion, DEANet, DEConv
from dehaze_bench.weights.maps.deanet import map_deanet
from tests.models.backbones.building import count, learns
from tests.models.restorers.building import dense_gmacs, restorer


def small(**arguments: Any) -> DEANet:
    torch.manual_seed(0)
    return DEANet(**{"base_dim": 8, "blocks": [1, 2, 2, 1, 1], **arguments})


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [("deanet", 7_789_313, 32.23), ("deanet_deploy", 3_653_377, 32.23), ("deanet_s", 5_946_267, 24.88)],
)
def test_published_size(name: str, parameters: int, gmacs: float) -> None:
    assert count(restorer(name)) == parameters
    assert dense_gmacs(name) == pytest.approx(gmacs, rel=5e-4)


@pytest.mark.parametrize(("name", "parameters"), [("deanet", 3_653_377), ("deanet_s", 2_844_315)])
def test_the_deploy_form_has_the_published_parameters(name: str, parameters: int) -> None:
    network = restorer(name)
    assert isinstance(network, DEANet)
    assert count(network.deploy()) == parameters


def test_both_forms_give_the_same() -> None:
    network, hazy = small(), torch.rand(2, 3, 16, 24)
    merged = network.deploy()
    torch.testing.assert_close(merged(hazy), network(hazy), rtol=0, atol=2e-6)
    assert not any(isinstance(module, DEConv) for module in merged.modules())
    assert any(isinstance(module, DEConv) for module in network.modules())  # a copy was made
    plain = small(form="deploy")
    plain.load_state_dict(merged.state_dict())
    assert torch.equal(plain(hazy), merged(hazy))
    assert torch.equal(plain.deploy()(hazy), plain(hazy))


def test_a_merged_network_still_learns() -> None:
    merged = small().double().deploy()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in merged.parameters())
    learns(merged, torch.rand(1, 3, 16, 16, dtype=torch.float64))


@pytest.mark.parametrize("size", [(16, 20), (24, 32)])
def test_multiples_of_four_go_through(size: tuple[int, int]) -> None:
    assert small()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_every_parameter_learns() -> None:
    learns(small(), torch.rand(2, 3, 16, 20))


def difference(x_BCHW: Tensor, rows: int, columns: int) -> Tensor:
    """Return the pixels that lie (rows, columns) away; zeros beyond the border."""
    height, width = x_BCHW.shape[-2:]
    padded = F.pad(x_BCHW, (1, 1, 1, 1))
    return padded[..., 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]


def test_each_kernel_is_the_difference_that_it_is_named_for() -> None:
    """The published definitions with weights per tap: what the pixels are multiplied with is a difference of two."""
    torch.manual_seed(3)
    x_BCHW = torch.randn(1, 1, 6, 7)
    taps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    clockwise = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    here = {tap: difference(x_BCHW, *tap) for tap in taps}
    layer = DEConv(1)

    def alone(name: str) -> Tensor:
        with torch.no_grad():
            for part, conv in layer.named_children():
                assert isinstance(conv, nn.Conv1d | nn.Conv2d) and conv.bias is not None
                conv.bias.fill_(0)
                conv.weight.normal_() if part == name else conv.weight.zero_()
        return getattr(layer, name).weight[0, 0]

    weight = alone("central")
    expected = sum(weight[i + 1, j + 1] * (here[i, j] - here[0, 0]) for i, j in taps)
    torch.testing.assert_close(layer(x_BCHW), expected)
    weight = alone("horizontal")
    torch.testing.assert_close(layer(x_BCHW), sum(weight[i + 1] * (here[i, -1] - here[i, 1]) for i in (-1, 0, 1)))
    weight = alone("vertical")
    torch.testing.assert_close(layer(x_BCHW), sum(weight[j + 1] * (here[-1, j] - here[1, j]) for j in (-1, 0, 1)))
    weight = alone("angular")
    pairs = zip(clockwise, clockwise[1:] + clockwise[:1], strict=True)
    expected = sum(weight[a[0] + 1, a[1] + 1] * (here[a] - here[b]) for a, b in pairs)
    torch.testing.assert_close(layer(x_BCHW), expected)
    weight = alone("vanilla")
    torch.testing.assert_close(layer(x_BCHW), F.conv2d(x_BCHW, weight[None, None], padding=1))


def test_biases_are_added_up() -> None:
    layer = DEConv(4)
    _, bias = layer.sum()
    parts = (layer.central, layer.horizontal, layer.vertical, layer.angular, layer.vanilla)
    torch.testing.assert_close(bias, sum(part.bias for part in parts))


def test_the_fusion_weights_lie_above_one_half() -> None:
    torch.manual_seed(4)
    fusion, x_BCHW = CGAFusion(16), 5 * torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        fusion.conv.weight.copy_(torch.eye(16)[..., None, None])
        fusion.conv.bias.zero_()
    extra = fusion(x_BCHW, torch.zeros_like(x_BCHW)) / x_BCHW - 1
    assert 0.5 - 1e-4 <= extra.min() < extra.max() <= 0.7311 + 1e-4


def test_published_names_of_both_forms() -> None:
    train = {
        "down_level1_block1.conv1.conv1_1.conv.weight": "down_level1.0.conv1.central.weight",
        "level3_block8.conv1.conv1_5.bias": "level3.7.conv1.vanilla.bias",
        "level3_block1.pa.pa2.weight": "level3.0.attention.pixel.weight",
        "up2.0.bias": "up2.bias",
        "mix1.ca.ca.2.weight": "mix1.attention.channel.2.weight",
    }
    found = map_deanet({name: torch.zeros(1) for name in train})
    assert list(found) == list(train.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"form": "deployed"}, "form 'deployed'.*Did you mean 'deploy'"), ({"blocks": [4, 4, 8]}, "five numbers")],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)
