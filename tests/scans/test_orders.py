"""Every order over many grids: it visits what it claims, equals its slow twin, and steps where it says it does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import curves, diagonal, hilbert, planar, skips, volume, windows
from dehaze_bench.scans.grid import Grid, Order, check_ids, invert
from tests.scans import slow

# Orders of which every route visits every token once.
PLANES: dict[str, Order] = {
    "raster": planar.raster,
    "columns": planar.columns,
    "bidirectional": planar.bidirectional,
    "cross": planar.cross,
    "mamba_nd": planar.mamba_nd,
    "random": partial(planar.random, routes=3, seed=5),
    "multipath": planar.multipath,
    "continuous": curves.continuous,
    "zigzag": curves.zigzag,
    "spiral": partial(curves.spiral, reverse=True),
    "morton": partial(curves.morton, reverse=True),
    "stripes": curves.stripes,
    "stripes_shifted": partial(curves.stripes, width=3, shift=2),
    "diagonal": diagonal.diagonal,
    "diagonal_continuous": partial(diagonal.diagonal, continuous=True),
    "diagonal_cross": diagonal.diagonal_cross,
    "hilbert": partial(hilbert.hilbert, routes=8, reverse=True),
    "hilbert_zigma": hilbert.hilbert_zigma,
    "local_lines": partial(windows.local, directions=["h", "h_flip", "v", "v_flip"]),
}
BOXES: dict[str, Order] = {
    "raster": planar.raster,
    "bidirectional": planar.bidirectional,
    "random": partial(planar.random, routes=3, seed=5),
    "multipath": planar.multipath,
    "morton": curves.morton,
    "hilbert_3d": hilbert.hilbert_3d,
    "spatial_first": volume.spatial_first,
    "temporal_first": volume.temporal_first,
    "spatiotemporal": volume.spatiotemporal,
    "tri_orientation": volume.tri_orientation,
    "mamba_nd": volume.mamba_nd,
    "zigma_video": volume.zigma_video,
    "nnmamba": volume.nnmamba,
}
ALL = [pytest.param(order, 2, id=f"{name}-2d") for name, order in PLANES.items()]
ALL += [pytest.param(order, 3, id=f"{name}-3d") for name, order in BOXES.items()]
LARGE = [(1, 1), (1, 700), (700, 1), (513, 520), (155, 115), (97, 31)]
GRIDS = st.tuples(st.integers(1, 20), st.integers(1, 20))
VOLUMES = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))


def steps(route_L: np.ndarray, grid: Grid) -> np.ndarray:
    """Return (axes, L - 1): how far each step goes along each axis."""
    return np.abs(np.diff(np.stack(np.unravel_index(route_L, grid)), axis=1))


def assert_visits_all_once(ids_KL: np.ndarray, grid: Grid) -> None:
    tokens = math.prod(grid)
    ids_KL = check_ids("x", ids_KL, grid)
    assert np.array_equal(np.sort(ids_KL, axis=1), np.broadcast_to(np.arange(tokens), ids_KL.shape))
    for route_L, inverse_T in zip(ids_KL, invert(ids_KL, tokens), strict=True):
        assert np.array_equal(route_L[inverse_T], np.arange(tokens))


@pytest.mark.parametrize(("order", "axes"), ALL)
@settings(max_examples=20, deadline=None)
@given(plane=GRIDS, box=VOLUMES)
def test_every_route_visits_every_token_once(order: Order, axes: int, plane: Grid, box: Grid) -> None:
    grid = plane if axes == 2 else box
    assert_visits_all_once(order(grid), grid)


@pytest.mark.parametrize("grid", LARGE)
@pytest.mark.parametrize("name", PLANES)
def test_long_and_large_planes(name: str, grid: Grid) -> None:
    ids_KL = PLANES[name](grid)
    counts = np.stack([np.bincount(route_L, minlength=math.prod(grid)) for route_L in ids_KL])
    assert counts.shape[1] == math.prod(grid)
    assert (counts == 1).all()


@pytest.mark.parametrize("name", sorted(set(PLANES) - {"raster", "bidirectional", "random", "multipath", "morton"}))
def test_orders_of_planes_refuse_volumes(name: str) -> None:
    with pytest.raises(UsageError, match=r"two axes \(rows, columns\), not \(2, 3, 4\)"):
        PLANES[name]((2, 3, 4))


@pytest.mark.parametrize("name", sorted(set(BOXES) - {"raster", "bidirectional", "random", "multipath", "morton"}))
def test_orders_of_volumes_refuse_planes(name: str) -> None:
    with pytest.raises(UsageError, match=r"three axes \(frames, rows, columns\), not \(3, 4\)"):
        BOXES[name]((3, 4))


# Continuity.

NEIGHBOURS: dict[str, Order] = {
    "continuous": curves.continuous,
    "zigzag": curves.zigzag,
    "spiral": partial(curves.spiral, reverse=True),
    "hilbert": partial(hilbert.hilbert, routes=8, reverse=True),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
@settings(max_examples=60, deadline=None)
@given(grid=GRIDS)
def test_continuous_curves_step_to_neighbours(name: str, grid: Grid) -> None:
    for route_L in NEIGHBOURS[name](grid):
        assert (steps(route_L, grid).sum(0) == 1).all()


@pytest.mark.parametrize("grid", [*LARGE, (620, 460), (459, 620), (620, 459)])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_large_continuous_curves_step_to_neighbours(name: str, grid: Grid) -> None:
    for route_L in NEIGHBOURS[name](grid)[:3]:
        assert (steps(route_L, grid).sum(0) == 1).all()


@settings(max_examples=80, deadline=None)
@given(box=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)))
def test_the_curve_through_a_volume_steps_to_neighbours(box: Grid) -> None:
    for route_L in hilbert.hilbert_3d(box):
        assert (steps(route_L, box).sum(0) == 1).all()


@settings(max_examples=40, deadline=None)
@given(grid=GRIDS)
def test_continuous_diagonals_step_to_one_of_eight_neighbours(grid: Grid) -> None:
    for route_L in diagonal.diagonal(grid, continuous=True):
        assert (steps(route_L, grid).max(0, initial=1) == 1).all()


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, width=st.integers(1, 9), shift=st.integers(0, 9))
def test_stripes_step_to_neighbours_but_between_stripes_of_even_length(grid: Grid, width: int, shift: int) -> None:
    for k, route_L in enumerate(curves.stripes(grid, width, shift)):
        length, across = grid if k < 2 else grid[::-1]
        far = steps(route_L, grid).sum(0) > 1
        lead = shift or width
        num_seams = 0 if across <= lead else -(-(across - lead) // width)
        assert far.sum() <= num_seams
        if length % 2 == 1:
            assert not far.any()
        assert steps(route_L, grid).sum(0).max(initial=1) <= max(width, lead)


# Slow twins.


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS)
def test_snakes_and_spirals_against_slow_twins(grid: slow.Plane) -> None:
    rows, cols = slow.rows_of(grid), slow.columns_of(grid)
    along_rows, along_cols = slow.snake(rows), slow.snake(cols)
    assert curves.continuous(grid).tolist() == [along_rows, along_rows[::-1], along_cols, along_cols[::-1]]
    zigzag = curves.zigzag(grid).tolist()
    assert zigzag[:2] == [along_rows, along_cols]
    assert zigzag[2] == slow.snake([row[::-1] for row in rows])
    assert zigzag[3] == slow.snake(cols[::-1])
    assert zigzag[4] == slow.snake(rows[::-1])
    assert zigzag[5] == slow.snake([col[::-1] for col in cols])
    assert zigzag[6] == slow.snake([row[::-1] for row in rows[::-1]])
    assert zigzag[7] == slow.snake([col[::-1] for col in cols[::-1]])
    assert [route.tolist() for route in curves.zigzag(grid, routes=3)] == zigzag[:3]
    spiral = slow.spiral(grid)
    assert curves.spiral(grid, reverse=True).tolist() == [spiral, spiral[::-1]]


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, box=VOLUMES)
def test_morton_against_a_slow_twin(grid: Grid, box: Grid) -> None:
    assert curves.morton(grid)[0].tolist() == slow.morton(grid)
    assert curves.morton(box)[0].tolist() == slow.morton(box)


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, continuous=st.booleans())
def test_diagonals_against_a_slow_twin(grid: slow.Plane, continuous: bool) -> None:
    left = slow.diagonal(slow.rows_of(grid), continuous)
    right = slow.diagonal([row[::-1] for row in slow.rows_of(grid)], continuous)
    ids_KL = diagonal.diagonal(grid, continuous=continuous)
    assert ids_KL.tolist() == [left, left[::-1], right, right[::-1]]
    assert diagonal.diagonal(grid, ["right"], reverse=False, continuous=continuous).tolist() == [right]


def test_diagonal_cross_is_diagonals_then_rows_then_columns() -> None:
    ids_KL = diagonal.diagonal_cross((3, 4))
    assert np.array_equal(ids_KL[:4], diagonal.diagonal((3, 4)))
    assert np.array_equal(ids_KL[4:], planar.mamba_nd((3, 4)))


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, width=st.integers(1, 9), shift=st.integers(0, 9))
def test_stripes_against_a_slow_twin(grid: slow.Plane, width: int, shift: int) -> None:
    rows, cols = slow.rows_of(grid), slow.columns_of(grid)
    views = [rows, [row[::-1] for row in rows[::-1]], cols, [col[::-1] for col in cols[::-1]]]
    assert curves.stripes(grid, width, shift).tolist() == [slow.stripes(view, width, shift) for view in views]


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, size=st.integers(1, 8))
def test_windows_against_a_slow_twin(grid: slow.Plane, size: int) -> None:
    route = slow.windows(grid, size)
    ids_KL = windows.local(grid, [f"w{size}", f"w{size}_flip", "v"])
    assert ids_KL[:2].tolist() == [route, route[::-1]]
    column = [token for line in slow.columns_of(grid) for token in line]
    assert ids_KL[2].tolist() == column + [-1] * (len(route) - len(column))


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, step=st.integers(1, 5))
def test_skips_against_a_slow_twin(grid: slow.Plane, step: int) -> None:
    ids_KL = skips.atrous(grid, step)
    assert ids_KL.tolist() == slow.atrous(grid, step)
    seen = ids_KL[ids_KL >= 0]
    assert np.array_equal(np.sort(seen), np.arange(math.prod(grid)))


@pytest.mark.parametrize("order", range(7))
def test_hilberts_own_curve_on_powers_of_two(order: int) -> None:
    side = 2**order
    ids_KL = hilbert.hilbert((side, side), routes=2)
    assert ids_KL[1].tolist() == slow.hilbert(order)
    assert ids_KL[0].tolist() == [token % side * side + token // side for token in slow.hilbert(order)]


@pytest.mark.parametrize("grid", [(4, 4), (5, 5), (3, 7), (8, 5), (1, 6)])
def test_the_eight_orientations(grid: Grid) -> None:
    """The ranks turn as a picture does: that of the base curve on the grid, or on the grid with its sides swapped."""
    ranks_KHW = invert(hilbert.hilbert(grid, routes=8), math.prod(grid)).reshape(8, *grid)
    swapped_WH = invert(hilbert.hilbert(grid[::-1]), math.prod(grid)).reshape(grid[::-1])
    for quarter in range(4):
        plain, transposed = (swapped_WH, ranks_KHW[0]) if quarter % 2 else (ranks_KHW[0], swapped_WH)
        assert np.array_equal(ranks_KHW[2 * quarter], np.rot90(plain, quarter))
        assert np.array_equal(ranks_KHW[2 * quarter + 1], np.rot90(transposed, quarter).T)


@settings(max_examples=30, deadline=None)
@given(grid=GRIDS)
def test_zigmas_hilbert_scan_is_the_inverse_of_the_curve(grid: Grid) -> None:
    walk_KL, used_KL = hilbert.hilbert(grid, routes=8), hilbert.hilbert_zigma(grid)
    for walk_L, used_L in zip(walk_KL, used_KL, strict=True):
        assert np.array_equal(walk_L[used_L], np.arange(math.prod(grid)))


@settings(max_examples=30, deadline=None)
@given(grid=GRIDS)
def test_three_passes_visit_every_token_three_times(grid: Grid) -> None:
    route_L = skips.three_passes(grid)[0]
    tokens = math.prod(grid)
    assert np.array_equal(route_L.reshape(3, tokens), planar.cross(grid)[[2, 1, 3]])


# Volumes.


@settings(max_examples=40, deadline=None)
@given(box=VOLUMES)
def test_volume_orders_by_their_loops(box: Grid) -> None:
    frames, height, width = box
    area = height * width
    by_place = [t * area + p for p in range(area) for t in range(frames)]
    assert volume.temporal_first(box).tolist() == [by_place, by_place[::-1]]
    assert volume.temporal_first(box, reverse=False).tolist() == [by_place]
    raster = list(range(frames * area))
    assert volume.tri_orientation(box).tolist() == [raster, raster[::-1], by_place]
    assert volume.spatiotemporal(box).tolist() == [raster, raster[::-1], by_place, by_place[::-1]]
    tokens = [(t, h, w) for t in range(frames) for h in range(height) for w in range(width)]
    routes = []
    for axes in ((0, 1, 2), (0, 2, 1), (2, 1, 0)):
        route = sorted(range(len(tokens)), key=lambda token: tuple(tokens[token][axis] for axis in axes))
        routes += [route, route[::-1]]
    assert volume.mamba_nd(box).tolist() == routes


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 6, 8, 12, 24])
def test_slices_need_not_be_frames(slices: int) -> None:
    route = volume.tri_orientation((2, 3, 4), slices)[2].tolist()
    size = 24 // slices
    assert route == [j * size + p for p in range(size) for j in range(slices)]


@settings(max_examples=40, deadline=None)
@given(box=VOLUMES, slices=st.integers(1, 40))
def test_slices_need_not_be_equal(box: Grid, slices: int) -> None:
    ids_KL = volume.tri_orientation(box, slices)
    assert_visits_all_once(ids_KL, box)
    tokens = math.prod(box)
    size = -(-tokens // slices)
    assert ids_KL[2].tolist() == [j * size + p for p in range(size) for j in range(slices) if j * size + p < tokens]


@pytest.mark.parametrize(("pattern", "routes"), [("st", 16), ("sst", 12), ("ts", 16), ("ssstt", 8 * 5), ("sssst", 10)])
def test_zigma_video_takes_turns(pattern: str, routes: int) -> None:
    box = (4, 3, 5)
    ids_KL = volume.zigma_video(box, pattern)
    assert len(ids_KL) == routes
    assert_visits_all_once(ids_KL, box)
    spatial = [route for k, route in enumerate(ids_KL) if pattern[k % len(pattern)] == "s"]
    temporal = [route for k, route in enumerate(ids_KL) if pattern[k % len(pattern)] == "t"]
    for number, route_L in enumerate(spatial):
        path = curves.zigzag(box[1:])[number % 8]
        assert route_L.tolist() == [t * 15 + token for t in range(4) for token in path]
    for number, route_L in enumerate(temporal):
        frames = range(4) if number % 2 == 0 else range(3, -1, -1)
        assert route_L.tolist() == [t * 15 + token for token in range(15) for t in frames]


# The rest.


def test_random_is_fixed_by_seed_and_grid() -> None:
    one = planar.random((6, 7), routes=2, seed=1)
    assert np.array_equal(one, planar.random((6, 7), routes=2, seed=1))
    assert not np.array_equal(one, planar.random((6, 7), routes=2, seed=2))
    assert not np.array_equal(one, planar.random((7, 6), routes=2, seed=1))
    assert not np.array_equal(one[0], one[1])
    assert np.array_equal(planar.multipath((6, 7), seed=3)[2], planar.random((6, 7), seed=3)[0])


@settings(max_examples=40, deadline=None)
@given(grid=GRIDS)
def test_direction_labels_name_the_move(grid: slow.Plane) -> None:
    names = {(0, 1): 1, (0, -1): 2, (-1, 0): 3, (1, 0): 4}
    for order in (curves.continuous, planar.cross, curves.spiral):
        ids_KL = order(grid)
        labels_KL = curves.direction_labels(ids_KL, grid)
        for route, labels in zip(ids_KL.tolist(), labels_KL.tolist(), strict=True):
            places = [divmod(token, grid[1]) for token in route]
            moves = [(i - k, j - m) for (k, m), (i, j) in itertools.pairwise(places)]
            assert labels == [0, *(names.get(move, 0) for move in moves)]


def test_padding_has_no_direction() -> None:
    labels_KL = curves.direction_labels(np.array([[0, -1, 1, 2, -1, 4]]), (2, 3))
    assert labels_KL.tolist() == [[0, 0, 0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curves.zigzag((4, 4), routes=9), "routes of 'zigzag' is 1 to 8, not 9"),
        (lambda: hilbert.hilbert((4, 4), routes=0), "routes of 'hilbert' is 1 to 8, not 0"),
        (lambda: hilbert.hilbert_3d((4, 4, 4), routes=3), "routes of 'hilbert_3d' is 1 or 2, not 3"),
        (lambda: curves.stripes((4, 4), width=0), "width >= 1 and shift >= 0, not 0 and 0"),
        (lambda: curves.stripes((4, 4), shift=-1), "width >= 1 and shift >= 0, not 8 and -1"),
        (lambda: windows.local((4, 4), ["w0"]), "unknown 'w0'"),
        (lambda: windows.local((4, 4), ["h_flipp"]), "unknown 'h_flipp'"),
        (lambda: windows.local((4, 4), []), "directions of 'local' is empty"),
        (lambda: diagonal.diagonal((4, 4), ["lefty"]), "Did you mean 'left'"),
        (lambda: diagonal.diagonal((4, 4), []), "corners of 'diagonal' is empty"),
        (lambda: skips.atrous((4, 4), step=0), "at least 1, not 0"),
        (lambda: volume.tri_orientation((2, 3, 4), 0), "at least 1, not 0"),
        (lambda: volume.zigma_video((2, 3, 4), "sss"), "made of s and t"),
        (lambda: planar.random((2, 3), routes=0), "routes >= 1"),
        (lambda: planar.random((2, 3), seed=-1), "seed >= 0"),
    ],
)
def test_wrong_parameters_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
