"""Scans along rows and columns of a grid. Each function takes a grid (H, W) and returns token ids (K, L)."""

from __future__ import annotations

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.scan import Grid


def raster(grid: Grid, copies: int = 1) -> np.ndarray:
    """Row by row from the top left: one route (`copies` of it: VMamba's unidirectional control has four)."""
    return np.repeat(_ids(grid).reshape(1, -1), copies, axis=0)


def bidirectional(grid: Grid, copies: int = 1) -> np.ndarray:
    """Raster forwards and backwards (Vim, arXiv 2401.09417, section 3.2); `copies` of each."""
    forward = _ids(grid).reshape(1, -1)
    return np.repeat(np.concatenate([forward, forward[:, ::-1]]), copies, axis=0)


def cross(grid: Grid) -> np.ndarray:
    """Rows, columns, and the reverses of both (VMamba, arXiv 2401.10166, section 4.2: cross-scan)."""
    ids = _ids(grid)
    if ids.ndim != 2:
        raise UsageError(f"Scan 'cross' walks over rows and columns and needs a grid of two axes, not {grid}")
    forward = np.stack([ids.reshape(-1), ids.T.reshape(-1)])
    return np.concatenate([forward, forward[:, ::-1]])


def random(grid: Grid, routes: int = 1, seed: int = 0) -> np.ndarray:
    """Visit tokens in an order drawn once per (seed, grid): the control row of a scan ablation."""
    if routes < 1 or seed < 0:
        raise UsageError(f"scan.order of 'random' needs routes >= 1 and seed >= 0, not {routes} and {seed}")
    rng = np.random.default_rng([seed, *grid])
    return np.stack([rng.permutation(int(np.prod(grid))) for _ in range(routes)])


def _ids(grid: Grid) -> np.ndarray:
    if not grid or min(grid) < 1:
        raise UsageError(f"A grid needs positive sizes, not {grid}")
    return np.arange(int(np.prod(grid)), dtype=np.int64).reshape(grid)
