"""Scan fixtures: published visiting orders against those of `dehaze_bench.scans`, entry by entry.

Ours are computed for the grid and the parameters that a fixture states, so a fixture on another grid needs no code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.scans import planar
from dehaze_bench.scans.curves import continuous, direction_labels, zigzag
from dehaze_bench.scans.grid import Grid, Walk, token_ids
from dehaze_bench.scans.hilbert import hilbert, hilbert_zigma
from dehaze_bench.scans.skips import atrous, three_passes
from dehaze_bench.scans.volume import (
    NNMAMBA_FLIPS,
    mamba_nd,
    nnmamba,
    spatial_first,
    spatiotemporal,
    temporal_first,
    tri_orientation,
    zigma_video,
)
from dehaze_bench.scans.windows import local
from dehaze_bench.verify.compare import Row
from dehaze_bench.verify.fixture import Fixture

ENTRIES = {"scan", "source", "grid", "routes", "merge", "notes"}


@dataclass(frozen=True)
class Ours:
    """What we say: the routes, and the further entries that a fixture of this kind may have.

    `given` names entries that were read as parameters.
    """

    routes: Sequence[np.ndarray]
    entries: dict[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()


Check = Callable[[Fixture, Grid], Ours]


def check_scan(fixture: Fixture) -> list[Row]:
    """Return one row per route, the number of steps at which it differs from the published one, and one per entry.

    Raises `UsageError` for a scan, an entry or a grid that is not understood.
    """
    ours = SCANS[_kind(fixture)](fixture, _grid(fixture))
    for entry in sorted(fixture.spec.keys() - ENTRIES - set(ours.given) - ours.entries.keys()):
        raise UsageError(f"{fixture.path}: the check of '{fixture.model}' does not understand entry '{entry}'.")
    rows = _compare_routes(fixture, "route", ours.routes, fixture.field("routes"))
    for entry, value in ours.entries.items():
        if entry in fixture.spec:
            rows += _compare_entry(fixture, entry, value, fixture.spec[entry])
    return rows


def _name(fixture: Fixture) -> str:
    """Return the name of the scan without a remark in brackets."""
    return re.sub(r"\s*\(.*\)$", "", fixture.model)


def _kind(fixture: Fixture) -> str:
    """Return the key in `SCANS`: the name, with N for a number at its end."""
    name = _name(fixture)
    for key in (name, re.sub(r"\d+$", "N", name)):
        if key in SCANS:
            return key
    raise UsageError(f"{fixture.path}: scan '{name}' is not known. {nearest(name, SCANS)}")


def _number(fixture: Fixture) -> int:
    """Return the number at the end of the name: of routes, or the step."""
    found = re.search(r"\d+$", _name(fixture))
    if found is None:
        raise UsageError(f"{fixture.path}: scan '{fixture.model}' needs a number for its N.")
    return int(found[0])


def _grid(fixture: Fixture) -> Grid:
    grid = fixture.field("grid")
    sizes = grid if isinstance(grid, list) else []
    if len(sizes) not in (2, 3) or not all(type(size) is int and size > 0 for size in sizes):
        raise UsageError(f"{fixture.path}: a grid has two or three positive sizes, not {grid}.")
    return tuple(sizes)


def _compare_routes(fixture: Fixture, name: str, ours: Sequence[np.ndarray], theirs: Sequence[Any]) -> list[Row]:
    if len(ours) != len(theirs):
        note = f"{len(ours)} routes instead of {len(theirs)}"
        return [Row(fixture.name, f"{name}s", float("inf"), 0.0, measure="steps", note=note)]
    return [
        _compare_steps(fixture.name, f"{name} {k}", our_route, np.asarray(their_route))
        for k, (our_route, their_route) in enumerate(zip(ours, theirs, strict=True))
    ]


def _compare_steps(fixture: str, name: str, ours_L: np.ndarray, theirs_L: np.ndarray) -> Row:
    if ours_L.shape != theirs_L.shape:
        note = f"{ours_L.size} steps instead of {theirs_L.size}"
        return Row(fixture, name, float("inf"), 0.0, measure="steps", note=note)
    differing = np.flatnonzero(ours_L != theirs_L)
    note = f"first at step {differing[0]}" if differing.size else ""
    return Row(fixture, name, float(differing.size), 0.0, measure="steps", note=note)


def _compare_entry(fixture: Fixture, name: str, ours: Any, theirs: Any) -> list[Row]:
    """Return a row per list of token ids, or one row for anything else, equal or not."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return [row for key in ours for row in _compare_entry(fixture, f"{name} {key}", ours[key], theirs[key])]
    if isinstance(ours, np.ndarray) and isinstance(theirs, list):
        if ours.ndim == 1:
            return [_compare_steps(fixture.name, name, ours, np.asarray(theirs))]
        return _compare_routes(fixture, name, list(ours), theirs)
    note = "" if ours == theirs else f"{ours} instead of {theirs}"
    return [Row(fixture.name, name, float(ours != theirs), 0.0, measure="absolute", note=note)]


