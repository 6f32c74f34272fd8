"""EfficientVMamba: published parameter counts, sizes, routes that share the tokens out, gradients, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.efficientvmamba import EfficientVMamba
from dehaze_bench.weights.maps.efficientvmamba import map_efficientvmamba
from tests.models.backbones.building import backbone, count, learns
from tests.models.backbones.scanning import scan_of

PUBLISHED = {"efficientvmamba_t": 6_493_660, "efficientvmamba_s": 11_273_688, "efficientvmamba_b": 33_717_136}


def small(**arguments: Any) -> EfficientVMamba:
    torch.manual_seed(0)
    return EfficientVMamba(**{"depths": (1, 1, 1), "dims": 8, "d_state": 2, "num_classes": 3, **arguments})


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


@pytest.mark.parametrize("size", [(32, 32), (16, 44), (36, 20)])
def test_features_at_any_size(size: tuple[int, int]) -> None:
    network = small().eval()
    maps = network.features(torch.rand(2, 3, *size))
    assert [x.shape[1] for x in maps] == list(network.widths) == [8, 16, 32]
    for x, stride in zip(maps, network.strides, strict=True):
        assert x.shape[2:] == tuple(-(-n // stride) for n in size)
    assert network(torch.rand(2, 3, *size)).shape == (2, 3)


@pytest.mark.parametrize("arguments", [{}, {"step": 3}, {"scan": scan_of("cross")}, {"scan": scan_of("local")}])
def test_every_parameter_learns(arguments: dict[str, Any]) -> None:
    learns(small(**arguments), torch.rand(2, 3, 36, 44))


def test_later_stages_are_convolutions_counted_from_one_in_the_published_names() -> None:
    names = ["layers.2.1.conv_pw.0.weight", "layers.2.2.se.conv_reduce.bias", "layers.2.6.reduction.weight"]
    published = {"module.module." + name: torch.zeros(1) for name in ("patch_embed.0.bias", *names)}
    assert list(map_efficientvmamba(published))[1:] == [
        "layers.2.blocks.0.conv_pw.0.weight",
        "layers.2.blocks.1.se.conv_reduce.bias",
        "layers.2.downsample.reduction.weight",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"), [({"step": 0}, "at least 1, not 0"), ({"scan": scan_of("multiscale")}, "'multiscale'")]
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)
