"""MSVMamba: published parameter counts, sizes, both releases, scans with and without coarse routes, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.msvmamba import MULTISCALE, MSVMamba, MultiScaleSS2D
from dehaze_bench.scans import Scan, Walk
from dehaze_bench.scans.dynamic import ByContent
from dehaze_bench.scans.planar import cross, raster
from tests.models.backbones.building import backbone, count, learns
from tests.models.backbones.scanning import scan_of

PUBLISHED = {
    "msvmamba_nano": 6_864_136,
    "msvmamba_micro": 11_879_272,
    "msvmamba_tiny": 33_046_312,
    "msvmamba_v3_t": 32_263_720,
    "msvmamba_v3_s": 50_216_296,
    "msvmamba_v3_b": 90_591_976,
}


def small(release: int = 1, **arguments: Any) -> MSVMamba:
    torch.manual_seed(0)
    return MSVMamba(**{"depths": (1, 1), "dims": 32, "release": release, "num_classes": 3, **arguments})


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


@pytest.mark.parametrize("release", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (16, 44), (36, 20)])
def test_features_at_any_size(release: int, size: tuple[int, int]) -> None:
    network = small(release).eval()
    finest = [n // 4 for n in size]
    maps = network.features(torch.rand(2, 3, *size))
    assert [tuple(x.shape) for x in maps] == [(2, 32, *finest), (2, 64, *(-(-n // 2) for n in finest))]
    assert network(torch.rand(2, 3, *size)).shape == (2, 3)


@pytest.mark.parametrize("release", [1, 3])
@pytest.mark.parametrize("name", ["multiscale", "cross", "local", "by_content"])
def test_every_parameter_learns_with_and_without_coarse_routes(release: int, name: str) -> None:
    network = small(release, gate=release == 1, scan=scan_of(name))
    assert any("conv2d_b1" in key for key, _ in network.named_parameters()) == (name == "multiscale")
    learns(network, torch.rand(2, 3, 36, 44))


def test_any_number_of_coarse_routes() -> None:
    scan = Scan("mine", (Walk(cross), Walk(raster, scale=2), Walk(cross, scale=2)))
    network = small(scan=scan)
    assert network.layers[0].blocks[0].op.core.Ds.shape == (9 * 64,)
    learns(network, torch.rand(2, 3, 36, 44))


def test_coarse_parameter_sets_come_first_in_release_1_and_last_in_release_3() -> None:
    for release, coarse in ((1, 0), (3, 1)):
        torch.manual_seed(0)
        op = MultiScaleSS2D(8, MULTISCALE, release=release, squeeze=False)
        u_BHWD = torch.randn(1, 4, 6, 16)
        with torch.no_grad():
            full = op.walk(u_BHWD, op.first_full)
            op.core.Ds.unflatten(0, (2, -1))[coarse].add_(1.0)
            assert torch.equal(op.walk(u_BHWD, op.first_full), full)
            op.core.Ds.unflatten(0, (2, -1))[1 - coarse].add_(1.0)
            torch.testing.assert_close(op.walk(u_BHWD, op.first_full), full + u_BHWD)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"release": 2}, "releases 1 and 3, not 2"),
        ({"scan": Scan("half", (Walk(raster, scale=2),))}, "walk over all tokens"),
        ({"scan": Scan("fourth", (Walk(raster), Walk(raster, scale=4)))}, "stride 4"),
        ({"scan": Scan("drawn", (Walk(raster), Walk(ByContent(), scale=2)))}, "must not depend on the picture"),
        ({"scan": scan_of("omni")}, "channels"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)
