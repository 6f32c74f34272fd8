"""Scans along rows and columns of a grid. Each function takes a grid and returns token ids (K, L)."""

from __future__ import annotations

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.grid import Grid, token_ids


def raster(grid: Grid, copies: int = 1) -> np.ndarray:
    """Row by row from the top left: one route (`copies` of it: VMamba's unidirectional control has four)."""
    return np.repeat(token_ids(grid).reshape(1, -1), copies, axis=0)


def columns(grid: Grid) -> np.ndarray:
    """Column by column from the top left: one route."""
    return token_ids(grid, "columns", axes=2).T.reshape(1, -1)


def bidirectional(grid: Grid, copies: int = 1) -> np.ndarray:
    """Raster forwards and backwards (Vim, arXiv 2401.09417, section 3.2); `copies` of each."""
    forward = token_ids(grid).reshape(1, -1)
    return np.repeat(np.concatenate([forward, forward[:, ::-1]]), copies, axis=0)


def cross(grid: Grid) -> np.ndarray:
    """Rows, columns, and the reverses of both (VMamba, arXiv 2401.10166, section 4.2: cross-scan)."""
    ids = token_ids(grid, "cross", axes=2)
    forward = np.stack([ids.reshape(-1), ids.T.reshape(-1)])
    return np.concatenate([forward, forward[:, ::-1]])


def mamba_nd(grid: Grid) -> np.ndarray:
    """Rows there and back, columns there and back, to be taken in turn (Mamba-ND, arXiv 2402.05892)."""
    ids = token_ids(grid, "mamba_nd", axes=2)
    rows, cols = ids.reshape(-1), ids.T.reshape(-1)
    return np.stack([rows, rows[::-1], cols, cols[::-1]])


def random(grid: Grid, routes: int = 1, seed: int = 0) -> np.ndarray:
    """Visit tokens in an order drawn once per (seed, grid): the control row of a scan ablation."""
    if routes < 1 or seed < 0:
        raise UsageError(f"scan.order of 'random' needs routes >= 1 and seed >= 0, not {routes} and {seed}")
    rng = np.random.default_rng([seed, *grid])
    return np.stack([rng.permutation(token_ids(grid).size) for _ in range(routes)])


def multipath(grid: Grid, seed: int = 0) -> np.ndarray:
    """Forwards, backwards, and shuffled once per (seed, grid) (RSMamba, arXiv 2403.19654).

    RSMamba itself shuffles anew in every forward pass: see `dynamic.Shuffle`.
    """
    return np.concatenate([bidirectional(grid), random(grid, seed=seed)])
