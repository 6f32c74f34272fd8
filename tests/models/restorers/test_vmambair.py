"""VmambaIR: published sizes and costs, the scan over channels against single scans, other scans, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.counting import count_macs
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.vmambair import CROSS, ChannelRoutes, OmniScan, VmambaIR
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.scans import Scan, planar
from tests.models.backbones.building import count, learns
from tests.models.backbones.scanning import scan_of
from tests.models.restorers.building import restorer

PUBLISHED = {
    "vmambair_derain": 28_709_875,
    "vmambair_mamber32": 27_693_156,
    "vmambair_mamber33": 27_680_964,
}


def small(**arguments: Any) -> VmambaIR:
    torch.manual_seed(0)
    return VmambaIR(**{"dim": 4, "depths": (1, 1, 1, 1), "refinement": 1, "d_state": 2, **arguments})


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(restorer(name)) == PUBLISHED[name]


def test_macs_of_the_deraining_build_without_and_with_the_scan() -> None:
    network = restorer("vmambair_derain")
    quarter = (128, 128)  # all that counts goes with the area
    assert 4 * count_macs(network, quarter, "dense") / 1e9 == pytest.approx(121.18, rel=5e-3)
    assert 4 * count_macs(network, quarter) / 1e9 == pytest.approx(121.18 + 41.29, rel=5e-3)


@pytest.mark.parametrize("variant", ["mamber32", "mamber33"])
@pytest.mark.parametrize("norm", ["withbias", "biasfree"])
def test_every_parameter_learns(variant: str, norm: str) -> None:
    network = small(variant=variant, norm=norm)
    for module in network.modules():
        if isinstance(module, ChannelRoutes):
            module.join.bias = None  # the norm after it takes a constant off again
    learns(network, torch.rand(2, 3, 16, 24))


@pytest.mark.parametrize("size", [(16, 24), (24, 8)])
def test_the_residual_is_added_to_the_input(size: tuple[int, int]) -> None:
    network, image = small().eval(), torch.rand(1, 3, *size)
    assert network(image).shape == image.shape
    torch.nn.init.zeros_(dict(network.named_parameters())["output.weight"])
    torch.testing.assert_close(network(image), image)


def test_the_scan_over_channels_is_one_scan_there_and_one_back() -> None:
    torch.manual_seed(0)
    layer, y_BHWD = ChannelRoutes(width=7, features=3, d_state=4), torch.randn(2, 5, 6, 7)
    u_BDF = layer.spread(y_BHWD.flatten(1, 2).mean(1)[:, :, None])
    total_BDF = torch.zeros_like(u_BDF)
    for k in range(2):
        core, way_BDF = layer.core, u_BDF.flip(1) if k else u_BDF
        dt, B, C = (way_BDF @ core.x_proj_weight[k].T).split([6, 4, 4], dim=-1)
        one = slice(3 * k, 3 * k + 3)
        found_BDF = selective_scan(
            way_BDF,
            dt @ core.dt_projs_weight[k].T,
            -core.A_logs[one].exp(),
            B,
            C,
            D_D=core.Ds[one],
            delta_bias_D=core.dt_projs_bias[k],
            delta_softplus=True,
        )
        assert isinstance(found_BDF, torch.Tensor)
        total_BDF = total_BDF + (found_BDF.flip(1) if k else found_BDF)
    expected_BD = layer.norm(layer.join(total_BDF)[..., 0])
    torch.testing.assert_close(layer(y_BHWD), expected_BD[:, None, None])


def test_one_variant_adds_what_the_channels_make_and_the_other_scales_by_it() -> None:
    x_BHWC = torch.randn(1, 4, 6, 5)
    for variant, scales in (("mamber32", False), ("mamber33", True)):
        torch.manual_seed(0)
        layer = OmniScan(5, CROSS, variant, d_state=2)
        torch.nn.init.zeros_(layer.channels.norm.weight)
        torch.nn.init.constant_(layer.channels.norm.bias, 0.5)
        s_BHWD, gate_BHWD = layer.in_proj(x_BHWC).chunk(2, dim=-1)
        y_BHWD = layer.mix(s_BHWD) * torch.nn.functional.silu(gate_BHWD)
        expected = layer.out_proj(1.5 * y_BHWD if scales else y_BHWD + 0.5)
        torch.testing.assert_close(layer(x_BHWC), expected)


@pytest.mark.parametrize("name", ["raster", "hilbert", "local", "atrous", "by_content", "diagonal_cross", "mamba_nd"])
def test_takes_other_scans(name: str) -> None:
    network = small(scan=scan_of(name)).eval()
    assert torch.isfinite(network(torch.rand(1, 3, 16, 24))).all()


def test_of_the_omni_scan_the_plane_is_the_native_one() -> None:
    image = torch.rand(1, 3, 16, 24)
    torch.testing.assert_close(small(scan=scan_of("omni")).eval()(image), small().eval()(image))


def test_an_alternating_scan_gives_every_block_its_route() -> None:
    network = small(scan=Scan("turns", planar.cross, "sum", "alternate"))
    layers = [module for module in network.modules() if isinstance(module, OmniScan)]
    firsts = [layer.scan.on((4, 4))[0].index_KL[:, :2].tolist() for layer in layers[:4]]
    assert firsts == [[[0, 1]], [[0, 4]], [[15, 14]], [[15, 11]]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variant": "mamber34"}, "variant 'mamber34' of VmambaIR. Did you mean 'mamber3"),
        ({"norm": "biasfre"}, "norm 'biasfre'.* 'biasfree'"),
        ({"depths": (1, 1)}, "VmambaIR has four levels"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)


def test_a_scan_over_volumes_or_coarser_grids_is_refused() -> None:
    for name in ("spatial_first", "multiscale"):
        with pytest.raises(UsageError, match="cannot be taken by a state space over pictures"):
            small(scan=scan_of(name)).eval()(torch.rand(1, 3, 16, 16))
