"""SegMamba, nnMamba and Vivim's layer: published parameter counts, sizes, other scans, gradients, named faults."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.nnmamba import BIDIRECTIONAL, MambaLayer, NnMamba
from dehaze_bench.models.backbones.segmamba import SegMamba
from dehaze_bench.models.backbones.vivim import VivimLayer
from dehaze_bench.scans import Scan, curves, planar, volume
from dehaze_bench.weights.maps.nnmamba import map_nnmamba
from tests.models.backbones.building import backbone, count, learns

PUBLISHED = {"segmamba": 67_416_196, "nnmamba": 15_944_958}


def segmamba(**arguments: Any) -> SegMamba:
    torch.manual_seed(0)
    sizes = {"channels": 2, "num_classes": 3, "depths": (1, 2, 1, 1), "dims": (4, 6, 8, 8), "hidden": 10, "d_state": 2}
    return SegMamba(**{**sizes, "slices": (2, 2, 2, 2), **arguments})


def nnmamba(**arguments: Any) -> NnMamba:
    torch.manual_seed(0)
    network = NnMamba(**{"channels": 2, "dim": 16, "blocks": 2, "num_classes": 3, "d_state": 2, **arguments})
    if network.decoder is not None:
        for scale in network.decoder.scales:  # so few hidden units must not all be off
            torch.nn.init.ones_(scale.layer1.bias)
    return network


NETWORKS = {"segmamba": segmamba, "nnmamba": nnmamba}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_and_maps_of_any_box(name: str) -> None:
    network: Any = NETWORKS[name]().eval()
    volume_BCDHW = torch.rand(1, 2, 16, 48, 32)
    assert network(volume_BCDHW).shape == (1, 3, 16, 48, 32)
    assert [tuple(found.shape) for found in network.features(volume_BCDHW)] == [
        (1, width, 16 // stride, 48 // stride, 32 // stride)
        for width, stride in zip(network.widths, network.strides, strict=True)
    ]
    encoder: Any = NETWORKS[name](num_classes=0)
    assert encoder.decoder is None
    assert encoder(volume_BCDHW).shape == (1, network.widths[-1])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    learns(NETWORKS[name]().train(), torch.rand(2, 2, 16, 16, 32))


@pytest.mark.parametrize("name", NETWORKS)
def test_another_scan(name: str) -> None:
    network: Any = NETWORKS[name](scan=Scan("there and back", volume.temporal_first, "sum"))
    learns(network, torch.rand(2, 2, 16, 16, 32))
    turns: Any = NETWORKS[name](scan=Scan("turns", volume.mamba_nd, "sum", "alternate"))
    assert turns(torch.rand(2, 2, 16, 16, 32)).shape == (2, 3, 16, 16, 32)


def test_nnmamba_walks_there_and_back_over_the_channels_in_both_orders() -> None:
    torch.manual_seed(0)
    layer = MambaLayer(8, BIDIRECTIONAL, d_state=3).eval()
    x_BCDHW = torch.randn(2, 8, 2, 3, 4)
    y = F.relu(layer.norm(layer.nin(x_BCDHW)))
    tokens = y.flatten(2).transpose(1, 2)
    mixed = [layer.mamba(tokens.flip(axes)).flip(axes) for axes in ([], [2], [1], [1, 2])]
    mean = (sum(mixed[1:], mixed[0]) / 4).transpose(1, 2).unflatten(2, (2, 3, 4))
    torch.testing.assert_close(layer(x_BCDHW), F.relu(layer.norm2(layer.nin2(mean + y))))


def test_a_stage_of_nnmamba_shares_one_layer_that_is_listed_in_every_block() -> None:
    network = nnmamba(blocks=3)
    names = [f"layer2.{block}.mamba_layer.nin.weight" for block in (1, 2)]
    tensors = {name: torch.full((1,), float(i)) for i, name in enumerate(names)}
    assert map_nnmamba(tensors) == {"stages.1.mamba_layer.nin.weight": torch.ones(1)}
    calls: list[int] = []
    layer = network.stages[1].mamba_layer
    layer.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    network(torch.rand(2, 2, 16, 16, 16))
    assert len(calls) == 2


def test_vivim_follows_the_number_of_frames() -> None:
    torch.manual_seed(0)
    layer = VivimLayer(8, d_state=3)
    learns(layer, torch.randn(2, 8, 3, 2, 4))
    assert layer(torch.randn(1, 8, 5, 2, 4)).shape == (1, 8, 5, 2, 4)
    fixed = VivimLayer(8, d_state=3, scan=Scan("five", partial(volume.tri_orientation, slices=5), "mean"))
    fixed.load_state_dict(layer.state_dict())
    video = torch.randn(1, 8, 5, 2, 4)
    torch.testing.assert_close(fixed(video), layer(video))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: segmamba(depths=(1, 1)), "four stages"),
        (lambda: segmamba()(torch.rand(1, 2, 16, 16, 16)), "more than one voxel"),
        (lambda: segmamba()(torch.rand(1, 2, 16, 16, 8)), "multiples of 16"),
        (lambda: nnmamba()(torch.rand(1, 2, 16, 24)), "multiples of 16"),
        (lambda: nnmamba(scan=Scan("flat", planar.cross))(torch.rand(1, 2, 16, 16, 32)), "two axes"),
        (lambda: segmamba(scan=Scan("flat", curves.continuous))(torch.rand(1, 2, 16, 16, 32)), "two axes"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
