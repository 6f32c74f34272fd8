"""Vision-RWKV: published parameter counts, sizes, other scans, gradients, named faults."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.vrwkv import VRWKV
from dehaze_bench.scans import Scan, planar
from dehaze_bench.weights.maps.vrwkv import map_vrwkv
from tests.models.backbones.building import backbone, count, learns

PUBLISHED = {"vrwkv_t": 6_155_176, "vrwkv_s": 23_820_136, "vrwkv_b": 93_645_544, "vrwkv_l": 334_881_768}


def small(**arguments: Any) -> VRWKV:
    torch.manual_seed(0)
    return VRWKV(dim=8, depth=2, patch=4, image_size=16, num_classes=3, **arguments)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


@pytest.mark.parametrize("size", [(16, 16), (12, 28), (4, 4)])
def test_one_map_at_any_size(size: tuple[int, int]) -> None:
    network = small().eval()
    (found,) = network.features(torch.rand(2, 3, *size))
    assert found.shape == (2, *network.widths, size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("arguments", [{}, {"layer_scale": 1e-5, "key_norm": True, "head_hidden": 5}])
def test_every_parameter_learns(arguments: dict[str, Any]) -> None:
    learns(small(**arguments), torch.rand(2, 3, 12, 16))


def test_another_scan_has_a_decay_per_route() -> None:
    cross = small(scan=Scan("cross", planar.cross, "mean"))
    assert count(cross) == count(small()) + 2 * 2 * 3 * 8  # decay and bonus, two layers, three more routes
    learns(cross, torch.rand(2, 3, 12, 16))


def test_raster_given_is_the_native_scan() -> None:
    given, native = small(scan=Scan("raster", planar.raster, "mean")).eval(), small().eval()
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(given(image), native(image))


def test_an_alternating_scan_gives_every_layer_its_route() -> None:
    network = small(scan=Scan("turns", planar.cross, "sum", "alternate"))
    assert count(network) == count(small())
    routes = [layer.att.scan.on((4, 4))[0].index_KL[0, :3].tolist() for layer in network.layers]
    assert routes == [[0, 1, 2], [0, 4, 8]]


def test_published_names_of_the_two_layer_head() -> None:
    names = {"backbone.ln1.weight", "head.layers.pre_logits.weight", "head.layers.head.bias"}
    assert set(map_vrwkv({name: torch.zeros(1) for name in names})) == {"ln1.weight", "head.0.weight", "head.2.bias"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VRWKV(image_size=100), "image_size"),
        (lambda: small(form="kernel")(torch.rand(1, 3, 16, 16)), "'kernel'"),
        (
            lambda: small(scan=Scan("half", lambda grid: planar.raster(grid).reshape(2, -1)))(torch.rand(1, 3, 16, 16)),
            "'half' skips",
        ),
        (lambda: small(scan=Scan("random", partial(planar.random, routes=0))), "routes >= 1"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
