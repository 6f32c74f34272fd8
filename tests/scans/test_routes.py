"""Routes over any grid: each visits every token once, gather and scatter invert each other, faults are named."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import Routes, Scan, planar
from dehaze_bench.scans.scan import Order, invert

ORDERS: dict[str, Order] = {
    "raster": planar.raster,
    "bidirectional": planar.bidirectional,
    "cross": planar.cross,
    "random": partial(planar.random, routes=3, seed=5),
}
GRIDS = st.tuples(st.integers(1, 24), st.integers(1, 24))


@pytest.mark.parametrize("name", ORDERS)
@settings(max_examples=40, deadline=None)
@given(grid=GRIDS)
def test_every_route_visits_every_token_once(name: str, grid: tuple[int, int]) -> None:
    routes = Scan(name, ORDERS[name]).on(grid)
    tokens = grid[0] * grid[1]
    for route_L, inverse_T in zip(routes.index_KL.numpy(), routes.inverse_KT.numpy(), strict=True):
        assert np.array_equal(np.sort(route_L), np.arange(tokens))
        assert np.array_equal(route_L[inverse_T], np.arange(tokens))
    assert routes.is_permutation
    assert routes.scale == (1,) * routes.num_routes
    assert set(routes.axis) == {"space"}


@pytest.mark.parametrize("name", ORDERS)
@settings(max_examples=25, deadline=None)
@given(grid=GRIDS)
def test_scatter_undoes_gather(name: str, grid: tuple[int, int]) -> None:
    routes = Scan(name, ORDERS[name]).on(grid)
    x_BTD = torch.randn(2, grid[0] * grid[1], 3)
    gathered = routes.gather(x_BTD)
    for k, route_L in enumerate(routes.index_KL):
        assert torch.equal(gathered[:, k], x_BTD[:, route_L])
    back = routes.scatter(gathered)
    assert torch.equal(back, x_BTD[:, None].expand_as(back))


@pytest.mark.parametrize("grid", [(1, 1), (1, 700), (700, 1), (513, 520), (155, 115)])
@pytest.mark.parametrize("name", ORDERS)
def test_long_and_large_grids(name: str, grid: tuple[int, int]) -> None:
    routes = Scan(name, ORDERS[name]).on(grid)
    tokens = torch.arange(grid[0] * grid[1])
    for route_L in routes.index_KL:
        assert torch.equal(route_L.sort().values, tokens)


@pytest.mark.parametrize("name", ["raster", "bidirectional", "random"])
def test_orders_without_columns_take_boxes(name: str) -> None:
    assert Scan(name, ORDERS[name]).on((2, 3, 4)).inverse_KT.shape[1] == 24


def test_cross_wants_a_plane() -> None:
    with pytest.raises(UsageError, match=r"'cross'.*two axes.*\(2, 3, 4\)"):
        Scan("cross", planar.cross).on((2, 3, 4))


@pytest.mark.parametrize("grid", [(0, 4), (4, -1), ()])
def test_a_grid_has_positive_sizes(grid: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="positive"):
        Scan("raster", planar.raster).on(grid)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("vmamba_cross_4x6", planar.cross),
        ("vmamba_unidirectional_4x6", partial(planar.raster, copies=4)),
        ("vmamba_bidirectional_4x6", partial(planar.bidirectional, copies=2)),
    ],
)
def test_orders_are_the_published_ones(golden: Path, name: str, order: Order) -> None:
    fixture = json.loads((golden / "scans" / f"{name}.json").read_text(encoding="utf-8"))
    assert order(tuple(fixture["grid"])).tolist() == fixture["routes"]


def test_vim_goes_there_and_back(golden: Path) -> None:
    fixture = json.loads((golden / "scans" / "vim_bidirectional_4x6.json").read_text(encoding="utf-8"))
    image = [[token for token in route if token >= 0] for route in fixture["routes"]]
    assert planar.bidirectional((4, 6)).tolist() == image


def test_random_is_fixed_by_seed_and_grid() -> None:
    one = planar.random((6, 7), routes=2, seed=1)
    assert np.array_equal(one, planar.random((6, 7), routes=2, seed=1))
    assert not np.array_equal(one, planar.random((6, 7), routes=2, seed=2))
    assert not np.array_equal(one, planar.random((7, 6), routes=2, seed=1))
    assert not np.array_equal(one[0], one[1])


def test_routes_are_built_once_per_grid_and_device() -> None:
    calls = []

    def order(grid: tuple[int, ...]) -> np.ndarray:
        calls.append(grid)
        return planar.raster(grid)

    scan = Scan("counted", order)
    first = scan.on((3, 4))
    assert scan.on((3, 4)) is first
    assert scan.on((4, 3)) is not first
    assert calls == [(3, 4), (4, 3)]
    assert scan.on((3, 4), "meta").index_KL.device.type == "meta"
    assert first.index_KL.device.type == "cpu"


def padded() -> Routes:
    """Two routes over 2 x 2 tokens: one skips token 3 and pads, the other visits all and pads at the end."""
    return Scan("padded", lambda grid: np.array([[2, -1, 0, 1, -1], [3, 2, 1, 0, -1]])).on((2, 2))


def test_padding_reads_zeros_and_writes_nothing() -> None:
    routes = padded()
    assert not routes.is_permutation
    x_BTD = torch.arange(1.0, 5).view(1, 4, 1)
    gathered = routes.gather(x_BTD)
    assert gathered[0, :, :, 0].tolist() == [[3, 0, 1, 2, 0], [4, 3, 2, 1, 0]]
    gathered[:, 0, 1], gathered[:, 0, 4] = 99, 98  # what a mixer leaves at padding steps
    assert routes.scatter(gathered)[0, :, :, 0].tolist() == [[1, 2, 3, 0], [1, 2, 3, 4]]


def test_padding_stays_out_of_gradients() -> None:
    routes = padded()
    x_BTD = torch.ones(1, 4, 1, requires_grad=True)
    routes.scatter(routes.gather(x_BTD)).sum().backward()
    assert x_BTD.grad is not None
    assert x_BTD.grad.flatten().tolist() == [2, 2, 2, 1]


def test_routes_cover_the_grid_together() -> None:
    halves = Scan("halves", lambda grid: np.array([[0, 1], [2, 3]])).on((2, 2))
    assert halves.inverse_KT.tolist() == [[0, 1, -1, -1], [-1, -1, 0, 1]]
    with pytest.raises(UsageError, match=r"'gap'.*token 3"):
        Scan("gap", lambda grid: np.array([[0, 1, 2, -1]])).on((2, 2))


@pytest.mark.parametrize("ids", [[[0, 1, 2, 4]], [[0, 1, 2, -2]], [0, 1, 2, 3]])
def test_ids_that_do_not_fit_are_refused(ids: list[object]) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        Scan("wrong", lambda grid: np.array(ids)).on((2, 2))


def test_merge_rules() -> None:
    y_BKTD = torch.randn(2, 3, 5, 4)
    assert torch.allclose(Scan("a", planar.raster, "sum").combine(y_BKTD), y_BKTD.sum(1))
    assert torch.allclose(Scan("a", planar.raster, "mean").combine(y_BKTD), y_BKTD.mean(1))
    joined = Scan("a", planar.raster, "concat").combine(y_BKTD)
    assert joined.shape == (2, 5, 12)
    assert torch.equal(joined[..., 4:8], y_BKTD[:, 1])
    with pytest.raises(UsageError, match="'mean'"):
        Scan("a", planar.raster, "meann")


@given(st.permutations(range(9)))
def test_invert(order: list[int]) -> None:
    inverse = invert(np.array([order]), 9)[0]
    assert [order[step] for step in inverse] == list(range(9))
