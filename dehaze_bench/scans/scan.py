"""A scan is a set of routes over a token grid; a route is the token ids in visiting order.

Shape legend: K routes, L steps of a route, T tokens of the grid (H*W or T*H*W), B batch, D channels.
Token ids are raster ids of the grid. An id of -1 in a route is padding: it reads zeros and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest

Grid = tuple[int, ...]
Order = Callable[[Grid], np.ndarray]
MERGES = ("sum", "mean", "concat")


@dataclass(frozen=True, eq=False)
class Routes:
    """The routes of one scan on one grid.

    `index_KL[k, t]` is the token that route k visits at step t; `inverse_KT[k, i]` is the step at which it
    visits token i (-1 if it does not). `scale` and `axis` say, per route, on which down-sampled grid it walks
    (1 = the grid itself) and over what ("space" or "channel").
    """

    grid: Grid
    index_KL: Tensor
    inverse_KT: Tensor
    scale: tuple[int, ...]
    axis: tuple[str, ...]

    @property
    def num_routes(self) -> int:
        return int(self.index_KL.shape[0])

    @property
    def is_permutation(self) -> bool:
        """Whether each route visits every token exactly once, so that no step is padding."""
        return self.index_KL.shape == self.inverse_KT.shape

    def gather(self, x_BTD: Tensor) -> Tensor:
        """Return the tokens in visiting order, (B, K, L, D); padding steps are zero."""
        num_routes, length = self.index_KL.shape
        flat = self.index_KL.flatten()
        if self.is_permutation:
            out = x_BTD.index_select(1, flat)
        else:
            out = x_BTD.index_select(1, flat.clamp(min=0)) * (flat >= 0).to(x_BTD.dtype)[:, None]
        return out.unflatten(1, (num_routes, length))

    def scatter(self, y_BKLD: Tensor) -> Tensor:
        """Return route outputs at their tokens, (B, K, T, D); a token that a route skips gets zero there."""
        num_routes, num_tokens = self.inverse_KT.shape
        start_K1 = torch.arange(num_routes, device=self.inverse_KT.device)[:, None] * y_BKLD.shape[2]
        flat = (self.inverse_KT.clamp(min=0) + start_K1).flatten()
        out = y_BKLD.flatten(1, 2).index_select(1, flat)
        if not self.is_permutation:
            out = out * (self.inverse_KT.flatten() >= 0).to(out.dtype)[:, None]
        return out.unflatten(1, (num_routes, num_tokens))


@dataclass(frozen=True)
class Scan:
    """A named way to walk over any grid, and how the outputs of its routes become one.

    `order(grid)` returns int64 ids (K, L). `merge` is "sum", "mean" or "concat" (channels of all routes side by
    side). Raises `UsageError` for an unknown merge rule.
    """

    name: str
    order: Order
    merge: str = "sum"

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            hint = nearest(self.merge, MERGES)
            raise UsageError(f"Scan '{self.name}': unknown merge rule '{self.merge}'. {hint}")

    def on(self, grid: Grid, device: torch.device | str = "cpu") -> Routes:
        """Return the routes on `grid`, built once per (grid, device)."""
        return _routes(self.name, self.order, tuple(int(n) for n in grid), torch.device(device))

    def combine(self, y_BKTD: Tensor) -> Tensor:
        """Merge route outputs: (B, T, D) for sum and mean, (B, T, K*D) for concat."""
        if self.merge == "sum":
            return y_BKTD.sum(1)
        if self.merge == "mean":
            return y_BKTD.mean(1)
        return y_BKTD.transpose(1, 2).flatten(2)


@lru_cache(maxsize=256)
def _routes(name: str, order: Order, grid: Grid, device: torch.device) -> Routes:
    ids = np.ascontiguousarray(order(grid), dtype=np.int64)
    num_tokens = int(np.prod(grid))
    if ids.ndim != 2 or ids.size == 0 or ids.min() < -1 or ids.max() >= num_tokens:
        raise UsageError(f"Scan '{name}' gave routes of shape {ids.shape} that do not fit a grid of {grid}")
    inverse = invert(ids, num_tokens)
    if (inverse < 0).all(axis=0).any():
        missed = int(np.flatnonzero((inverse < 0).all(axis=0))[0])
        raise UsageError(f"Scan '{name}' visits token {missed} of grid {grid} on none of its routes")
    # Meta tensors would make the cached routes useless for real ones, so `device` is part of the key.
    return Routes(
        grid=grid,
        index_KL=torch.from_numpy(ids).to(device),
        inverse_KT=torch.from_numpy(inverse).to(device),
        scale=(1,) * len(ids),
        axis=("space",) * len(ids),
    )


def invert(index_KL: np.ndarray, num_tokens: int) -> np.ndarray:
    """Return (K, T): the step at which each route visits each token, -1 where it does not."""
    out = np.full((len(index_KL), num_tokens), -1, dtype=np.int64)
    for inverse, route in zip(out, index_KL, strict=True):
        steps = np.flatnonzero(route >= 0)
        inverse[route[steps]] = steps
    return out
