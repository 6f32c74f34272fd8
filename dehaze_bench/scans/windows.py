"""LocalMamba's scans (arXiv 2403.09338): rows, columns and windows, each forwards or backwards."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.grid import Grid, token_ids

# The eight that LocalMamba searches over.
CANDIDATES = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")


def local(grid: Grid, directions: Sequence[str] = CANDIDATES) -> np.ndarray:
    """One route per direction: "h" rows, "v" columns, "w2" or any "wK" windows of K x K, "_flip" for the reverse.

    Windows are walked row by row, inside as well as from one to the next. Where they do not divide the grid it is
    padded on the right and at the bottom, which makes padding steps (-1) inside the route. Routes of different
    lengths are padded at the end, as in LocalVMamba. Raises `UsageError` for another direction.
    """
    ids_HW = token_ids(grid, "local", axes=2)
    if not directions:
        raise UsageError(f"scan.order.directions of 'local' is empty: choose from {', '.join(CANDIDATES)}")
    routes = [_direction(ids_HW, str(name)) for name in directions]
    out = np.full((len(routes), max(route.size for route in routes)), -1, dtype=np.int64)
    for padded, route in zip(out, routes, strict=True):
        padded[: route.size] = route
    return out


def _direction(ids_HW: np.ndarray, name: str) -> np.ndarray:
    found = re.fullmatch(r"(h|v|w([1-9]\d*))(_flip)?", name)
    if found is None:
        raise UsageError(
            f"scan.order.directions of 'local': unknown '{name}'. Choices: h, v, and wK for windows of K x K tokens "
            "(w2, w7), each also with _flip."
        )
    if found[2]:
        route = _windows(ids_HW, int(found[2]))
    else:
        route = (ids_HW if found[1] == "h" else ids_HW.T).reshape(-1)
    return route[::-1] if found[3] else route


def _windows(ids_HW: np.ndarray, size: int) -> np.ndarray:
    height, width = ids_HW.shape
    padded = np.pad(ids_HW, ((0, -height % size), (0, -width % size)), constant_values=-1)
    blocks = padded.reshape(padded.shape[0] // size, size, padded.shape[1] // size, size)
    return blocks.transpose(0, 2, 1, 3).reshape(-1)
