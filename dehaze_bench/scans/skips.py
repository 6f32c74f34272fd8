"""Scans over part of the tokens: every second one, or a coarser grid. Each returns token ids (K, L)."""

from __future__ import annotations

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.grid import Grid, token_ids


def atrous(grid: Grid, step: int = 2) -> np.ndarray:
    """Every `step`-th token of every `step`-th row: step * step routes that share the grid (ES2D of EfficientVMamba).

    As published (arXiv 2403.09977) for step 2: from (0, 0) row by row, from (1, 0) column by column, from (0, 1) row
    by row, from (1, 1) column by column, without reverses. A larger step goes on like this: columns from odd rows.
    Where `step` does not divide the grid, padding (-1) on the right and at the bottom keeps the routes equally long.
    """
    ids_HW = token_ids(grid, "atrous", axes=2)
    if step < 1:
        raise UsageError(f"scan.order.step of 'atrous' is at least 1, not {step}")
    height, width = ids_HW.shape
    padded = np.pad(ids_HW, ((0, -height % step), (0, -width % step)), constant_values=-1)
    routes = []
    for left in range(step):
        for top in range(step):
            part = padded[top::step, left::step]
            routes.append((part.T if top % 2 else part).reshape(-1))
    return np.stack(routes)


def three_passes(grid: Grid) -> np.ndarray:
    """Raster backwards, columns, columns backwards, as one route that visits every token three times.

    What MSVMamba (NeurIPS 2024) walks over the half-resolution grid with one state, beside a raster at full
    resolution.
    """
    ids_HW = token_ids(grid, "three_passes", axes=2)
    rows, cols = ids_HW.reshape(-1), ids_HW.T.reshape(-1)
    return np.concatenate([rows[::-1], cols, cols[::-1]])[None]
