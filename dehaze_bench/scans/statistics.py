"""What a scan does to a grid, in numbers: how far it jumps, and how far apart it puts neighbours.

Shape legend: K routes, L steps of a route, T tokens of a grid, P pairs of neighbours, N visits, M meetings.

Two distances are measured. A *jump* is the Euclidean distance on the grid, in cells, between two tokens that a route
visits one after the other (padding between them is passed over): 1 to a neighbour, 1.41 along a diagonal. *Locality*
is the reverse: the distance along the route, in steps, between two tokens that are neighbours on the grid (4 of them
in a plane, 6 in a volume), averaged over pairs. Padding steps count there, as a recurrence takes them; of a token that
is visited several times the closest visits count; a pair of which the route visits one token or none is left out.
Raster order on n x n has (n + 1) / 2, which is hard to beat: a route that keeps most pairs side by side puts the
others far apart. Hence `close` too, the share of pairs at most four steps apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dehaze_bench.scans.grid import Grid, Walk, check_ids, token_ids

PLANE = {
    (0, 0): "stay",
    (0, 1): "right",
    (0, -1): "left",
    (1, 0): "down",
    (-1, 0): "up",
    (1, 1): "down-right",
    (1, -1): "down-left",
    (-1, 1): "up-right",
    (-1, -1): "up-left",
}
FRAMES = {1: "next frame", -1: "previous frame"}
AXIS_NAMES = ("frames", "rows", "columns")
CLOSE_STEPS = 4


@dataclass(frozen=True)
class RouteStatistics:
    """One route over the grid that it walks over.

    `padding` counts steps that visit nothing, `visited` tokens that are visited at all, `visits` is per token
    (smallest, mean, largest). Jumps, locality and `close` are as in the module's head; None where a route never
    moves, or never sees two neighbours. `raster` is the locality of raster order on the same grid, to divide by;
    `apart` splits locality by the axis along which the neighbours lie. `directions` are shares of all moves: to one of
    the eight neighbours in the plane, to the same place in the next or previous frame, "stay" (the same token again)
    or "jump" (all others).
    """

    grid: Grid
    strides: tuple[int, ...]
    length: int
    padding: int
    visited: int
    visits: tuple[int, float, int]
    mean_jump: float | None
    max_jump: float | None
    locality: float | None
    raster: float | None
    close: float | None
    apart: dict[str, float]
    directions: dict[str, float]

    @property
    def is_coarse(self) -> bool:
        return any(stride != 1 for stride in self.strides)


@dataclass(frozen=True)
class ScanStatistics:
    """All routes of a scan over a grid.

    `locality` and `close` are over all routes and pairs, `nearest` is the mean over pairs for the route that keeps the
    pair closest: what one route separates, another may join. They are over the routes on the grid itself, as are
    `visits` per token (smallest, mean, largest); `joined` is the share of pairs of which some route visits both
    tokens. `raster` is the locality of raster order on the same grid, to divide by. Routes over a coarser grid have
    numbers of their own in `routes`; walks over channels are counted in `channel_walks` and not measured.
    """

    grid: Grid
    routes: tuple[RouteStatistics, ...]
    visits: tuple[int, float, int]
    locality: float | None
    nearest: float | None
    close: float | None
    joined: float
    raster: float | None
    channel_walks: int


def measure(name: str, walks: Sequence[Walk], grid: Grid) -> ScanStatistics:
    """Measure the scan `name`, whose walks do not depend on data, on `grid`.

    Raises `UsageError` where a walk does not take the grid or gives ids that do not fit it.
    """
    token_ids(grid)
    routes: list[RouteStatistics] = []
    full: list[np.ndarray] = []
    for walk in walks:
        if walk.axis != "space":
            continue
        coarse, strides = walk.coarse(grid), walk.strides(grid)
        ids_KL = check_ids(name, walk.order(coarse), coarse)
        routes += [measure_route(ids_L, coarse, strides) for ids_L in ids_KL]
        if set(strides) == {1}:
            full += list(ids_KL)
    pairs_P2, _ = neighbours(grid)
    apart_KP = np.array([steps_apart(ids_L, pairs_P2, math.prod(grid)) for ids_L in full]).reshape(
        len(full), len(pairs_P2)
    )
    seen_KP = np.isfinite(apart_KP)
    nearest_P = apart_KP.min(axis=0, initial=np.inf)
    met_P = np.isfinite(nearest_P)
    return ScanStatistics(
        grid=grid,
        routes=tuple(routes),
        visits=_spread(sum((_count(ids_L, grid) for ids_L in full), np.zeros(math.prod(grid), np.int64))),
        locality=_mean(apart_KP[seen_KP]),
        nearest=_mean(nearest_P[met_P]),
        close=_mean(apart_KP[seen_KP] <= CLOSE_STEPS),
        joined=float(met_P.mean()) if met_P.size else 1.0,
        raster=_mean(np.diff(pairs_P2)),  # token ids are raster's steps
        channel_walks=sum(walk.axis == "channel" for walk in walks),
    )


def measure_route(ids_L: np.ndarray, grid: Grid, strides: tuple[int, ...] = ()) -> RouteStatistics:
    """Measure one route of token ids (-1 is padding) over `grid`, which lies `strides` apart on the token grid."""
    tokens = math.prod(grid)
    visited_L = ids_L[ids_L >= 0]
    moves = np.diff(np.stack(np.unravel_index(visited_L, grid), axis=1), axis=0)
    jumps = np.linalg.norm(moves, axis=1)
    pairs_P2, axis_P = neighbours(grid)
    apart_P = steps_apart(ids_L, pairs_P2, tokens)
    seen_P = np.isfinite(apart_P)
    names = AXIS_NAMES[-len(grid) :]
    counts = _count(ids_L, grid)
    return RouteStatistics(
        grid=grid,
        strides=strides or (1,) * len(grid),
        length=len(ids_L),
        padding=len(ids_L) - len(visited_L),
        visited=int((counts > 0).sum()),
        visits=_spread(counts),
        mean_jump=_mean(jumps),
        max_jump=float(jumps.max()) if jumps.size else None,
        locality=_mean(apart_P[seen_P]),
        raster=_mean(np.diff(pairs_P2)),
        close=_mean(apart_P[seen_P] <= CLOSE_STEPS),
        apart={
            name: float(apart_P[seen_P & (axis_P == axis)].mean())
            for axis, name in enumerate(names)
            if (seen_P & (axis_P == axis)).any()
        },
        directions=_directions(moves),
    )


def neighbours(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of tokens that differ by one along one axis, (P, 2), and which axis that is, (P,)."""
    ids = token_ids(grid)
    pairs, axes = [], []
    for axis in range(ids.ndim):
        first, second = np.delete(ids, -1, axis), np.delete(ids, 0, axis)
        pairs.append(np.stack([first.ravel(), second.ravel()], axis=1))
        axes.append(np.full(first.size, axis))
    return np.concatenate(pairs), np.concatenate(axes)


