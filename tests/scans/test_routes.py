"""Routes of a scan: gather and scatter fit each other; coarser grids, channels, turns, caching, faults."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import Grid, Order, Routes, Scan, Walk, curves, hilbert, planar, skips, volume, windows
from dehaze_bench.scans.grid import invert

ORDERS: dict[str, Order] = {
    "raster": planar.raster,
    "cross": planar.cross,
    "random": partial(planar.random, routes=3, seed=5),
    "hilbert": partial(hilbert.hilbert, routes=2),
}
PADDED: dict[str, Order] = {
    "windows": partial(windows.local, directions=["w2", "h", "w3_flip"]),
    "atrous": skips.atrous,
    "three_passes": skips.three_passes,
}
GRIDS = st.tuples(st.integers(1, 20), st.integers(1, 20))


def only(scan: Scan, grid: Grid, device: str = "cpu") -> Routes:
    (routes,) = scan.on(grid, device)
    return routes


@pytest.mark.parametrize("name", ORDERS)
@settings(max_examples=20, deadline=None)
@given(grid=GRIDS)
def test_scatter_undoes_gather(name: str, grid: tuple[int, int]) -> None:
    routes = only(Scan(name, ORDERS[name]), grid)
    assert routes.is_permutation
    assert (routes.strides, routes.axis, routes.repeats) == ((1, 1), "space", False)
    x_BTD = torch.randn(2, grid[0] * grid[1], 3)
    gathered = routes.gather(x_BTD)
    for k, route_L in enumerate(routes.index_KL):
        assert torch.equal(gathered[:, k], x_BTD[:, route_L])
        assert torch.equal(route_L[routes.inverse_KT[k]], torch.arange(x_BTD.shape[1]))
    back = routes.scatter(gathered)
    assert torch.equal(back, x_BTD[:, None].expand_as(back))


@pytest.mark.parametrize("name", PADDED)
@settings(max_examples=20, deadline=None)
@given(grid=GRIDS)
def test_scatter_counts_the_visits_of_gather(name: str, grid: tuple[int, int]) -> None:
    """Where routes pad, skip or repeat, a token comes back as often as it is visited."""
    scan = Scan(name, PADDED[name])
    routes = only(scan, grid)
    x_BTD = torch.randn(2, grid[0] * grid[1], 3)
    ids_KL = PADDED[name](grid)
    gathered = routes.gather(x_BTD)
    assert torch.equal(gathered == 0, torch.from_numpy(ids_KL < 0)[None, :, :, None].expand_as(gathered))
    visits_KT = torch.stack([torch.bincount(route[route >= 0], minlength=x_BTD.shape[1]) for route in routes.index_KL])
    torch.testing.assert_close(routes.scatter(gathered), x_BTD[:, None] * visits_KT[None, :, :, None])
    assert routes.repeats == bool((visits_KT > 1).any())
    assert routes.is_permutation == bool((visits_KT == 1).all() and (ids_KL >= 0).all())


@pytest.mark.parametrize("grid", [(0, 4), (4, -1), ()])
def test_a_grid_has_positive_sizes(grid: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="positive"):
        Scan("raster", planar.raster).on(grid)


def test_cross_wants_a_plane() -> None:
    with pytest.raises(UsageError, match=r"'cross'.*two axes.*\(2, 3, 4\)"):
        Scan("cross", planar.cross).on((2, 3, 4))
    assert Scan("cross", planar.cross).axes == (2,)
    assert Scan("bidirectional", planar.bidirectional).axes == (2, 3)
    assert Scan("spatial_first", volume.spatial_first).axes == (3,)


def test_routes_are_built_once_per_grid_and_device() -> None:
    calls = []

    def order(grid: tuple[int, ...]) -> np.ndarray:
        calls.append(grid)
        return planar.raster(grid)

    scan = Scan("counted", order)
    first = only(scan, (3, 4))
    assert only(scan, (3, 4)) is first
    assert only(scan, (4, 3)) is not first
    assert calls == [(3, 4), (4, 3)]
    assert only(scan, (3, 4), "meta").index_KL.device.type == "meta"
    assert first.index_KL.device.type == "cpu"
    assert calls == [(3, 4), (4, 3)]


def test_a_walk_over_a_coarser_grid() -> None:
    scan = Scan("two", [Walk(planar.raster), Walk(skips.three_passes, scale=2)])
    full, half = scan.on((5, 7))
    assert (full.grid, full.strides, full.is_coarse) == ((5, 7), (1, 1), False)
    assert (half.grid, half.strides, half.is_coarse, half.repeats) == ((3, 4), (2, 2), True, True)
    assert half.num_tokens == 12
    assert half.index_KL.shape == (1, 36)
    assert half.inverse_KT.shape == (1, 12)
    assert scan.num_routes == 2


def test_scales_per_axis() -> None:
    by_time = partial(volume.temporal_first, reverse=False)
    scan = Scan("hierarchy", [Walk(by_time), Walk(by_time, scale=[4, 1, 1])])  # type: ignore[arg-type]
    coarse = scan.on((6, 3, 2))[1]
    assert (coarse.grid, coarse.strides) == ((2, 3, 2), (4, 1, 1))
    assert scan.axes == (3,)
    with pytest.raises(UsageError, match=r"needs a grid of 3 axes, not \(4, 4\)"):
        scan.walks[1].coarse((4, 4))


def test_channels_are_walked_where_their_number_is_known() -> None:
    scan = Scan("omni", [Walk(planar.cross), Walk(planar.bidirectional, axis="channel")])
    assert [routes.axis for routes in scan.on((3, 4))] == ["space"]
    channels = scan.on((3, 4), channels=5)[1]
    assert channels.axis == "channel"
    assert channels.index_KL.tolist() == [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]
    assert scan.num_routes == 4


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_blocks_take_turns(grid: tuple[int, int]) -> None:
    scan = Scan("zigzag", curves.zigzag, mode="alternate")
    ids_KL = curves.zigzag(grid)
    assert scan.num_routes == 8
    for block in range(20):
        routes = only(scan.for_block(block), grid)
        assert routes.index_KL.tolist() == [ids_KL[block % 8].tolist()]
    assert scan.for_block(3) is scan.for_block(11)
    parallel = Scan("zigzag", curves.zigzag)
    assert parallel.for_block(5) is parallel


def test_turns_go_on_from_walk_to_walk() -> None:
    scan = Scan("two", [Walk(planar.bidirectional), Walk(planar.columns)], mode="alternate")
    routes = [only(scan.for_block(block), (2, 3)).index_KL[0].tolist() for block in range(4)]
    assert routes == [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 3, 1, 4, 2, 5], [0, 1, 2, 3, 4, 5]]


def padded() -> Routes:
    """Two routes over 2 x 2 tokens: one skips token 3 and pads, the other visits all and pads at the end."""
    return only(Scan("padded", lambda grid: np.array([[2, -1, 0, 1, -1], [3, 2, 1, 0, -1]])), (2, 2))


def test_padding_reads_zeros_and_writes_nothing() -> None:
    routes = padded()
    assert not routes.is_permutation
    x_BTD = torch.arange(1.0, 5).view(1, 4, 1)
    gathered = routes.gather(x_BTD)
    assert gathered[0, :, :, 0].tolist() == [[3, 0, 1, 2, 0], [4, 3, 2, 1, 0]]
    gathered[:, 0, 1], gathered[:, 0, 4] = 99, 98  # what a mixer leaves at padding steps
    assert routes.scatter(gathered)[0, :, :, 0].tolist() == [[1, 2, 3, 0], [1, 2, 3, 4]]


def test_padding_stays_out_of_repeated_visits() -> None:
    routes = only(Scan("again", lambda grid: np.array([[0, 1, -1, 0, 1]])), (1, 2))
    y_BKLD = torch.tensor([1.0, 2, 99, 3, 4]).view(1, 1, 5, 1)
    assert routes.repeats
    assert routes.scatter(y_BKLD).flatten().tolist() == [4, 6]


def test_padding_stays_out_of_gradients() -> None:
    routes = padded()
    x_BTD = torch.ones(1, 4, 1, requires_grad=True)
    routes.scatter(routes.gather(x_BTD)).sum().backward()
    assert x_BTD.grad is not None
    assert x_BTD.grad.flatten().tolist() == [2, 2, 2, 1]


def test_routes_cover_the_grid_together() -> None:
    halves = only(Scan("halves", lambda grid: np.array([[0, 1], [2, 3]])), (2, 2))
    assert halves.inverse_KT.tolist() == [[0, 1, -1, -1], [-1, -1, 0, 1]]
    with pytest.raises(UsageError, match=r"'gap'.*token 3"):
        Scan("gap", lambda grid: np.array([[0, 1, 2, -1]])).on((2, 2))


def test_scatter_wants_each_token_on_one_route() -> None:
    with pytest.raises(UsageError, match=r"'cross' merges by scatter but visits token 0 .* 4 times.*merge: sum"):
        Scan("cross", planar.cross, merge="scatter").on((3, 3))
    assert Scan("atrous", skips.atrous, merge="scatter").on((3, 3))


@pytest.mark.parametrize("ids", [[[0, 1, 2, 4]], [[0, 1, 2, -2]], [0, 1, 2, 3]])
def test_ids_that_do_not_fit_are_refused(ids: list[object]) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        Scan("wrong", lambda grid: np.array(ids)).on((2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scan("a", planar.raster, "meann"), "Did you mean 'mean'"),
        (lambda: Scan("a", planar.raster, mode="alternating"), "Did you mean 'alternate'"),
        (lambda: Walk(planar.raster, axis="channels"), "'space' or 'channel', not 'channels'"),
        (lambda: Walk(planar.raster, scale=0), "at least 1, not 0"),
    ],
)
def test_unknown_rules_are_named(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


@given(st.permutations(range(9)))
def test_invert(order: list[int]) -> None:
    inverse = invert(np.array([order]), 9)[0]
    assert [order[step] for step in inverse] == list(range(9))


def test_invert_of_skips_and_repeats() -> None:
    assert invert(np.array([[2, -1, 0, 2]]), 4).tolist() == [[2, -1, 3, -1]]
