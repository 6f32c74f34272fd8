"""VMamba: published parameter counts, sizes, other scans, the m2 core against single scans, gradients, named faults."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.vmamba import CROSS, DualRoutes, VMamba
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.scans import Scan, planar
from dehaze_bench.weights.maps.vmamba import map_vmamba
from tests.models.backbones.building import backbone, count, learns
from tests.models.backbones.scanning import scan_of

PUBLISHED = {
    "vmamba_t_v0": 22_893_448,
    "vmamba_s_v0": 44_417_416,
    "vmamba_b_v0": 76_254_056,
    "vmamba_t_s2l5": 30_705_832,
    "vmamba_s_s2l15": 50_147_752,
    "vmamba_b_s2l15": 88_557_800,
    "vmamba_t_s1l8": 30_249_064,
    "vmamba_s_s1l20": 49_012_840,
    "vmamba_b_s1l20": 86_614_504,
    "vmamba_t_m2": 25_340_296,
    "vmamba_s_m2": 39_079_816,
    "vmamba_b_m2": 67_527_528,
}
LATER: dict[str, Any] = {"gate": False, "conv_bias": False, "ffn_ratio": 2.0, "stem": "conv", "down": "conv3"}
RELEASES: dict[str, dict[str, Any]] = {
    "v0": {"d_state": 3},
    "v05": {"d_state": 1, **LATER},
    "m2": {"d_state": 4, "core": "ssd", "act": "gelu", "ratio": 1.0, "dt_rank": 2, **LATER},
}


def small(release: str = "v0", **arguments: Any) -> VMamba:
    torch.manual_seed(0)
    return VMamba(**{"depths": (1, 1), "dims": 8, "num_classes": 3, **RELEASES[release], **arguments})


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("size", [(32, 32), (16, 40), (21, 38)])
def test_features_have_the_stated_widths_and_strides(release: str, size: tuple[int, int]) -> None:
    network = small(release).eval()
    maps = network.features(torch.rand(2, 3, *size))
    cut = release == "v0"  # its stem leaves out what is no multiple of 4
    finest = [n // 4 if cut else -(-n // 4) for n in size]
    assert network.widths == (8, 16) and network.strides == (4, 8)
    assert [tuple(x.shape) for x in maps] == [(2, 8, *finest), (2, 16, *(-(-n // 2) for n in finest))]
    assert network(torch.rand(2, 3, *size)).shape == (2, 3)
    assert small(release, num_classes=0)(torch.rand(2, 3, *size)).shape == (2, 16)


@pytest.mark.parametrize("release", RELEASES)
def test_every_parameter_learns(release: str) -> None:
    learns(small(release), torch.rand(2, 3, 16, 24))


@pytest.mark.parametrize("down", ["merge", "conv2", "conv3"])
def test_widths_may_be_listed(down: str) -> None:
    network = small(depths=(1, 1, 1), dims=[4, 6, 10], down=down)
    assert [x.shape[1] for x in network.features(torch.rand(1, 3, 32, 32))] == [4, 6, 10]


@pytest.mark.parametrize(
    "name",
    ["raster", "hilbert", "local", "atrous", "multipath", "multipath_shuffle", "by_content", "mamba_nd"],
)
@pytest.mark.parametrize("release", ["v05", "m2"])
def test_takes_scans_of_every_kind(name: str, release: str) -> None:
    learns(small(release, scan=scan_of(name)), torch.rand(2, 3, 20, 24))


def test_parameter_sets_follow_the_routes() -> None:
    per_route = (1 + 2 * 3) * 16 + 16 + 16 + 3 * 16 + 16  # x_proj, dt_proj with bias, A, D of the first stage
    per_route += (1 + 2 * 3) * 32 + 32 + 32 + 3 * 32 + 32
    assert count(small()) - count(small(scan=scan_of("raster"))) == 3 * per_route


def test_an_alternating_scan_gives_every_block_its_route() -> None:
    network = small(scan=Scan("turns", planar.cross, "sum", "alternate"))
    routes = [stage.blocks[0].op.scan.on((4, 4))[0].index_KL.tolist() for stage in network.layers]
    assert [len(route) for route in routes] == [1, 1]
    assert [route[0][:2] for route in routes] == [[0, 1], [0, 4]]


def test_a_given_cross_scan_is_the_native_one() -> None:
    image = torch.rand(1, 3, 32, 24)
    given = Scan("mine", partial(planar.cross), "sum")
    torch.testing.assert_close(small(scan=given).eval()(image), small().eval()(image))


def test_dual_routes_are_selective_scans_with_a_decay_per_head() -> None:
    torch.manual_seed(0)
    core = DualRoutes(width=6, num_routes=4, d_state=5, dt_rank=2)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    u_BLD = torch.randn(2, 12, 6)
    (routes,) = CROSS.on((3, 4))
    expected = torch.zeros_like(u_BLD)
    for k in range(4):
        dt, B, C = (u_BLD @ core.x_proj_weight[k].T).split([2, 5, 5], dim=-1)
        y = selective_scan(
            u_BLD,
            dt.repeat_interleave(3, dim=2),
            -core.A_logs[k].exp().repeat_interleave(3)[:, None].expand(6, 5),
            B,
            C,
            D_D=core.Ds[k].flatten(),
            delta_bias_D=core.dt_projs_bias[k].repeat_interleave(3),
            delta_softplus=True,
            order_L=routes.index_KL[k],
        )
        assert isinstance(y, Tensor)
        expected = expected + y
    torch.testing.assert_close(core(u_BLD, routes), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(core(u_BLD, routes, "none").sum(2), expected, atol=1e-5, rtol=1e-5)


def test_old_names_and_1x1_convolutions_are_understood() -> None:
    old = {
        "module.patch_embed.proj.weight": (8, 3, 4, 4),
        "module.layers.0.blocks.0.ln_1.weight": (8,),
        "module.layers.0.blocks.0.self_attention.A_logs": (64, 3),
        "module.layers.0.blocks.0.self_attention.in_proj.weight": (32, 8, 1, 1),
        "module.layers.0.blocks.0.mlp.fc1.weight": (16, 8, 1, 1),
        "module.norm.weight": (16,),
        "module.head.weight": (3, 16),
    }
    found = map_vmamba({name: torch.zeros(shape) for name, shape in old.items()})
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "patch_embed.0.weight": (8, 3, 4, 4),
        "layers.0.blocks.0.norm.weight": (8,),
        "layers.0.blocks.0.op.core.A_logs": (64, 3),
        "layers.0.blocks.0.op.in_proj.weight": (32, 8),
        "layers.0.blocks.0.ffn.fc1.weight": (16, 8),
        "classifier.norm.weight": (16,),
        "classifier.head.weight": (3, 16),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"stem": "conf"}, "stem 'conf'. Did you mean 'conv'"),
        ({"core": "s4"}, "core 's4'"),
        ({"act": "swish"}, "act 'swish'"),
        ({"dims": [8, 16, 32]}, "width for every stage"),
        ({"conv": 4}, "odd convolution"),
        ({"core": "ssd", "dt_rank": 5}, "dt_rank=5"),
        ({"scan": scan_of("omni")}, "'omni' .* walks over channels"),
        ({"scan": scan_of("multiscale")}, "'multiscale' .* stride 2"),
        ({"scan": scan_of("hierarchical")}, "'hierarchical' .* volume"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)
