"""The check of scan fixtures, on grids and parameters of which there is no file, and on entries that are wrong.

The fixtures here are written by the slow twins.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dehaze_bench.verify import Report, render, verify
from tests.scans import slow

Spec = dict[str, Any]


def both(route: list[int]) -> list[list[int]]:
    return [route, route[::-1]]


def lines(grid: list[int]) -> tuple[list[int], list[int]]:
    """Return raster and column-major order of a plane."""
    rows = [token for row in slow.rows_of((grid[0], grid[1])) for token in row]
    cols = [token for column in slow.columns_of((grid[0], grid[1])) for token in column]
    return rows, cols


def localmamba(grid: list[int], directions: list[str]) -> Spec:
    rows, cols = lines(grid)
    routes = []
    for name in directions:
        kind = name.removesuffix("_flip")
        route = {"h": rows, "v": cols}.get(kind) or slow.windows((grid[0], grid[1]), int(kind[1:]))
        routes.append(route[::-1] if name.endswith("_flip") else route)
    # Columns read as if the grid were not transposed, then transposed.
    wrong = [cols[i * grid[1] + j] for j in range(grid[1]) for i in range(grid[0])]
    spec = {"scan": "localmamba", "grid": grid, "routes": routes, "directions": directions}
    return spec | {"official_reverse": {} if wrong == rows else {d: wrong for d in directions if d in ("v", "v_flip")}}


def plainmamba(grid: list[int]) -> Spec:
    rows, cols = slow.snake(slow.rows_of((grid[0], grid[1]))), slow.snake(slow.columns_of((grid[0], grid[1])))
    names = {(0, 1): 1, (0, -1): 2, (-1, 0): 3, (1, 0): 4}
    labels = []
    for route in [*both(rows), *both(cols)]:
        places = [divmod(token, grid[1]) for token in route]
        labels.append([0] + [names[b[0] - a[0], b[1] - a[1]] for a, b in itertools.pairwise(places)])
    routes = [*both(rows), *both(cols)]
    return {"scan": "plainmamba_continuous", "grid": grid, "routes": routes, "direction_labels": labels}


def msvmamba(grid: list[int], scan: str) -> Spec:
    half = [-(-size // 2) for size in grid]
    rows, cols = lines(half)
    routes = [lines(grid)[0], rows[::-1] + cols + cols[::-1]]
    return {"scan": scan, "grid": grid, "routes": routes, "half_grid": half}


def pieces(scan: str, grid: list[int], entry: str, number: int) -> Spec:
    total = grid[0] * grid[1] * grid[2]
    size = total // number
    across = [j * size + p for p in range(size) for j in range(number)]
    return {"scan": scan, "grid": grid, "routes": [*both(list(range(total))), across], entry: number}


def omni(grid: list[int], channels: int) -> Spec:
    rows, cols = lines(grid)
    routes = [rows, cols, rows[::-1], cols[::-1]]
    return {
        "scan": "vmambair_oss_mamber33", "grid": grid, "routes": routes, "channel_routes": both(list(range(channels)))
    }  # fmt: skip


def hilbert(order: int, number: int) -> Spec:
    side = 2**order
    transposed = slow.hilbert(order)
    walk = [token % side * side + token // side for token in transposed]
    walks = [walk, transposed][:number]
    routes = [[found.index(token) for token in range(side * side)] for found in walks]
    return {"scan": f"zigma_hilbert{number}", "grid": [side, side], "routes": routes, "curve_walk": walks}


def zigzag(grid: list[int], number: int) -> Spec:
    rows, cols = slow.rows_of((grid[0], grid[1])), slow.columns_of((grid[0], grid[1]))
    snakes = [slow.snake(rows), slow.snake(cols), slow.snake([row[::-1] for row in rows]), slow.snake(cols[::-1])]
    return {"scan": f"zigma_zigzag{number}", "grid": grid, "routes": snakes[:number]}


def atrous(grid: list[int], step: int) -> Spec:
    return {"scan": f"efficientvmamba_es2d_step{step}", "grid": grid, "routes": slow.atrous((grid[0], grid[1]), step)}


def frames(grid: list[int]) -> Spec:
    forward, backward = both(list(range(grid[0])))
    return {
        "scan": "zigma_video_time", "grid": grid, "routes": [forward, backward], "official_undo": [backward, forward]
    }  # fmt: skip


def spatial(grid: list[int]) -> Spec:
    tokens = [-1, *range(grid[0] * grid[1] * grid[2])]
    return {"scan": "videomamba_spatial_first (released)", "grid": grid, "routes": both(tokens)}


def nnmamba(grid: list[int]) -> Spec:
    forward, backward = both(list(range(grid[0] * grid[1] * grid[2])))
    routes = [forward, forward, backward, backward]
    return {"scan": "nnmamba", "grid": grid, "routes": routes, "feature_axis_flipped": [False, True, False, True]}


SPECS = {
    "local": localmamba([5, 9], ["w3", "v", "w2_flip", "h_flip", "v_flip"]),
    "local_square": localmamba([6, 6], ["w4", "v"]),
    "local_row": localmamba([1, 7], ["v", "w7"]),
    "plain_portrait": plainmamba([7, 3]),
    "plain_column": plainmamba([5, 1]),
    "plain_row": plainmamba([1, 5]),
    "plain_token": plainmamba([1, 1]),
    "multiscale": msvmamba([7, 10], "msvmamba_multiscale"),
    "multiscale_v3": msvmamba([1, 3], "msvmamba_v3_multiscale"),
    "segmamba": pieces("segmamba_tri_orientation", [3, 4, 5], "nslices", 12),
    "vivim": pieces("vivim_spatiotemporal", [7, 2, 3], "nframes", 7),
    "omni": omni([3, 5], 7),
    "hilbert": hilbert(4, 2),
    "zigzag": zigzag([5, 8], 3),
    "atrous": atrous([7, 5], 2),
    "atrous_3": atrous([7, 5], 3),
    "frames": frames([6, 2, 4]),
    "spatial": spatial([3, 2, 5]),
    "nnmamba": nnmamba([3, 2, 2]),
}


@pytest.fixture
def check(tmp_path: Path) -> Callable[[Spec], Report]:
    def write(spec: Spec) -> Report:
        path = tmp_path / "scan.json"
        path.write_text(json.dumps({"source": "here", "merge": "sum", "notes": [], **spec}), encoding="utf-8")
        return verify([path])

    return write


@pytest.mark.parametrize("name", SPECS)
def test_other_grids_and_parameters(check: Callable[[Spec], Report], name: str) -> None:
    report = check(SPECS[name])
    assert report.exit_code == 0, render(report)


EXTRAS = [(name, entry) for name, spec in SPECS.items() for entry in spec.keys() - {"scan", "grid", "routes"}]
PARAMETERS = {"directions", "nslices", "nframes"}


@pytest.mark.parametrize(("name", "entry"), sorted(EXTRAS))
def test_each_further_entry_is_compared_or_used(check: Callable[[Spec], Report], name: str, entry: str) -> None:
    def disturb(value: Any) -> Any:
        if isinstance(value, dict):
            return {"h": [0]} if not value else {key: disturb(item) for key, item in value.items()}
        if isinstance(value, list):
            return [disturb(value[0]), *value[1:]]
        return not value if isinstance(value, bool) else value + 5 if isinstance(value, int) else "w5"

    report = check(SPECS[name] | {entry: disturb(SPECS[name][entry])})
    assert report.exit_code == 1
    if entry not in PARAMETERS:
        assert all(row.array.startswith(entry) for row in report.failed)


@pytest.mark.parametrize("name", SPECS)
def test_a_changed_route_fails(check: Callable[[Spec], Report], name: str) -> None:
    routes = [list(route) for route in SPECS[name]["routes"]]
    routes[-1][-1] += 1
    report = check(SPECS[name] | {"routes": routes})
    assert [row.array for row in report.failed] == [f"route {len(routes) - 1}"]
    report = check(SPECS[name] | {"routes": routes[:-1]})
    assert report.exit_code == 1
    assert "instead of" in report.failed[0].note


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("omni", {"stride": 2}, "does not understand entry 'stride'"),
        ("spatial", {"half_grid": [1, 1]}, "does not understand entry 'half_grid'"),
        ("zigzag", {"scan": "zigma_zigzagN"}, "needs a number for its N"),
        ("zigzag", {"scan": "zigma_zigzag"}, "is not known. Did you mean 'zigma_zigzagN'"),
        ("zigzag", {"scan": "zigma_zigzag9"}, "is 1 to 8, not 9"),
        ("zigzag", {"grid": [2, 3, 4]}, "grid of two axes"),
        ("spatial", {"grid": [2, 3]}, "grid of three axes"),
        ("spatial", {"grid": [0, 2, 3]}, "two or three positive sizes"),
        ("spatial", {"grid": [6]}, "two or three positive sizes"),
        ("spatial", {"grid": "2x3"}, "two or three positive sizes"),
        ("local", {"directions": ["x3"]}, "unknown 'x3'"),
    ],
)
def test_what_is_not_understood_is_an_error(
    check: Callable[[Spec], Report], name: str, change: Spec, message: str
) -> None:
    report = check(SPECS[name] | change)
    assert report.exit_code == 2
    assert message in report.problems[0][1]


def test_a_missing_parameter_is_named(check: Callable[[Spec], Report]) -> None:
    for name, entry in (("local", "directions"), ("segmamba", "nslices"), ("omni", "channel_routes")):
        spec = {key: value for key, value in SPECS[name].items() if key != entry}
        assert f"no entry '{entry}'" in check(spec).problems[0][1]
