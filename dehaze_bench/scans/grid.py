"""Grids, orders and walks: what a scan is made of, in NumPy alone, so that scans can be listed without torch.

Shape legend: K routes, L steps of a route, T tokens of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dehaze_bench.errors import UsageError

Grid = tuple[int, ...]
Order = Callable[[Grid], np.ndarray]
AXES = {1: "one axis", 2: "two axes (rows, columns)", 3: "three axes (frames, rows, columns)"}


def token_ids(grid: Grid, name: str = "", axes: int | None = None) -> np.ndarray:
    """Return the raster ids of a grid in its own shape, int64; raises `UsageError` naming the scan.

    `axes` is the number of axes that the scan `name` needs, None where it takes any.
    """
    if not grid or min(grid) < 1:
        raise UsageError(f"A grid needs positive sizes, not {grid}")
    if axes is not None and len(grid) != axes:
        raise UsageError(f"Scan '{name}' needs a grid of {AXES[axes]}, not {grid}")
    return np.arange(math.prod(grid), dtype=np.int64).reshape(grid)


@dataclass(frozen=True)
class Walk:
    """Routes over one grid: the tokens themselves, a coarser copy of them, or the channels.

    `order(grid)` returns int64 ids (K, L) in visiting order; -1 is a padding step. A route may skip tokens or visit
    one several times. `scale` is the stride of the coarser grid, one number or one per axis: (H, W) becomes
    (ceil(H / s), ceil(W / s)). `axis="channel"` walks over the channels of the layer instead, a grid of one axis.
    """

    order: Order
    scale: int | tuple[int, ...] = 1
    axis: str = "space"

    def __post_init__(self) -> None:
        if self.axis not in ("space", "channel"):
            raise UsageError(f"A walk goes over 'space' or 'channel', not '{self.axis}'")
        if isinstance(self.scale, list):  # a list in a YAML file
            object.__setattr__(self, "scale", tuple(self.scale))
        strides = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        if min(strides) < 1:
            raise UsageError(f"A walk's scale must be at least 1, not {self.scale}")

    def strides(self, grid: Grid) -> tuple[int, ...]:
        """Return the stride along each axis of `grid`."""
        strides = self.scale if isinstance(self.scale, tuple) else (self.scale,) * len(grid)
        if len(strides) != len(grid):
            raise UsageError(f"A walk with scale {self.scale} needs a grid of {len(strides)} axes, not {grid}")
        return strides

    def coarse(self, grid: Grid) -> Grid:
        """Return the grid that is walked over."""
        return tuple(math.ceil(n / s) for n, s in zip(grid, self.strides(grid), strict=True))


def check_ids(name: str, ids: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the ids as contiguous int64 (K, L); raises `UsageError` where they are no routes over `grid`."""
    ids = np.ascontiguousarray(ids, dtype=np.int64)
    if ids.ndim != 2 or ids.size == 0 or ids.min() < -1 or ids.max() >= math.prod(grid):
        raise UsageError(f"Scan '{name}' gave routes of shape {ids.shape} that do not fit a grid of {grid}")
    return ids


def invert(index_KL: np.ndarray, num_tokens: int) -> np.ndarray:
    """Return (K, T): the last step at which each route visits each token, -1 where it does not."""
    out = np.full((len(index_KL), num_tokens), -1, dtype=np.int64)
    for inverse, route in zip(out, index_KL, strict=True):
        steps = np.flatnonzero(route >= 0)
        inverse[route[steps]] = steps
    return out
