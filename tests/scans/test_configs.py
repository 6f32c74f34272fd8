"""Every file of conf/scan becomes a scan that runs on grids of all kinds, merged and alternated as published."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import list_choices
from dehaze_bench.scans import MERGES, Scan, planar, skips

NAMES = sorted(set(list_choices("scan")) - {"native"})
PLANES = [(1, 1), (1, 9), (9, 1), (5, 7), (8, 6), (13, 16)]
BOXES = [(1, 1, 1), (2, 3, 4), (5, 4, 3), (1, 6, 5)]
# Axes of the grid, routes over space, merge rule, mode. A scan that is not listed here is not finished.
EXPECTED: dict[str, tuple[tuple[int, ...], int, str, str]] = {
    "atrous": ((2,), 4, "scatter", "parallel"),
    "bidirectional": ((2, 3), 2, "mean", "parallel"),
    "by_content": ((2, 3), 2, "mean", "parallel"),
    "columns": ((2,), 1, "mean", "parallel"),
    "continuous": ((2,), 4, "sum", "parallel"),
    "cross": ((2,), 4, "sum", "parallel"),
    "diagonal": ((2,), 4, "sum", "parallel"),
    "diagonal_continuous": ((2,), 4, "sum", "parallel"),
    "diagonal_cross": ((2,), 8, "concat", "parallel"),
    "hierarchical": ((3,), 3, "sum", "parallel"),
    "hilbert": ((2,), 2, "mean", "parallel"),
    "hilbert_3d": ((3,), 2, "mean", "parallel"),
    "hilbert_zigma": ((2,), 8, "sum", "alternate"),
    "local": ((2,), 4, "attention", "parallel"),
    "local_all": ((2,), 8, "attention", "parallel"),
    "local_cross": ((2,), 4, "attention", "parallel"),
    "mamba_nd": ((2,), 4, "sum", "alternate"),
    "mamba_nd_3d": ((3,), 6, "sum", "alternate"),
    "morton": ((2, 3), 2, "mean", "parallel"),
    "multipath": ((2, 3), 3, "gate", "parallel"),
    "multipath_shuffle": ((2, 3), 3, "gate", "parallel"),
    "multiscale": ((2,), 2, "sum", "parallel"),
    "omni": ((2,), 4, "sum", "parallel"),
    "random": ((2, 3), 1, "mean", "parallel"),
    "raster": ((2, 3), 1, "mean", "parallel"),
    "spatial_first": ((3,), 2, "sum", "parallel"),
    "spatiotemporal": ((3,), 4, "sum", "parallel"),
    "spiral": ((2,), 2, "mean", "parallel"),
    "stripes": ((2,), 4, "gate", "parallel"),
    "stripes_shifted": ((2,), 4, "gate", "parallel"),
    "temporal_first": ((3,), 2, "sum", "parallel"),
    "tri_orientation": ((3,), 3, "sum", "parallel"),
    "vivim": ((3,), 3, "mean", "parallel"),
    "zigma_video": ((3,), 12, "sum", "alternate"),
    "zigzag": ((2,), 8, "sum", "alternate"),
}


def make(name: str, *overrides: str) -> Scan:
    scan = build.scan(compose_run([f"scan={name}", *overrides]).cfg)
    assert scan is not None
    return scan


def test_every_file_is_listed() -> None:
    assert sorted(EXPECTED) == NAMES
    assert {merge for _, _, merge, _ in EXPECTED.values()} == set(MERGES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_becomes_a_scan(name: str) -> None:
    scan = make(name)
    assert scan.name == name
    assert (scan.axes, scan.num_routes, scan.merge, scan.mode) == EXPECTED[name]
    assert list_choices("scan")[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_on_grids_of_all_kinds(name: str) -> None:
    scan = make(name)
    for grid in [grid for grid in (*PLANES, *BOXES) if len(grid) in scan.axes]:
        x_BTD = torch.randn(2, math.prod(grid), 6)
        walks = scan.through(x_BTD, grid)
        assert sum(routes.num_routes for routes in walks) == scan.num_routes
        seen = np.zeros(math.prod(grid), bool)
        for routes in walks:
            tokens_BTD = x_BTD if not routes.is_coarse else torch.randn(2, routes.num_tokens, 6)
            back_BKTD = routes.scatter(routes.gather(tokens_BTD))
            visits_KT = routes.scatter(torch.ones(2, routes.num_routes, routes.index_KL.shape[-1], 1))
            torch.testing.assert_close(back_BKTD, tokens_BTD[:, None] * visits_KT)
            if not routes.is_coarse:
                seen |= (visits_KT > 0).any(dim=1)[0, :, 0].numpy()
        assert seen.all()


@pytest.mark.parametrize("name", [name for name in NAMES if EXPECTED[name][3] == "alternate"])
def test_scans_that_take_turns(name: str) -> None:
    scan = make(name)
    grid = (4, 4, 4)[: scan.axes[0]]
    (all_routes,) = scan.on(grid)
    for block in range(scan.num_routes + 2):
        (one,) = scan.for_block(block).on(grid)
        assert torch.equal(one.index_KL[0], all_routes.index_KL[block % scan.num_routes])


@pytest.mark.parametrize("name", [name for name in NAMES if EXPECTED[name][0] == (3,)])
def test_scans_of_volumes_refuse_pictures(name: str) -> None:
    with pytest.raises(UsageError, match=r"(three axes|3 axes).*\(4, 6\)"):
        make(name).on((4, 6))


def test_multiscale_walks_over_half_the_grid() -> None:
    full, half = make("multiscale").on((5, 7))
    assert full.index_KL.tolist() == planar.raster((5, 7)).tolist()
    assert half.grid == (3, 4)
    assert half.index_KL.tolist() == skips.three_passes((3, 4)).tolist()


def test_hierarchical_walks_over_fewer_frames() -> None:
    assert [routes.grid for routes in make("hierarchical").on((6, 3, 5))] == [(6, 3, 5), (3, 3, 5), (2, 3, 5)]


def test_omni_walks_over_channels_too() -> None:
    scan = make("omni")
    space, channels = scan.on((3, 4), channels=6)
    assert space.num_routes == 4
    assert channels.axis == "channel"
    assert channels.index_KL.tolist() == [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]


@pytest.mark.parametrize(
    ("name", "override", "routes"),
    [
        ("zigzag", "scan.order.routes=2", 2),
        ("hilbert", "scan.order.reverse=false", 1),
        ("hilbert", "scan.order.routes=8", 16),
        ("local", "scan.order.directions=[w7,w7_flip]", 2),
        ("diagonal", "scan.order.corners=[right]", 2),
        ("zigma_video", "scan.order.pattern=st", 16),
        ("by_content", "scan.order.reverse=false", 1),
    ],
)
def test_parameters_are_overrides(name: str, override: str, routes: int) -> None:
    assert make(name, override).num_routes == routes


def test_a_wrong_parameter_is_one_error() -> None:
    with pytest.raises(UsageError, match="Did you mean 'norm'"):
        make("by_content", "scan.order.score=norms")
    with pytest.raises(UsageError, match="unknown 'w'"):
        make("local", "scan.order.directions=[w]").on((4, 4))
