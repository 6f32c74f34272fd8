"""Scan fixtures: published visiting orders against those of `dehaze_bench.scans`, entry by entry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.scans import planar
from dehaze_bench.verify.compare import Row
from dehaze_bench.verify.fixture import Fixture

Grid = tuple[int, int]
ENTRIES = {"scan", "source", "grid", "routes", "merge", "notes"}


def check_scan(fixture: Fixture) -> list[Row]:
    """Return one row per route: the number of steps at which it visits another token than published."""
    if fixture.model not in SCANS:
        raise UsageError(f"{fixture.path}: scan '{fixture.model}' is not known. {nearest(fixture.model, SCANS)}")
    for entry in fixture.spec.keys() - ENTRIES:
        raise UsageError(f"{fixture.path}: the check of a scan does not understand entry '{entry}'.")
    grid = fixture.field("grid")
    if len(grid) != 2 or not all(isinstance(size, int) and size > 0 for size in grid):
        raise UsageError(f"{fixture.path}: '{fixture.model}' walks over a grid of two axes, not {grid}.")
    ours = SCANS[fixture.model]((grid[0], grid[1]))
    theirs = fixture.field("routes")
    if len(ours) != len(theirs):
        note = f"{len(ours)} routes instead of {len(theirs)}"
        return [Row(fixture.name, "routes", float("inf"), 0.0, measure="steps", note=note)]
    return [
        _compare_route(fixture.name, f"route {k}", our_route, np.asarray(their_route))
        for k, (our_route, their_route) in enumerate(zip(ours, theirs, strict=True))
    ]


def _compare_route(fixture: str, name: str, ours_L: np.ndarray, theirs_L: np.ndarray) -> Row:
    if ours_L.shape != theirs_L.shape:
        note = f"{ours_L.size} steps instead of {theirs_L.size}"
        return Row(fixture, name, float("inf"), 0.0, measure="steps", note=note)
    differing = np.flatnonzero(ours_L != theirs_L)
    note = f"first at step {differing[0]}" if differing.size else ""
    return Row(fixture, name, float(differing.size), 0.0, measure="steps", note=note)


def _with_class_token(routes_KL: np.ndarray) -> np.ndarray:
    """Put a class token (-1) at token index L // 2 of the image, seen from each route."""
    length = routes_KL.shape[1]
    forward = np.insert(routes_KL[0], length // 2, -1)
    backward = np.insert(routes_KL[1], length - length // 2, -1)
    return np.stack([forward, backward])


SCANS: dict[str, Callable[[Grid], np.ndarray]] = {
    "vmamba_unidirectional": lambda grid: planar.raster(grid, copies=4),
    "vmamba_bidirectional": lambda grid: planar.bidirectional(grid, copies=2),
    "vmamba_cross": planar.cross,
    "vim_bidirectional": lambda grid: _with_class_token(planar.bidirectional(grid)),
    "rsmamba_multipath": planar.bidirectional,
    # Layers take turns: rows, rows backwards, columns, columns backwards.
    "mamba_nd_2d": lambda grid: planar.cross(grid)[[0, 2, 1, 3]],
}
