"""Statistics of scans against loops over the definition, on grids small enough to count by hand."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import planar
from dehaze_bench.scans.grid import Walk, token_ids
from dehaze_bench.scans.statistics import CLOSE_STEPS, measure, measure_route, neighbours, steps_apart

GRIDS = st.one_of(st.tuples(*[st.integers(1, 6)] * 2), st.tuples(*[st.integers(1, 4)] * 3))


def snake(grid: tuple[int, ...]) -> np.ndarray:
    ids = token_ids(grid).copy()
    ids[1::2] = ids[1::2, ::-1]
    return ids.reshape(1, -1)


def windows(grid: tuple[int, ...], size: int = 2) -> np.ndarray:
    """Windows from left to right, filled up with padding."""
    ids = np.pad(token_ids(grid), [(0, -n % size) for n in grid], constant_values=-1)
    height, width = ids.shape
    return ids.reshape(height // size, size, width // size, size).transpose(0, 2, 1, 3).reshape(1, -1)


def sandwich(grid: tuple[int, ...]) -> np.ndarray:
    """Raster and then columns in one route: every token twice."""
    ids = token_ids(grid)
    return np.concatenate([ids.reshape(-1), ids.T.reshape(-1)])[None]


def test_neighbours_differ_by_one_along_one_axis() -> None:
    for grid in ((3, 4), (1, 5), (2, 3, 4), (1, 1)):
        pairs, axes = neighbours(grid)
        places = list(itertools.product(*map(range, grid)))
        wanted = {
            (a, b)
            for a, b in itertools.combinations(range(len(places)), 2)
            if sum(abs(i - j) for i, j in zip(places[a], places[b], strict=True)) == 1
        }
        assert {(int(a), int(b)) for a, b in pairs} == wanted
        assert len(pairs) == len(wanted)
        for (a, b), axis in zip(pairs, axes, strict=True):
            assert places[b][axis] - places[a][axis] == 1


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, data=st.data())
def test_a_route_is_measured_as_defined(grid: tuple[int, ...], data: st.DataObject) -> None:
    tokens = math.prod(grid)
    route = np.array(data.draw(st.lists(st.integers(-1, tokens - 1), min_size=1, max_size=2 * tokens)))
    visits = {token: np.flatnonzero(route == token) for token in range(tokens)}
    apart = [
        min(abs(int(s) - int(t)) for s in visits[a] for t in visits[b])
        for a, b in neighbours(grid)[0]
        if len(visits[a]) and len(visits[b])
    ]
    places = [np.unravel_index(token, grid) for token in route if token >= 0]
    jumps = [math.dist(a, b) for a, b in itertools.pairwise(places)]
    found = measure_route(route, grid)
    assert found.length == len(route)
    assert found.padding == int((route == -1).sum())
    assert found.visited == sum(len(steps) > 0 for steps in visits.values())
    counts = [len(steps) for steps in visits.values()]
    assert found.visits == (min(counts), pytest.approx(np.mean(counts)), max(counts))
    assert found.locality == (pytest.approx(np.mean(apart)) if apart else None)
    assert found.close == (pytest.approx(np.mean([n <= CLOSE_STEPS for n in apart])) if apart else None)
    assert found.mean_jump == (pytest.approx(np.mean(jumps)) if jumps else None)
    assert found.max_jump == (pytest.approx(max(jumps)) if jumps else None)
    assert sum(found.directions.values()) == pytest.approx(1 if jumps else 0)


def test_raster_by_hand() -> None:
    found = measure("raster", [Walk(planar.raster)], (3, 4))
    (route,) = found.routes
    # 9 pairs lie side by side, 8 a row apart; the two jumps to the next row lead 3 cells back and 1 down.
    assert found.locality == found.nearest == found.raster == pytest.approx((9 * 1 + 8 * 4) / 17)
    assert route.apart == {"rows": 4, "columns": 1}
    assert route.max_jump == pytest.approx(math.sqrt(10))
    assert route.mean_jump == pytest.approx((9 + 2 * math.sqrt(10)) / 11)
    assert route.directions == pytest.approx({"right": 9 / 11, "jump": 2 / 11})
    assert found.visits == (1, 1, 1)
    assert found.joined == 1


def test_a_continuous_route_never_jumps() -> None:
    (route,) = measure("snake", [Walk(snake)], (4, 5)).routes
    assert route.mean_jump == route.max_jump == 1
    assert route.directions == pytest.approx({"right": 8 / 19, "left": 8 / 19, "down": 3 / 19})


def test_the_nearest_of_rows_and_columns_keeps_all_neighbours() -> None:
    found = measure("cross", [Walk(planar.cross)], (5, 7))
    rows = measure("raster", [Walk(planar.raster)], (5, 7))
    columns = measure("columns", [Walk(lambda grid: planar.cross(grid)[1:2])], (5, 7))
    assert found.nearest == 1
    assert found.locality == pytest.approx((rows.locality + columns.locality) / 2)
    assert found.visits == (4, 4, 4)
    assert [next(iter(route.directions)) for route in found.routes] == ["right", "down", "left", "up"]


def test_padding_is_a_step_but_no_place() -> None:
    found = measure("windows", [Walk(windows)], (2, 3))
    (route,) = found.routes  # 0 1 3 4 2 -1 5 -1
    assert (route.length, route.padding, route.visited) == (8, 2, 6)
    assert route.locality == pytest.approx(np.mean([1, 1, 2, 3, 3, 2, 2]))
    assert route.mean_jump == pytest.approx((1 + math.sqrt(2) + 1 + math.sqrt(2) + 1) / 5)


def test_the_closest_of_several_visits_counts() -> None:
    found = measure("sandwich", [Walk(sandwich)], (4, 4))
    assert found.locality == 1
    assert found.visits == (2, 2, 2)
    # Raster ends in the last token, columns begin in the first.
    assert found.routes[0].directions == pytest.approx({"right": 12 / 31, "down": 12 / 31, "jump": 7 / 31})


def test_staying_is_a_direction_of_its_own() -> None:
    assert measure_route(np.array([0, 0, 1]), (1, 2)).directions == {"stay": 0.5, "right": 0.5}


def test_routes_that_share_the_grid_never_meet() -> None:
    def skip(grid: tuple[int, ...]) -> np.ndarray:
        ids = token_ids(grid)
        return np.stack([ids[top::2, left::2].reshape(-1) for top in (0, 1) for left in (0, 1)])

    found = measure("skip", [Walk(skip)], (4, 6))
    assert found.locality is None
    assert found.nearest is None
    assert found.joined == 0
    assert found.visits == (1, 1, 1)
    assert found.routes[0].visits == (0, 0.25, 1)
    assert found.routes[0].directions == {"jump": 1.0}


def test_coarse_walks_have_their_own_grid_and_channels_none() -> None:
    walks = [Walk(planar.raster), Walk(planar.raster, scale=2), Walk(planar.bidirectional, axis="channel")]
    found = measure("mixed", walks, (5, 7))
    assert [route.grid for route in found.routes] == [(5, 7), (3, 4)]
    assert [route.is_coarse for route in found.routes] == [False, True]
    assert found.routes[1].locality == found.routes[1].raster == measure("r", [Walk(planar.raster)], (3, 4)).locality
    assert found.locality == found.raster == measure("r", [Walk(planar.raster)], (5, 7)).locality
    assert found.visits == (1, 1, 1)
    assert found.channel_walks == 1
    only = measure("coarse", [Walk(planar.raster, scale=2)], (4, 4))
    assert only.locality is None
    assert only.visits == (0, 0, 0)


def test_volumes_have_six_neighbours_and_frames() -> None:
    def through(grid: tuple[int, ...]) -> np.ndarray:
        forward = token_ids(grid).transpose(1, 2, 0).reshape(-1)
        return np.stack([forward, forward[::-1]])

    found = measure("through", [Walk(through)], (3, 2, 4))
    assert found.routes[0].apart == {"frames": 1, "rows": 12, "columns": 3}
    assert found.routes[0].directions == pytest.approx({"next frame": 16 / 23, "jump": 7 / 23})
    assert found.routes[1].directions == pytest.approx({"previous frame": 16 / 23, "jump": 7 / 23})
    assert found.locality == pytest.approx((16 * 1 + 12 * 12 + 18 * 3) / 46)


def test_a_single_token_has_no_distances() -> None:
    found = measure("raster", [Walk(planar.raster)], (1, 1))
    assert (found.locality, found.nearest, found.raster, found.joined) == (None, None, None, 1.0)
    assert found.routes[0].directions == {}


def test_ids_that_do_not_fit_are_named() -> None:
    with pytest.raises(UsageError, match="'wrong'"):
        measure("wrong", [Walk(lambda grid: np.array([[99]]))], (2, 2))
    with pytest.raises(UsageError, match="two axes"):
        measure("cross", [Walk(planar.cross)], (2, 3, 4))
    with pytest.raises(UsageError, match="positive"):
        measure("raster", [Walk(planar.raster)], (0, 3))


def test_unvisited_pairs_are_infinitely_far_apart() -> None:
    pairs, _ = neighbours((1, 3))
    assert steps_apart(np.array([0, -1, 1]), pairs, 3).tolist() == [2, math.inf]


def test_needs_no_torch() -> None:
    code = "import sys; from dehaze_bench.scans import catalogue, statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