def _plain(order: Callable[[Grid], np.ndarray]) -> Check:
    return lambda fixture, grid: Ours(list(order(grid)))


def _with_class_token(routes_KL: np.ndarray, place: int) -> Ours:
    """Put a class token (-1) at `place` among the image tokens, seen from both of two opposite routes."""
    forward, backward = routes_KL
    return Ours([np.insert(forward, place, -1), np.insert(backward, backward.size - place, -1)])


def _local(fixture: Fixture, grid: Grid) -> Ours:
    directions = fixture.field("directions")
    routes = [local(grid, [direction])[0] for direction in directions]
    # The published un-permutation of columns takes height for width: what it makes of the ids on other grids.
    ids_L = token_ids(grid).reshape(-1)
    undone_L = token_ids(grid).T.reshape(grid).T.reshape(-1)
    wrong = {name: undone_L for name in directions if name in ("v", "v_flip") and not np.array_equal(undone_L, ids_L)}
    return Ours(routes, {"official_reverse": wrong}, given=("directions",))


def _continuous(fixture: Fixture, grid: Grid) -> Ours:
    ids_KL = continuous(grid)
    return Ours(list(ids_KL), {"direction_labels": direction_labels(ids_KL, grid)})


def _multiscale(fixture: Fixture, grid: Grid) -> Ours:
    half = Walk(three_passes, scale=2).coarse(grid)
    return Ours([*planar.raster(grid), *three_passes(half)], {"half_grid": list(half)})


def _omnidirectional(fixture: Fixture, grid: Grid) -> Ours:
    channels = len(fixture.field("channel_routes")[0])
    return Ours(list(planar.cross(grid)), {"channel_routes": planar.bidirectional((channels,))})


def _slices(entry: str) -> Check:
    return lambda fixture, grid: Ours(list(tri_orientation(grid, fixture.field(entry))), given=(entry,))


def _hilbert(fixture: Fixture, grid: Grid) -> Ours:
    number = _number(fixture)
    return Ours(list(hilbert_zigma(grid, number)), {"curve_walk": hilbert(grid, number)})


def _frames(fixture: Fixture, grid: Grid) -> Ours:
    """ZigMa's temporal layers: our routes go through the frames at one position after the other; here it is one."""
    temporal_KT = zigma_video(grid, "st")[[1, 3], : grid[0]] // (grid[1] * grid[2])
    # Each list is undone by the other one, as published.
    return Ours(list(temporal_KT), {"official_undo": temporal_KT[::-1]})


# An N at the end stands for a number in the name of a fixture.
SCANS: dict[str, Check] = {
    "vmamba_unidirectional": _plain(lambda grid: planar.raster(grid, copies=4)),
    "vmamba_bidirectional": _plain(lambda grid: planar.bidirectional(grid, copies=2)),
    "vmamba_cross": _plain(planar.cross),
    "vim_bidirectional": lambda fixture, grid: _with_class_token(planar.bidirectional(grid), token_ids(grid).size // 2),
    # The third path is drawn in every forward pass.
    "rsmamba_multipath": _plain(lambda grid: planar.multipath(grid)[:2]),
    "mamba_nd_2d": _plain(planar.mamba_nd),
    "mamba_nd_3d": _plain(mamba_nd),
    "localmamba": _local,
    "plainmamba_continuous": _continuous,
    "efficientvmamba_es2d_stepN": lambda fixture, grid: Ours(list(atrous(grid, _number(fixture)))),
    "msvmamba_multiscale": _multiscale,
    "msvmamba_v3_multiscale": _multiscale,
    "vmambair_oss_mamber32": _omnidirectional,
    "vmambair_oss_mamber33": _omnidirectional,
    "nnmamba": lambda fixture, grid: Ours(list(nnmamba(grid)), {"feature_axis_flipped": list(NNMAMBA_FLIPS)}),
    "segmamba_tri_orientation": _slices("nslices"),
    "vivim_spatiotemporal": _slices("nframes"),
    "videomamba_spatial_first": lambda fixture, grid: _with_class_token(spatial_first(grid), 0),
    "videomamba_temporal_first": _plain(temporal_first),
    "videomamba_spatiotemporal": _plain(spatiotemporal),
    "zigma_zigzagN": lambda fixture, grid: Ours(list(zigzag(grid, _number(fixture)))),
    "zigma_hilbertN": _hilbert,
    "zigma_video_time": _frames,
}
