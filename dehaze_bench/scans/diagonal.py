"""Scans along the two kinds of diagonals of a rectangle. Each function takes a grid and returns token ids (K, L)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.scans.grid import Grid, token_ids

CORNERS = ("left", "right")


def diagonal(
    grid: Grid, corners: Sequence[str] = CORNERS, reverse: bool = True, continuous: bool = False
) -> np.ndarray:
    """Diagonal by diagonal from the top left or top right corner, each with its reverse after it.

    As in EAMamba (arXiv 2506.22246), where the corner is "left" a diagonal runs from its upper right end to its lower
    left one, where it is "right" the other way round. If `continuous`, every second one is walked upwards, so that
    each step goes to one of the eight neighbours.
    """
    ids_HW = token_ids(grid, "diagonal", axes=2)
    for corner in corners:
        if corner not in CORNERS:
            raise UsageError(f"scan.order.corners of 'diagonal': unknown '{corner}'. {nearest(corner, CORNERS)}")
    if not corners:
        raise UsageError(f"scan.order.corners of 'diagonal' is empty: choose from {', '.join(CORNERS)}")
    routes = []
    for corner in corners:
        route = _diagonals(ids_HW if corner == "left" else ids_HW[:, ::-1], continuous)
        routes += [route, route[::-1]] if reverse else [route]
    return np.stack(routes)


def diagonal_cross(grid: Grid) -> np.ndarray:
    """Both diagonals, rows and columns, each with its reverse after it: eight routes (EAMamba, arXiv 2506.22246)."""
    ids_HW = token_ids(grid, "diagonal_cross", axes=2)
    rows, cols = ids_HW.reshape(-1), ids_HW.T.reshape(-1)
    return np.concatenate([diagonal(grid), np.stack([rows, rows[::-1], cols, cols[::-1]])])


def _diagonals(ids_HW: np.ndarray, continuous: bool) -> np.ndarray:
    """Return (L,): tokens by the sum of row and column; inside a diagonal downwards, or in turns."""
    height, width = ids_HW.shape
    sums = np.arange(height + width - 1)
    length = np.minimum(np.minimum(sums + 1, sums[::-1] + 1), min(height, width))
    start = np.cumsum(length) - length
    i_H1, j_1W = np.ogrid[:height, :width]
    number = i_H1 + j_1W
    step = i_H1 - np.maximum(number - width + 1, 0)
    if continuous:
        step = np.where(number % 2 == 0, length[number] - 1 - step, step)
    out = np.empty(ids_HW.size, dtype=np.int64)
    out[start[number] + step] = ids_HW
    return out
