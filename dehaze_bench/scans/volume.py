"""Scans of volumes and videos, grids of three axes (frames or slices, rows, columns): token ids (K, L).

Shape legend: T, H, W grid, K routes, L steps of a route.
"""

from __future__ import annotations

import math

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.curves import zigzag
from dehaze_bench.scans.grid import Grid, token_ids
from dehaze_bench.scans.planar import bidirectional

# Whether nnMamba also reverses the channels of the tokens, for each of its four routes.
NNMAMBA_FLIPS = (False, True, False, True)


def spatial_first(grid: Grid) -> np.ndarray:
    """Frame by frame, inside a frame row by row, and the reverse (VideoMamba, arXiv 2403.06977, as released)."""
    token_ids(grid, "spatial_first", axes=3)
    return bidirectional(grid)


def temporal_first(grid: Grid, reverse: bool = True) -> np.ndarray:
    """Position by position, at each through all frames, and the reverse (VideoMamba's paper; not in its code)."""
    ids_THW = token_ids(grid, "temporal_first", axes=3)
    forward = _through(ids_THW, len(ids_THW))
    return np.stack([forward, forward[::-1]] if reverse else [forward])


def spatiotemporal(grid: Grid) -> np.ndarray:
    """Spatial-first and temporal-first, each there and back: four routes (VideoMamba's paper, version 2)."""
    return np.concatenate([spatial_first(grid), temporal_first(grid)])


def tri_orientation(grid: Grid, slices: int | None = None) -> np.ndarray:
    """Forwards, backwards and across slices (SegMamba, arXiv 2401.13560; Vivim, where the slices are frames).

    The third route cuts the raster sequence into `slices` equal pieces, by default one per slice of the volume, and
    visits place p of every piece before place p + 1. Where the pieces cannot be equal, the last ones are shorter.
    """
    ids_THW = token_ids(grid, "tri_orientation", axes=3)
    pieces = grid[0] if slices is None else slices
    if pieces < 1:
        raise UsageError(f"scan.order.slices of 'tri_orientation' is at least 1, not {pieces}; null is one per slice")
    return np.concatenate([bidirectional(grid), _through(ids_THW, pieces)[None]])


def mamba_nd(grid: Grid) -> np.ndarray:
    """Three orders of the axes, each there and back, to be taken in turn (Mamba-ND, arXiv 2402.05892, 3-D).

    From the outermost axis to the innermost: (t, h, w), (t, w, h), (w, h, t).
    """
    ids_THW = token_ids(grid, "mamba_nd_3d", axes=3)
    routes = []
    for axes in ((0, 1, 2), (0, 2, 1), (2, 1, 0)):
        route = ids_THW.transpose(axes).reshape(-1)
        routes += [route, route[::-1]]
    return np.stack(routes)


def zigma_video(grid: Grid, pattern: str = "sst") -> np.ndarray:
    """Layers over space and over time in turn (ZigMa, arXiv 2403.13802, zzvideo_sst and others).

    A spatial layer ("s") walks frame by frame over the next of the eight zigzag paths, a temporal one ("t") position
    by position through the frames, forwards and backwards in turn; the routes are one round of `pattern` repeated
    until both start anew. ZigMa restarts the state at each frame or position, one route here runs on. Its code undoes
    a forward temporal layer by the backward list, which reverses the frames: that is not copied.
    """
    ids_THW = token_ids(grid, "zigma_video", axes=3)
    if set(pattern) != {"s", "t"}:
        raise UsageError(f"scan.order.pattern of 'zigma_video' is made of s and t, as in sst, not '{pattern}'")
    frames_TP = ids_THW.reshape(grid[0], -1)
    spatial = [frames_TP[:, path].reshape(-1) for path in zigzag((grid[1], grid[2]))]
    temporal = [frames_TP.T.reshape(-1), frames_TP[::-1].T.reshape(-1)]
    num_s, num_t = pattern.count("s"), pattern.count("t")
    rounds = math.lcm(8 // math.gcd(8, num_s), 2 // math.gcd(2, num_t))
    routes, taken = [], {"s": 0, "t": 0}
    for kind in pattern * rounds:
        choices = spatial if kind == "s" else temporal
        routes.append(choices[taken[kind] % len(choices)])
        taken[kind] += 1
    return np.stack(routes)


def nnmamba(grid: Grid) -> np.ndarray:
    """Two routes forwards and two backwards (nnMamba, ISBI 2025): see `NNMAMBA_FLIPS` for what happens to channels."""
    token_ids(grid, "nnmamba", axes=3)
    return bidirectional(grid, copies=2)


def _through(ids_THW: np.ndarray, pieces: int) -> np.ndarray:
    """Return (L,): the raster sequence in equal pieces, one place of all pieces after the other."""
    padded = np.pad(ids_THW.reshape(-1), (0, -ids_THW.size % pieces), constant_values=-1)
    route = padded.reshape(pieces, -1).T.reshape(-1)
    return route[route >= 0]
