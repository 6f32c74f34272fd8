"""MSBDN: published sizes, back-projection against its formula, gradients, sizes, names of published tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.msbdn import MSBDN, Fusion
from dehaze_bench.weights.maps.msbdn import map_msbdn
from tests.models.backbones.building import count, learns
from tests.models.restorers.building import dense_gmacs, restorer


@pytest.mark.parametrize(("name", "parameters"), [("msbdn_dff", 31_353_061), ("msbdn_rdff", 28_712_861)])
def test_parameters_are_the_published_ones(name: str, parameters: int) -> None:
    assert count(restorer(name)) == parameters


@pytest.mark.parametrize(("name", "gmacs"), [("msbdn_dff", 24.43), ("msbdn_rdff", 19.57)])
def test_macs_are_the_measured_ones(name: str, gmacs: float) -> None:
    assert dense_gmacs(name) == pytest.approx(gmacs, rel=5e-3)


@pytest.mark.parametrize("fusion", ["dff", "rdff"])
def test_every_parameter_learns(fusion: str) -> None:
    network = MSBDN(fusion, res_blocks=1)
    learns(network, torch.rand(1, 3, 32, 48))
    assert network(torch.rand(1, 3, 48, 32)).shape == (1, 3, 48, 32)


@pytest.mark.parametrize("finer", [True, False])
def test_errors_are_projected_back_one_scale_after_the_other_farthest_first(finer: bool) -> None:
    torch.manual_seed(0)
    fusion = Fusion(32, 2, finer, relaxed=False)
    there, back = (fusion.up_convs, fusion.down_convs) if finer else (fusion.down_convs, fusion.up_convs)
    x = torch.rand(1, 32, 16, 16)
    near, far = (torch.rand_like(scale) for scale in (there[0](x), there[1](there[0](x))))
    expected = x + back[0](back[1](there[1](there[0](x)) - far))
    expected = expected + back[0](there[0](expected) - near)
    torch.testing.assert_close(fusion(x, [far, near]), expected)


def test_only_half_of_the_channels_is_corrected_in_a_relaxed_fusion() -> None:
    torch.manual_seed(0)
    fusion = Fusion(32, 1, True, relaxed=True)
    x, known = torch.rand(1, 32, 8, 8), torch.rand(1, 8, 16, 16)
    first, second = fusion(x, [known]).chunk(2, dim=1)
    other_first, other_second = fusion(x, [known + 1]).chunk(2, dim=1)
    assert not torch.allclose(first, other_first)
    assert torch.equal(second, other_second)


def test_published_names_of_both_variants() -> None:
    names = {
        "conv_input.conv2d.weight": "conv_input.weight",
        "dense0.2.conv1.conv2d.bias": "dense.0.2.conv1.bias",
        "dense_4.0.relu.weight": "up_dense.0.0.relu.weight",
        "conv16x.conv2d.weight": "downs.3.weight",
        "convd16x.conv2d.weight": "ups.0.weight",
        "convd2x.conv2d.bias": "ups.3.bias",
        "fusion4.up_convs.3.deconv.weight": "fusions.3.up_convs.3.deconv.weight",
        "fusion_1.down_convs.0.act.weight": "up_fusions.3.down_convs.0.act.weight",
        "conv1.dense_layers.3.conv.weight": "fusions.0.rest.layers.3.weight",
        "conv_4.conv_1x1.weight": "up_fusions.0.rest.conv_1x1.weight",
        "dehaze.res17.conv2.conv2d.weight": "dehaze.17.conv2.weight",
        "stranger": "stranger",
    }
    found = map_msbdn({name: torch.zeros(1) for name in names})
    assert list(found) == list(names.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"fusion": "ddf"}, "fusion 'ddf'. Did you mean 'dff'"), ({"res_blocks": -1}, "res_blocks=-1")],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MSBDN(**arguments)


@pytest.mark.parametrize("size", [(40, 32), (16, 64)])
def test_sizes_it_cannot_take_are_named(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 16 from 32 on"):
        MSBDN(res_blocks=0)(torch.rand(1, 3, *size))