def steps_apart(ids_L: np.ndarray, pairs_P2: np.ndarray, num_tokens: int) -> np.ndarray:
    """Return how many steps of the route lie between the closest visits of each pair, (P,); inf if not both visited."""
    steps_N = np.flatnonzero(ids_L >= 0)
    by_token = np.argsort(ids_L[steps_N], kind="stable")
    steps_N, tokens_N = steps_N[by_token], ids_L[steps_N][by_token]
    counts_T = np.bincount(tokens_N, minlength=num_tokens)
    starts_T = np.cumsum(counts_T) - counts_T
    # Each visit of a pair's first token, and where it would stand among those of the second.
    counts_P = counts_T[pairs_P2[:, 0]]
    pair_M = np.repeat(np.arange(len(pairs_P2)), counts_P)
    nth_M = np.arange(len(pair_M)) - np.repeat(np.cumsum(counts_P) - counts_P, counts_P)
    visit_M = steps_N[starts_T[pairs_P2[pair_M, 0]] + nth_M]
    second_M = pairs_P2[pair_M, 1]
    place_M = np.searchsorted(tokens_N * (len(ids_L) + 1) + steps_N, second_M * (len(ids_L) + 1) + visit_M)
    out_P = np.full(len(pairs_P2), np.inf)
    for beside_M in (place_M - 1, place_M):
        found_M = np.clip(beside_M, 0, max(0, len(tokens_N) - 1))
        meets_M = (found_M == beside_M) & (tokens_N[found_M] == second_M)
        np.minimum.at(out_P, pair_M[meets_M], np.abs(steps_N[found_M] - visit_M)[meets_M])
    return out_P


def _directions(moves: np.ndarray) -> dict[str, float]:
    """Return the share of each kind of move, in a fixed order, without those that do not occur."""
    if not len(moves):
        return {}
    kinds = {(0,) * (moves.shape[1] - 2) + step: name for step, name in PLANE.items()}
    if moves.shape[1] == 3:
        kinds |= {(step, 0, 0): name for step, name in FRAMES.items()}
    counts = {name: int((moves == step).all(axis=1).sum()) for step, name in kinds.items()}
    counts["jump"] = len(moves) - sum(counts.values())
    return {name: count / len(moves) for name, count in counts.items() if count}


def _count(ids_L: np.ndarray, grid: Grid) -> np.ndarray:
    return np.bincount(ids_L[ids_L >= 0], minlength=math.prod(grid))


def _spread(counts: np.ndarray) -> tuple[int, float, int]:
    return int(counts.min()), float(counts.mean()), int(counts.max())


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
