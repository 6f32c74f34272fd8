"""EAMamba: published size and cost, heads against single scans, published orders, other scans, named faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dehaze_bench.counting import count_macs
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.eamamba import EAMamba, SelectiveHeads
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.scans import Routes, Scan
from dehaze_bench.scans.diagonal import diagonal, diagonal_cross
from dehaze_bench.verify import check
from dehaze_bench.verify.families.eamamba import ORDERS, published_orders
from dehaze_bench.verify.fixture import load_fixture
from tests.models.backbones.building import count, learns
from tests.models.backbones.scanning import scan_of
from tests.models.restorers.building import restorer


def small(**arguments: Any) -> EAMamba:
    torch.manual_seed(0)
    return EAMamba(**{"dim": 8, "depths": (1, 1, 1, 1), "refinement": 1, "d_state": 2, **arguments})


def test_parameters_and_macs_are_the_published_ones() -> None:
    network = restorer("eamamba")
    assert count(network) == 25_320_512  # printed as 25.3 M
    assert count_macs(network, (128, 128)) / 1e9 == pytest.approx(34.18, rel=5e-3)  # scan included


@pytest.mark.parametrize("ffn", ["simple", "gdfn", "ffn"])
@pytest.mark.parametrize("heads", [True, False])
def test_every_parameter_learns(ffn: str, heads: bool) -> None:
    learns(small(ffn=ffn, heads=heads, gate=ffn != "ffn"), torch.rand(2, 3, 16, 24))


@pytest.mark.parametrize("size", [(16, 24), (24, 8)])
def test_the_residual_is_added_to_the_input(size: tuple[int, int]) -> None:
    network, image = small().eval(), torch.rand(1, 3, *size)
    assert network(image).shape == image.shape
    torch.nn.init.zeros_(dict(network.named_parameters())["output.weight"])
    torch.testing.assert_close(network(image), image)


def one_by_one(core: SelectiveHeads, u_BLD: Tensor, index_BKL: Tensor, first: int) -> Tensor:
    """What each head makes, by a scan of its own channels in its own order, picture by picture."""
    parts = []
    for k in range(index_BKL.shape[1]):
        number, width = first + k, core.width
        own_BLE = u_BLD[..., number * width : (number + 1) * width].contiguous()
        sizes = [core.dt_rank, core.d_state, core.d_state]
        dt, B, C = (own_BLE @ core.x_proj_weight[number].T).split(sizes, dim=-1)
        one = slice(number * width, (number + 1) * width)
        found = [
            selective_scan(
                own_BLE[b : b + 1],
                dt[b : b + 1] @ core.dt_projs_weight[number].T,
                -core.A_logs[one].exp(),
                B[b : b + 1],
                C[b : b + 1],
                D_D=core.Ds[one],
                delta_bias_D=core.dt_projs_bias[number],
                delta_softplus=True,
                order_L=index_BKL[b, k],
            )
            for b in range(u_BLD.shape[0])
        ]
        parts.append(torch.cat([y for y in found if isinstance(y, Tensor)]))
    return torch.cat(parts, dim=2)


def test_heads_are_scans_of_their_own_channels() -> None:
    torch.manual_seed(0)
    core, u_BLD = SelectiveHeads(width=24, num_routes=8, d_state=3, dt_rank=2), torch.randn(2, 12, 24)
    (routes,) = Scan("all around", diagonal_cross).on((3, 4))
    expected = one_by_one(core, u_BLD, routes.index_KL.expand(2, -1, -1), 0)
    torch.testing.assert_close(core(u_BLD, routes), expected)


def test_heads_follow_an_order_per_picture_and_leave_other_walks_their_channels() -> None:
    torch.manual_seed(0)
    core, u_BLD = SelectiveHeads(width=12, num_routes=4, d_state=3, dt_rank=2), torch.randn(2, 10, 12)
    index_BKL = torch.stack([torch.stack([torch.randperm(10) for _ in range(3)]) for _ in range(2)])
    routes = Routes((2, 5), index_BKL, index_BKL.argsort(dim=2), (1, 1))
    found = core(u_BLD, routes, "sum", 1)
    torch.testing.assert_close(found[..., 3:], one_by_one(core, u_BLD, index_BKL, 1))
    assert (found[..., :3] == 0).all()


def test_the_native_scan_is_the_published_one() -> None:
    for grid in ((4, 6), (5, 3)):
        np.testing.assert_array_equal(published_orders(grid, "diagonal", 8), diagonal_cross(grid))
        np.testing.assert_array_equal(published_orders(grid, "diagonal", 4), diagonal(grid))


@pytest.mark.parametrize("kind", [None, *ORDERS])
@pytest.mark.parametrize("grid", [(4, 6), (5, 3)])
def test_published_orders_are_one_order_turned_and_mirrored(kind: str | None, grid: tuple[int, int]) -> None:
    num_tokens = grid[0] * grid[1]
    found = published_orders(grid, kind, 4 if kind is None else 8)
    assert all(sorted(route) == list(range(num_tokens)) for route in found.tolist())
    np.testing.assert_array_equal(found[1], num_tokens - 1 - found[0])
    np.testing.assert_array_equal(found[3], num_tokens - 1 - found[2])
    if kind is not None:
        rows, columns = np.divmod(found[0], grid[1])
        np.testing.assert_array_equal(found[2], rows * grid[1] + grid[1] - 1 - columns)
        np.testing.assert_array_equal(found[4:], published_orders(grid, None, 4))


@pytest.mark.parametrize("grid", [(4, 6), (5, 3), (3, 4)])
def test_the_published_zigzag_turns_by_the_height(grid: tuple[int, int]) -> None:
    height, width = grid
    expected: list[int] = []
    for total in range(height + width - 1):
        rows = [i for i in range(height) if 0 <= total - i < width]
        upwards = (total - height) % 2 == 0
        expected += [i * width + total - i for i in (reversed(rows) if upwards else rows)]
    assert published_orders(grid, "zigzag", 1).tolist() == [expected]


@pytest.mark.parametrize("name", ["raster", "hilbert", "cross", "zigzag", "by_content", "mamba_nd", "stripes"])
def test_takes_other_scans_of_whole_routes(name: str) -> None:
    network = small(scan=scan_of(name)).eval()
    assert torch.isfinite(network(torch.rand(2, 3, 16, 24))).all()


def test_without_heads_takes_scans_of_every_kind() -> None:
    for name in ("multipath", "multipath_shuffle", "local", "atrous"):
        assert torch.isfinite(small(scan=scan_of(name), heads=False).eval()(torch.rand(1, 3, 16, 24))).all()


def test_the_number_of_heads_changes_neither_cost_nor_most_parameters() -> None:
    one, eight = count(small(scan=scan_of("raster"))), count(small())
    assert eight == one  # each head has the published rank, so its maps are as large as one head's


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ffn": "simpel"}, "ffn 'simpel' of EAMamba. Did you mean 'simple'"),
        ({"depths": (1, 1, 1)}, "EAMamba has four levels"),
        ({"scan": scan_of("multipath")}, "8 channels cannot be shared by 3 routes.* heads: false"),
        ({"dim": 6, "scan": scan_of("raster"), "ffn_expansion": 1.5}, "ffn_expansion=1.5 of 6 channels"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)


def test_a_scan_that_skips_tokens_is_refused_by_heads() -> None:
    with pytest.raises(UsageError, match=r"visit every token once.*heads: false"):
        small(scan=scan_of("atrous")).eval()(torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scan_type": "hilbert"}, "scan_type='hilbert'.* not supported"),
        ({"scan_type": None}, "scan_type=None, scan_count=8"),
        ({"scan_count": 3}, "scan_count=3"),
        ({"conv_2d": False}, "only conv_2d=true"),
        ({"surprise": 1}, "'surprise' is not understood"),
    ],
)
def test_a_mixer_that_is_not_understood_is_an_error(
    change: dict[str, Any], words: str, golden: Path, tmp_path: Path
) -> None:
    spec = json.loads((golden / "eamamba_small" / "spec.json").read_text(encoding="utf-8"))
    spec["build"]["mamba_cfg"].update(change)
    (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    (tmp_path / "out.npz").write_bytes((golden / "eamamba_small" / "out.npz").read_bytes())
    with pytest.raises(UsageError, match=words):
        check(load_fixture(tmp_path))
