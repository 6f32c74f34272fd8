"""A scan is a set of routes over a token grid; a route is the token ids in visiting order.

Shape legend: K routes, L steps of a route, T tokens of the grid (H*W or T*H*W), B batch, D channels.
Token ids are raster ids of the grid. An id of -1 in a route is padding: it reads zeros and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.scans.grid import Grid, Order, Walk, check_ids, invert

MERGES = ("sum", "mean", "concat", "scatter", "gate", "attention")
MODES = ("parallel", "alternate")
# What an order raises for a grid that it does not take: ours say so, a user's may just fail to unpack it.
REFUSALS = (UsageError, ValueError, IndexError)


@runtime_checkable
class DataOrder(Protocol):
    """An order that is found anew in every forward pass, from the tokens or from chance."""

    num_routes: int

    def draw(self, x_BTD: Tensor, grid: Grid) -> Tensor:
        """Return int64 ids (B, K, T) on the device of `x_BTD`; every route visits every token once."""


@dataclass(frozen=True, eq=False)
class Routes:
    """Routes of a scan that walk over the same grid.

    `index_KL[k, t]` is the token that route k visits at step t, with a batch axis in front where the order depends on
    the data. `grid` is what is walked over: the token grid itself (all strides 1), a coarser copy of it, or, with
    axis "channel", the channels. `inverse_KT[k, i]` is the (last) step at which route k visits token i, -1 if it
    does not; `repeats` says whether a route visits a token more than once, `pads` whether one has padding steps.
    """

    grid: Grid
    index_KL: Tensor
    inverse_KT: Tensor
    strides: tuple[int, ...]
    axis: str = "space"
    repeats: bool = False
    pads: bool = False

    @property
    def num_routes(self) -> int:
        return int(self.index_KL.shape[-2])

    @property
    def num_tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def is_permutation(self) -> bool:
        """Whether each route visits every token exactly once, so that no step is padding."""
        return not self.repeats and not self.pads and self.index_KL.shape == self.inverse_KT.shape

    @property
    def is_coarse(self) -> bool:
        return any(stride != 1 for stride in self.strides)

    def gather(self, x_BTD: Tensor) -> Tensor:
        """Return the tokens in visiting order, (B, K, L, D); padding steps are zero."""
        if self.index_KL.ndim == 3:
            return _take(x_BTD, self.index_KL)
        num_routes, length = self.index_KL.shape
        flat = self.index_KL.flatten()
        if self.is_permutation:
            out = x_BTD.index_select(1, flat)
        else:
            out = x_BTD.index_select(1, flat.clamp(min=0)) * (flat >= 0).to(x_BTD.dtype)[:, None]
        return out.unflatten(1, (num_routes, length))

    def scatter(self, y_BKLD: Tensor) -> Tensor:
        """Return route outputs at their tokens, (B, K, T, D).

        A token that a route skips gets zero there, one that it visits several times the sum of its visits.
        """
        if self.index_KL.ndim == 3:
            routes = zip(y_BKLD.unbind(1), self.inverse_KT.split(1, dim=1), strict=True)
            return torch.cat([_take(y_BLD, inverse_B1T) for y_BLD, inverse_B1T in routes], dim=1)
        start_K1 = torch.arange(self.num_routes, device=self.index_KL.device)[:, None]
        y = y_BKLD.flatten(1, 2)
        if self.repeats:
            # Padding steps land in a row of their own, which is cut off.
            rows = self.num_tokens + 1
            target = torch.where(self.index_KL < 0, self.num_tokens, self.index_KL) + start_K1 * rows
            out = y.new_zeros(y.shape[0], self.num_routes * rows, y.shape[2])
            out = out.index_add(1, target.flatten(), y)
            return out.unflatten(1, (self.num_routes, rows))[:, :, :-1]
        flat = (self.inverse_KT.clamp(min=0) + start_K1 * y_BKLD.shape[2]).flatten()
        out = y.index_select(1, flat)
        if not self.is_permutation:
            out = out * (self.inverse_KT.flatten() >= 0).to(out.dtype)[:, None]
        return out.unflatten(1, (self.num_routes, self.num_tokens))


@dataclass(frozen=True)
class Scan:
    """A named way to walk over any grid, and how the outputs of its routes become one.

    `order` is a function from a grid to int64 ids (K, L), or a sequence of `Walk`s for scans that also visit coarser
    grids or channels. `merge` says how route outputs become one:
    "sum", "mean" (over the routes that visit a token), "concat" (side by side, then a linear map),
    "scatter" (each token belongs to one route), "gate" (softmax over routes from their means; RSMamba, arXiv
    2403.19654) or "attention" (channel attention on every route, then the sum; LocalMamba, arXiv 2403.09338).
    `mode` is "parallel" (all routes in every block) or "alternate" (block i walks route i mod K alone).
    Raises `UsageError` for an unknown rule or mode.
    """

    name: str
    order: Order | DataOrder | Sequence[Walk]
    merge: str = "sum"
    mode: str = "parallel"

    def __post_init__(self) -> None:
        for key, value, known in (("merge rule", self.merge, MERGES), ("mode", self.mode, MODES)):
            if value not in known:
                raise UsageError(f"Scan '{self.name}': unknown {key} '{value}'. {nearest(value, known)}")
        if isinstance(self.order, list):  # a list in a YAML file
            object.__setattr__(self, "order", tuple(self.order))

    @property
    def walks(self) -> tuple[Walk, ...]:
        """The walks of the scan; most scans have one."""
        if isinstance(self.order, tuple):
            return self.order
        return (Walk(cast(Order, self.order)),)

    @property
    def axes(self) -> tuple[int, ...]:
        """The numbers of grid axes, of two and three, that the scan takes."""
        return _axes(self)

    @property
    def num_routes(self) -> int:
        """How many routes over space the scan has; the number does not depend on the grid."""
        return sum(_count_routes(self.name, walk) for walk in self.walks if walk.axis == "space")

    @property
    def is_static(self) -> bool:
        """Whether the order depends on nothing but the grid."""
        return not any(isinstance(walk.order, DataOrder) for walk in self.walks)

    def on(self, grid: Grid, device: torch.device | str = "cpu", channels: int | None = None) -> tuple[Routes, ...]:
        """Return the routes on `grid`, one object per walk, built once per (grid, device).

        `channels` is what a walk over channels walks over; None leaves such walks out. Raises `UsageError` for a grid
        that does not fit and for a scan whose order is found in the forward pass.
        """
        grid = tuple(int(n) for n in grid)
        if not self.is_static:
            raise UsageError(f"Scan '{self.name}' has no fixed order: it is found from the tokens of each picture")
        found = []
        for walk in self.walks:
            if walk.axis == "space":
                found.append(_routes(self.name, walk, grid, torch.device(device)))
            elif channels is not None:
                found.append(_routes(self.name, walk, (channels,), torch.device(device)))
        whole = any(routes.is_permutation and not routes.is_coarse and routes.axis == "space" for routes in found)
        if not whole or self.merge == "scatter":
            _check_cover(self, grid)
        return tuple(found)

    def through(self, x_BTD: Tensor, grid: Grid) -> tuple[Routes, ...]:
        """Return the routes over space for these tokens: as `on`, but orders that depend on the tokens are found."""
        if self.is_static:
            return self.on(grid, x_BTD.device)
        found = []
        for walk in self.walks:
            if walk.axis != "space":
                continue
            if isinstance(walk.order, DataOrder):
                index_BKL = walk.order.draw(x_BTD.detach(), grid)
                inverse_BKT = torch.empty_like(index_BKL)
                steps = torch.arange(index_BKL.shape[2], device=index_BKL.device).expand_as(index_BKL)
                inverse_BKT.scatter_(2, index_BKL, steps)
                found.append(Routes(tuple(grid), index_BKL, inverse_BKT, (1,) * len(grid)))
            else:
                found.append(_routes(self.name, walk, tuple(grid), x_BTD.device))
        return tuple(found)

    def for_block(self, block: int) -> Scan:
        """Return the scan of block number `block`: itself, or one of its routes in turn where `mode` is alternate."""
        if self.mode == "parallel":
            return self
        return _one_route(self, block % self.num_routes)


@lru_cache(maxsize=64)
def _ids(name: str, walk: Walk, coarse: Grid) -> np.ndarray:
    return check_ids(name, walk.order(coarse), coarse)


@lru_cache(maxsize=256)
def _routes(name: str, walk: Walk, grid: Grid, device: torch.device) -> Routes:
    coarse = walk.coarse(grid)
    ids = _ids(name, walk, coarse)
    inverse = invert(ids, math.prod(coarse))
    # Cached routes outlive the call: meta tensors would be useless for real ones, so `device` is part of the key, and
    # tensors made in inference mode cannot be saved for a later backward pass.
    with torch.inference_mode(False):
        return Routes(
            grid=coarse,
            index_KL=torch.from_numpy(ids).to(device),
            inverse_KT=torch.from_numpy(inverse).to(device),
            strides=walk.strides(grid),
            axis=walk.axis,
            repeats=bool((ids >= 0).sum() > (inverse >= 0).sum()),
            pads=bool((ids < 0).any()),
        )


@lru_cache(maxsize=256)
def _check_cover(scan: Scan, grid: Grid) -> None:
    """Raise `UsageError` unless the routes over space visit every token together, in total once for "scatter"."""
    walks = [walk for walk in scan.walks if walk.axis == "space"]
    full = [walk for walk in walks if set(walk.strides(grid)) == {1}]
    counts = np.zeros(math.prod(grid), np.int64)
    for walk in full:
        ids = _ids(scan.name, walk, grid)
        counts += np.bincount(ids[ids >= 0], minlength=counts.size)
    if not full and walks:
        return  # a coarse grid is spread over all tokens when it is enlarged
    if (counts == 0).any() and len(full) == len(walks):
        missed = int(np.flatnonzero(counts == 0)[0])
        raise UsageError(f"Scan '{scan.name}' visits token {missed} of grid {grid} on none of its routes")
    if scan.merge == "scatter" and (counts != 1).any():
        twice = int(np.flatnonzero(counts != 1)[0])
        raise UsageError(
            f"Scan '{scan.name}' merges by scatter but visits token {twice} of grid {grid} {counts[twice]} times: "
            "each token must belong to one route; use merge: sum"
        )


@lru_cache(maxsize=256)
def _count_routes(name: str, walk: Walk) -> int:
    if isinstance(walk.order, DataOrder):
        return walk.order.num_routes
    return len(_ids(name, walk, walk.coarse(_probe(walk))))


@lru_cache(maxsize=256)
def _axes(scan: Scan) -> tuple[int, ...]:
    found = []
    for axes in (2, 3):
        try:
            for walk in scan.walks:
                if walk.axis == "space" and not isinstance(walk.order, DataOrder):
                    walk.order(walk.coarse((4,) * axes))
        except REFUSALS:
            continue
        found.append(axes)
    return tuple(found)


def _probe(walk: Walk) -> Grid:
    """Return a small grid that the walk takes."""
    error: Exception | None = None
    for axes in (2, 3):
        grid = (4,) * axes
        try:
            walk.order(walk.coarse(grid))
        except REFUSALS as refused:
            error = error or refused
            continue
        return grid
    assert error is not None
    raise error


@lru_cache(maxsize=256)
def _one_route(scan: Scan, number: int) -> Scan:
    for walk in scan.walks:
        if walk.axis != "space":
            continue
        count = _count_routes(scan.name, walk)
        if number < count:
            if isinstance(walk.order, DataOrder):
                raise UsageError(f"Scan '{scan.name}' cannot alternate: its order is found in the forward pass")
            one = replace(walk, order=partial(_select, walk.order, number))
            return Scan(scan.name, (one,), "sum")
        number -= count
    raise UsageError(f"Scan '{scan.name}' has no routes over space to alternate between")


def _select(order: Order, number: int, grid: Grid) -> np.ndarray:
    return order(grid)[number : number + 1]


def _take(x_BTD: Tensor, index_BKL: Tensor) -> Tensor:
    """Return x at the tokens of an order per batch item, (B, K, L, D)."""
    batch, num_routes, length = index_BKL.shape
    flat = index_BKL.reshape(batch, num_routes * length, 1).expand(-1, -1, x_BTD.shape[-1])
    return x_BTD.gather(1, flat).unflatten(1, (num_routes, length))
